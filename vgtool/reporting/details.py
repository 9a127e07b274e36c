"""What one sample of the page holds beside its maps: question, prompt, reference, answers of every run, metrics."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from vgtool.reporting.album import Album
from vgtool.reporting.inputs import SHAPE, Family, Source
from vgtool.reporting.maps import Place, number
from vgtool.reporting.pack import Pack
from vgtool.reporting.rows import heavy_rows
from vgtool.reporting.steps import Steps
from vgtool.scoring.runs import METRICS

LETTER = {"right": "r", "wrong": "w", "undecided": "u", "unfinished": "n", "failed": "f"}
"""Outcomes in the index."""
SHARED = ("sample_id", "image_id", "group", "error", *SHAPE)
TOLD = {"reliance": "reliance", "random": "reliance_random", "sufficiency": "sufficiency", "iou": "box_iou"}
CURVES = {"curve": "reliance_curve", "random_curve": "reliance_random_curve"}
TEXTS = {"outcome": "box_outcome", "unmeasured": "unmeasured"}
"""What a probe asked beside attention: names on the page and columns of numbers, lists of them, and texts."""
WITNESS = (*TOLD.values(), *CURVES.values(), *TEXTS.values(), "box_said", "box_answer")
OWN = {"probe": (*METRICS, *WITNESS), "refine": ("method", "answer", "reference", "choices", "confidence", "outcome")}
"""Columns that are read of a run."""
WORDS = 200
"""Characters of an unreadable answer that are shown."""
TOGETHER = 5000
"""Samples whose rows are held as objects at once."""
Row = Mapping[str, Any]


def details(
    family: Family,
    maps: Sequence[Mapping[str, Place]],
    masks: Sequence[Mapping[tuple[str, str], Place]],
    head: Mapping[str, Any],
    album: Album | None,
    pack: Pack,
    steps: Steps,
) -> Iterator[dict[str, Any]]:
    """Each sample of a family once: what the index needs of it, and its details as `bytes`."""
    runs = [*family.probes, *family.refines]
    prompts = _prompts(runs)
    ids = list(dict.fromkeys(name for one in runs for name in one.run.rows["sample_id"]))
    for at in range(0, len(ids), TOGETHER):
        yield from _some(ids[at : at + TOGETHER], family, maps, masks, head, album, pack, steps, prompts)


def _some(
    ids: Sequence[str],
    family: Family,
    maps: Sequence[Mapping[str, Place]],
    masks: Sequence[Mapping[tuple[str, str], Place]],
    head: Mapping[str, Any],
    album: Album | None,
    pack: Pack,
    steps: Steps,
    prompts: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """Some samples of a family."""
    probed = [{row["sample_id"]: row for row in _rows(one, ids)} for one in family.probes]
    answered = [_answers(one, ids) for one in family.refines]
    shown = {name: _first(name, probed, answered) for name in ids}
    pictures = {} if album is None else album.add(shown.values(), pack, steps)
    for name, row in shown.items():
        answers, outcomes = _told(name, family, answered, masks, len(head["methods"]))
        looked = _looked(name, family, probed, maps)
        detail = {
            "question": row["question"] or "",
            "prompt": prompts.get(name),
            "reference": row.get("reference"),
            "choices": row.get("choices"),
            "width": row.get("width"),
            "height": row.get("height"),
            "boxes": row.get("boxes") or [],
            "error": row["error"],
            "answers": answers,
            "probes": looked,
            "picture": pictures.get(name),
        }
        ratios = (one["metrics"]["ratio"][layer] for one, layer in zip(looked, head["layers"], strict=True)
                  if one["metrics"] and one["metrics"].get("ratio"))  # fmt: skip
        yield {
            "id": name,
            "image": row["image_id"] or "",
            "group": row["group"] or "",
            "type": row["question_type"] or "",
            "question": detail["question"],
            "outcomes": outcomes,
            "error": row["error"] or set(outcomes) == {"f"},
            "said": " ".join([row.get("reference") or "", *(one["answer"] or "" for one in answers)]),
            "ratio": _known(ratios),
            "confidence": _known(one["confidence"] for one in answers),
            "bytes": json.dumps(detail, allow_nan=False, separators=(",", ":")).encode(),
        }


def _known(values: Iterable[float | None]) -> float | None:
    """The first that there is."""
    return next((value for value in values if value is not None), None)


def _rows(one: Source, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    wanted = [name for name in (*SHARED, *OWN[one.run.kind]) if name in one.run.rows.columns]
    return one.run.rows.select(wanted).filter(pl.col("sample_id").is_in(ids)).iter_rows(named=True)


def _answers(one: Source, ids: Sequence[str]) -> dict[str, dict[str, Row]]:
    """Sample -> method -> its row."""
    found: dict[str, dict[str, Row]] = {}
    for row in _rows(one, ids):
        found.setdefault(row["sample_id"], {})[row["method"]] = row
    return found


def _prompts(runs: Sequence[Source]) -> dict[str, str]:
    """Sample -> the prompt as it was sent; older runs did not keep it."""
    found: dict[str, str] = {}
    for one in runs:
        for row in heavy_rows(one.run.path, ("sample_id", "prompt"), whole=True):
            if row["prompt"]:
                found.setdefault(row["sample_id"], row["prompt"])
    return found


def _first(name: str, probed: Sequence[Mapping[str, Row]], answered: Sequence[Mapping[str, Mapping[str, Row]]]) -> Row:
    """The shared columns of a sample: a whole row where there is one, and the probe's error where there is none."""
    rows = [rows[name] for rows in probed if name in rows]
    rows += [row for answers in answered for row in answers.get(name, {}).values()]
    best = next((row for row in rows if row["error"] is None), rows[0])
    scored: Row = next((row for row in rows if row.get("reference") is not None), {})
    return {**best, **{key: scored.get(key) for key in ("reference", "choices")}, "sample_id": name}


