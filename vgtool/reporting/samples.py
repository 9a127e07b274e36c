"""What the sample browser shows: an index of every sample for its filters, and details, maps, masks and pictures in
chunks that are read when a sample is opened.

Maps are streamed from the parts a few rows at a time and kept as bytes: each layer of each map is scaled by its own
greatest value, which is kept beside it. Pictures are included only when asked for.
"""

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from PIL import Image

from vgtool.errors import SampleError, VgError
from vgtool.grounding.metrics import relative_attention
from vgtool.reporting.figures import best_layer, stacked
from vgtool.reporting.inputs import Family, Source, without_folders
from vgtool.reporting.pack import Pack
from vgtool.runs.store import Store
from vgtool.scoring.runs import METRICS

BATCH = 32
TOGETHER = 5000
"""Samples whose rows are held as objects at once."""
LONGEST = 1024
"""Pixels of an included picture's longest side; larger ones are scaled down."""
QUESTION = 160
"""Characters of a question in the index; the details hold all of it."""
CAP = 100.0
"""Times the general prompt's attention from which a token is drawn alike: against a vanishing general map the quotient
has no bound, and one such token would leave all others clear."""
FOUND = 400
"""Characters of reference and answers in the index, for the search."""
LETTER = {"right": "r", "wrong": "w", "undecided": "u", "unfinished": "n", "failed": "f"}
Place = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where to find the benchmarks' images again."""

    data_root: Path | None = None
    registry: Path | None = None


def index(families: Sequence[Family], pack: Pack, pictures: Pictures | None) -> dict[str, Any]:
    """The index of all samples; everything else of them goes into `pack`."""
    groups: dict[str, int] = {}
    types: dict[str, int] = {}
    items: list[list[Any]] = []
    heads = []
    albums: dict[tuple[str, ...], Album] = {}
    for number, family in enumerate(families):
        heat = [_heat(one, pack) for one in family.probes]
        masks = [_masks(one, pack) for one in family.refines]
        album = None
        if pictures is not None:
            first = [*family.probes, *family.refines][0]
            key = (first.benchmark, *family.key[3:])
            album = albums[key] if key in albums else Album(first, pictures)
            albums[key] = album
        heads.append(_head(family))
        for sample in _samples(family, heat, masks, heads[-1], album, pack):
            common = (number, sample["id"], sample["image"], groups.setdefault(sample["group"], len(groups)))
            kind, asked = types.setdefault(sample["type"], len(types)), sample["question"][:QUESTION]
            failed = int(bool(sample["error"]))
            at = pack.add(sample["bytes"])
            place = (*at, len(sample["bytes"]))
            items.append([*common, kind, asked, sample["outcomes"], failed, *place, *sample["sorts"]])
        pack.cut()
    return {
        "families": heads,
        "groups": list(groups),
        "types": list(types),
        "items": items,
        "images": pictures is not None,
        "colours": colours(),
        "cap": CAP,
    }


def colours() -> list[str]:
    """64 steps of a colour map that grows lighter evenly and is told apart by colour-blind readers."""
    from matplotlib import colormaps

    return ["".join(f"{round(255 * c):02x}" for c in colormaps["inferno"](i / 63)[:3]) for i in range(64)]


def _head(family: Family) -> dict[str, Any]:
    """What the samples of a family share. A method's `base` is the place of its own run's baseline, -1 for none;
    `layers`: where each probe run's slider starts, its layer of lowest mean KL."""
    methods: list[str] = []
    base: list[int] = []
    for one in family.refines:
        start = len(methods)
        several = len(family.refines) > 1
        methods += [f"{m} ({one.apart})" if several else m for m in one.methods]
        own = start + one.methods.index("baseline") if "baseline" in one.methods else -1
        base += [own if start + i != own else -1 for i in range(len(one.methods))]
    names = ("model", "revision", "benchmark", "split", "protocol")
    probes = [one.name if len(family.probes) > 1 else "probe" for one in family.probes]
    runs = [*family.probes, *family.refines]
    return dict(zip(names, family.key, strict=True)) | {
        "name": runs[0].name,
        "methods": methods,
        "base": base,
        "probes": probes,
        "layers": [
            best_layer(stacked(one.measured, "layer_kl")) if one.measured.height else 0 for one in family.probes
        ],
    }


# ---- details -----------------------------------------------------------------------------------------------------


def _samples(
    family: Family,
    heat: Sequence[Mapping[str, Place]],
    masks: Sequence[Mapping[tuple[str, str], Place]],
    head: Mapping[str, Any],
    album: "Album | None",
    pack: Pack,
) -> Iterator[dict[str, Any]]:
    """Each sample of a family once, its details as bytes, with the probe rows and answers of every run."""
    runs = [one.run.rows for one in (*family.probes, *family.refines)]
    ids = list(dict.fromkeys(name for rows in runs for name in rows["sample_id"]))
    for at in range(0, len(ids), TOGETHER):
        yield from _some(ids[at : at + TOGETHER], family, heat, masks, head, album, pack)


def _some(
    ids: Sequence[str],
    family: Family,
    heat: Sequence[Mapping[str, Place]],
    masks: Sequence[Mapping[tuple[str, str], Place]],
    head: Mapping[str, Any],
    album: "Album | None",
    pack: Pack,
) -> Iterator[dict[str, Any]]:
    """Some samples of a family."""
    wanted = pl.col("sample_id").is_in(ids)
    probed = [
        {row["sample_id"]: row for row in one.run.rows.filter(wanted).iter_rows(named=True)} for one in family.probes
    ]
    answered = [_answers(one.run.rows.filter(wanted)) for one in family.refines]
    shown = {name: _first(name, probed, answered) for name in ids}
    found = {} if album is None else album.add(shown.values(), pack)
    for name, row in shown.items():
        answers, outcomes = _told(name, family, answered, masks, len(head["methods"]))
        maps = []
        for rows, places in zip(probed, heat, strict=True):
            mine, place = rows.get(name, {}), places.get(name)
            metrics = {m.removeprefix("layer_"): [_number(v) for v in mine[m]] for m in METRICS if mine.get(m)}
            maps.append({"metrics": metrics or None, "map": place and place | {"box": mine.get("grid_box")}})
        detail = {
            "question": row["question"] or "",
            "reference": row.get("reference"),
            "choices": row.get("choices"),
            "width": row.get("width"),
            "height": row.get("height"),
            "boxes": row.get("boxes") or [],
            "error": row["error"],
            "answers": answers,
            "probes": maps,
            "picture": found.get(name),
        }
        said = " ".join([row.get("reference") or "", *(one["answer"] or "" for one in answers)])
        ratios = [m["metrics"]["ratio"][layer] for m, layer in zip(maps, head["layers"], strict=True)
                  if m["metrics"] and m["metrics"].get("ratio")]  # fmt: skip
        confidences = [one["confidence"] for one in answers]
        yield {
            "sorts": (said[:FOUND], *(next(iter(known), None) for known in (ratios, confidences))),
            "id": name,
            "image": row["image_id"] or "",
            "group": row["group"] or "",
            "type": row["question_type"] or "",
            "question": detail["question"],
            "outcomes": "".join(outcomes),
            "error": row["error"] or set(outcomes) == {"f"},
            "bytes": json.dumps(detail, allow_nan=False, separators=(",", ":")).encode(),
        }


def _told(
    name: str,
    family: Family,
    answered: Sequence[Mapping[str, Mapping[str, Mapping[str, Any]]]],
    masks: Sequence[Mapping[tuple[str, str], Place]],
    methods: int,
) -> tuple[list[dict[str, Any]], list[str]]:
    """A sample's answers, and a letter for each method's outcome."""
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
                    "confidence": _number(answer.get("confidence")),
                    "error": answer["error"],
                    "mask": None if cells is None else cells | {"box": answer.get("grid_box")},
                }
            )
        start += len(one.methods)
    return answers, outcomes