def _told(
    name: str,
    family: Family,
    answered: Sequence[Mapping[str, Mapping[str, Row]]],
    masks: Sequence[Mapping[tuple[str, str], Place]],
    methods: int,
) -> tuple[list[dict[str, Any]], str]:
    """What every method of every run answered, and a letter of the outcome for each method, `-` where it has none."""
    answers, outcomes, start = [], ["-"] * methods, 0
    for one, rows, mask in zip(family.refines, answered, masks, strict=True):
        for method, answer in rows.get(name, {}).items():
            if method not in one.methods:
                continue
            at = start + one.methods.index(method)
            outcomes[at] = LETTER[answer["outcome"]]
            cells = mask.get((name, method))
            answers.append(
                {
                    "method": at,
                    "answer": answer["answer"],
                    "confidence": number(answer.get("confidence")),
                    "error": answer["error"],
                    "mask": None if cells is None else cells | {"box": answer.get("grid_box")},
                }
            )
        start += len(one.methods)
    return answers, "".join(outcomes)


def _looked(
    name: str, family: Family, probed: Sequence[Mapping[str, Row]], maps: Sequence[Mapping[str, Place]]
) -> list[dict[str, Any]]:
    """Metrics by layer, the place of the maps, and what was asked beside attention, of every probe run."""
    found = []
    for one, rows, places in zip(family.probes, probed, maps, strict=True):
        mine, place = rows.get(name, {}), places.get(name)
        metrics = {m.removeprefix("layer_"): [number(v) for v in mine[m]] for m in METRICS if mine.get(m)}
        looks = {"metrics": metrics or None, "map": place and place | {"box": mine.get("grid_box")}}
        found.append(looks | ({"witness": told} if (told := _witness(mine, one.run.identity)) else {}))
    return found


def _witness(row: Row, identity: Row) -> dict[str, Any]:
    """What the row of a probe holds beside attention, under the page's names; what it lacks is left out. Boxes are in
    pixels of the stored image."""
    told: dict[str, Any] = {key: number(row[c]) for key, c in TOLD.items() if row.get(c) is not None}
    told |= {key: row[c] for key, c in TEXTS.items() if row.get(c) is not None}
    curves = {key: [number(v) for v in row[c]] for key, c in CURVES.items() if row.get(c)}
    if curves:
        settings = identity["reliance"]
        told |= curves | {"windows": [[at, at + settings["window"] - 1] for at in settings["starts"]]}
    if row.get("box_said"):
        told["said"] = [[round(v, 1) for v in box] for box in row["box_said"]]
    if told.get("outcome") == "unreadable":
        told["words"] = (row.get("box_answer") or "")[:WORDS]
    return told