def _answers(rows: pl.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault(row["sample_id"], {})[row["method"]] = row
    return found


def _first(name: str, probed: Sequence[Mapping[str, Any]], answered: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The shared columns of a sample: a whole row where there is one, and the probe's error where there is none."""
    rows = [rows[name] for rows in probed if name in rows]
    rows += [row for answers in answered for row in answers.get(name, {}).values()]
    best = next((row for row in rows if row["error"] is None), rows[0])
    scored: Mapping[str, Any] = next((row for row in rows if row.get("reference") is not None), {})
    return best | {key: scored.get(key) for key in ("reference", "choices")} | {"sample_id": name}


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


# ---- maps and masks ----------------------------------------------------------------------------------------------


def heavy_rows(one: Source, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The heavy columns that the parts of a run have, row by row, lists as arrays."""
    if not one.run.path.is_dir():
        return
    for file in _opened(one.run.path):
        with file:
            names = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(BATCH, columns=names):
                columns = {name: batch.column(name) for name in names}
                for at in range(batch.num_rows):
                    row = {name: column[at] for name, column in columns.items()}
                    yield {
                        n: v.values.to_numpy(zero_copy_only=False) if hasattr(v, "values") and v.is_valid else v.as_py()
                        for n, v in row.items()
                    }


def _opened(run: Path) -> Iterator[pq.ParquetFile]:
    """The whole parts of a run. One that is merged into a larger one meanwhile comes again in that one."""
    seen = set[str]()
    while left := [part for part in Store(run).parts()[0] if part.name not in seen]:
        for part in left:
            try:
                file = pq.ParquetFile(part)
            except FileNotFoundError:
                break
            seen.add(part.name)
            yield file


def _heat(one: Source, pack: Pack) -> dict[str, Place]:
    """Sample -> where its maps are: relative attention, then the question's own, [L, T] bytes each."""
    found: dict[str, Place] = {}
    for row in heavy_rows(one, ["sample_id", "grid_rows", "grid_cols", "attention", "general_attention"]):
        question, general = row.get("attention"), row.get("general_attention")
        tokens = (row.get("grid_rows") or 0) * (row.get("grid_cols") or 0)
        if question is None or general is None or row["sample_id"] in found:
            continue
        if not tokens or question.size != general.size or question.size % tokens:
            continue
        above, below = question.reshape(-1, tokens), general.reshape(-1, tokens)
        quotient = relative_attention(above, below)
        capped = (quotient > CAP).sum(-1)
        relative, relative_top = levels(np.minimum(quotient, CAP))
        own, own_top = levels(above)
        found[row["sample_id"]] = {
            "at": pack.add(relative.tobytes() + own.tobytes()),
            "layers": len(above),
            "rows": row["grid_rows"],
            "cols": row["grid_cols"],
            "tops": [relative_top, own_top],
            "capped": capped.tolist() if capped.any() else None,
        }
    pack.cut()
    return found


def levels(values: np.ndarray) -> tuple[np.ndarray, list[float | None]]:
    """Each row as bytes, 255 at its greatest finite value, and these values. None: nothing finite above 0."""
    known = np.isfinite(values)
    filled = np.where(known, np.maximum(values, 0), 0)
    top = filled.max(-1, keepdims=True)
    scaled = np.divide(255 * filled, top, out=np.zeros_like(filled), where=top > 0)
    infinite = np.isposinf(values)
    return np.where(infinite, 255, np.rint(scaled)).astype(np.uint8), [_number(t) if t > 0 else None for t in top[:, 0]]


def _masks(one: Source, pack: Pack) -> dict[tuple[str, str], Place]:
    """(sample, method) -> where its kept tokens (bytes 0 or 1) and its triage map are, [T] each."""
    found: dict[tuple[str, str], Place] = {}
    for row in heavy_rows(one, ["sample_id", "method", "grid_rows", "grid_cols", "kept", "triage"]):
        kept, triage = row.get("kept"), row.get("triage")
        tokens = (row.get("grid_rows") or 0) * (row.get("grid_cols") or 0)
        key = (row["sample_id"], row["method"])
        if not tokens or key in found or (kept is None and triage is None):
            continue
        place: Place = {"rows": row["grid_rows"], "cols": row["grid_cols"], "kept": None, "triage": None, "count": 0}
        if kept is not None:
            visible = np.zeros(tokens, np.uint8)
            visible[kept[kept < tokens].astype(np.int64)] = 1  # tokens of further images are not on this picture
            place |= {"kept": pack.add(visible.tobytes()), "count": int(visible.sum())}
        if triage is not None and triage.size >= tokens:
            values, tops = levels(triage[None, :tokens])
            place |= {"triage": pack.add(values.tobytes()), "top": tops[0]}
        found[key] = place
    pack.cut()
    return found


# ---- pictures ----------------------------------------------------------------------------------------------------


class Album:
    """The pictures of one benchmark, each stored once."""

    def __init__(self, one: Source, pictures: Pictures) -> None:
        from vgtool.benchmarks.load import load

        i = one.run.identity
        if one.run.path.is_file():
            raise VgError(f"'{one.run.path}' is a file of predictions, which names no images.", "Leave --images out.")
        loaded = load(
            one.benchmark,
            split=i.get("split"),
            protocol=i.get("protocol") or "default",
            data_root=pictures.data_root,
            registry=pictures.registry,
        )
        self.images = {sample.id: sample.image for sample in loaded.samples}
        self.stored: dict[tuple[str, int, int], Place] = {}

    def add(self, rows: Iterable[Mapping[str, Any]], pack: Pack) -> dict[str, Place]:
        """Sample -> where its picture is, or why there is none."""
        found: dict[str, Place] = {}
        for row in rows:
            if row["width"] is None or row["height"] is None:
                continue
            key = (row["image_id"], row["width"], row["height"])
            if key not in self.stored:
                self.stored[key] = self._place(row, pack)
            found[row["sample_id"]] = self.stored[key]
        pack.cut()
        return found

    def open(self, row: Mapping[str, Any]) -> Image.Image | str:
        """A sample's picture, or a sentence that says why there is none."""
        from vgtool.images import open_image

        source = self.images.get(row["sample_id"])
        if source is None:
            return "The benchmark on this machine has no such sample."
        try:
            image = open_image(source)
        except SampleError as error:
            return without_folders(str(error))
        if image.size != (row["width"], row["height"]):
            return f"The image on this machine is {image.width} x {image.height}: another one."
        return image

    def _place(self, row: Mapping[str, Any], pack: Pack) -> Place:
        image = self.open(row)
        if isinstance(image, str):
            return {"missing": image}
        data, kind = _encoded(image)
        return {"at": pack.add(data), "bytes": len(data), "type": kind}


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    """A picture for the page: nothing but its pixels; PNG when that is small, else JPEG."""
    plain = Image.new("RGB", image.size)
    plain.paste(image)  # leaves EXIF and other remarks behind
    if max(plain.size) > LONGEST:
        plain.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if plain.width * plain.height <= 65536:
        plain.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    plain.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue(), "image/jpeg"
