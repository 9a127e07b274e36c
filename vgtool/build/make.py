"""`vgtool build`: measure every picture once, then choose questions, split, and write the benchmark with its counts.

Only small facts stay in memory; pixels and masks are let go picture by picture. Nothing depends on the order in which
the input is listed: names are sorted, and whatever is random is drawn from the seed and the content.
"""

import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from vgtool.benchmarks.sources import safe_name
from vgtool.build import measure, questions, sources
from vgtool.build.measure import Mask
from vgtool.build.questions import KINDS, LOCALIZATION, Question, Shown
from vgtool.build.sources import Layer, Picture
from vgtool.errors import SampleError, VgError, did_you_mean
from vgtool.scoring.views import Table

NOT_FAILURES = ("image_without_mask",)
"""Counted and named, but nobody's mistake: the picture is just not used."""
SHARES = (0.01, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Upper ends of the box share bins."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of a build, beside how the masks are read."""

    name: str
    domain: Literal["medical", "natural"] = "medical"
    kinds: Sequence[str] = KINDS
    splits: Mapping[str, float] = field(default_factory=lambda: {"test": 1.0})
    group: Literal["modality", "class", "kind"] = "modality"
    negatives: Literal["balanced", "none"] = "balanced"
    max_share: float = 0.4
    """A class whose boxes touch more of the grid is not asked about (the paper's 0.4)."""
    min_pixels: int = 16
    """An instance with fewer pixels gives no box."""
    grid: int = 24
    seed: int = 0
    workers: int = 2


@dataclass(frozen=True, slots=True)
class Facts:
    """What stays of a picture."""

    image_id: str
    dataset: str
    modality: str
    units: tuple[str, ...]
    """Patient and content: what a split must not tear apart."""
    present: frozenset[str]
    asked: tuple[Question, ...]
    shares: Mapping[str, float]
    """Class -> share of the grid."""
    left_out: Counter[str]
    skipped: tuple[tuple[str, str, str], ...]
    masks: int


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did."""

    counts: dict[str, Any]
    failures: int


def build(path: Path, out: Path, form: str, options: sources.Options, settings: Settings) -> Built:
    """Write a benchmark of the masks at `path` into the new folder `out`. VgError for a mistake of the user's."""
    _check(settings)
    form = sources.detect(path) if form == "auto" else form
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VgError(f"'{out}' is not an empty folder.", "Choose a new --out.")
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise VgError(f"'{out}' lies in the folder that is read.", "Choose an --out elsewhere.")
    skipped: list[tuple[str, str, str]] = []
    found = sources.pictures(path, form, options, lambda code, name, detail: skipped.append((code, name, detail)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        facts = sorted(_measured(found, out, settings), key=lambda one: one.image_id)
        skipped += [one for fact in facts for one in fact.skipped]
        rows, left_out = _chosen(facts, settings)
        if not rows:
            shutil.rmtree(out)
            said = "; ".join(f"{code} {number:,}" for code, number in sorted(Counter(s[0] for s in skipped).items()))
            raise VgError(f"No question comes of '{path}' ({said or 'no picture with masks'}).", "See docs/build.md.")
        splits = _split(facts, settings)
        counts = _counts(rows, facts, skipped, left_out, splits, settings)
        _write(rows, facts, splits, sorted(set(skipped)), counts, out, settings, form)
    except OSError as error:
        raise VgError(f"Cannot write in '{out}': {error.strerror}.", "Choose another --out.") from None
    return Built(counts, sum(code not in NOT_FAILURES for code, _, _ in set(skipped)))


def _check(settings: Settings) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", settings.name):
        raise VgError(f"--name '{settings.name}' is no plain name.", "Use letters, digits, dots and dashes.")
    if unknown := sorted(set(settings.kinds) - set(KINDS)):
        raise VgError(f"No question kind '{unknown[0]}'.", did_you_mean(unknown[0], KINDS))
    for name, share in settings.splits.items():
        if not re.fullmatch(r"[a-z0-9_-]+", name) or name == "all" or not share > 0:
            raise VgError(f"--splits has '{name}={share}'.", "Write for example train=0.8,test=0.2.")


def read_options(
    names: Path | None, modality: str | None, patient: str | None, axis: int, slices: str, window: str | None
) -> sources.Options:
    """How masks are read, from what the command line says."""
    try:
        pattern = re.compile(patient) if patient else None
    except re.error as error:
        raise VgError(f"--patient '{patient}' is no regular expression: {error}.", "Correct it.") from None
    if slices not in ("largest", "all") and not (slices.isdigit() and int(slices)):
        raise VgError(f"--slices '{slices}' is not known.", "Give largest, all, or a number.")
    low_high = None
    if window is not None:
        try:
            low, high = map(float, window.split(","))
        except ValueError:
            low = high = 0.0
        if not low < high:
            raise VgError(f"--window '{window}' is not two rising numbers.", "Write for example --window=-160,240.")
        low_high = (low, high)
    return sources.Options(names, modality, pattern, axis, slices, low_high)


def shares(text: str) -> dict[str, float]:
    """train=0.8,test=0.2 as numbers."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            number = float(share)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf") or name.strip() in found:
            raise VgError(f"--splits has '{part}'.", "Write for example train=0.8,test=0.2.")
        found[name.strip()] = number
    return found


# ---- one picture -----------------------------------------------------------------------------------------------------


def _measured(found: Iterable[Picture], out: Path, settings: Settings) -> Iterator[Facts]:
    """Facts of every picture, a few at a time in threads: decoding and filtering release the interpreter."""
    pictures = iter(found)
    with ThreadPoolExecutor(max(settings.workers, 1)) as pool:
        while block := list(islice(pictures, 16 * max(settings.workers, 1))):
            yield from pool.map(lambda one: _facts(one, out, settings), block)


def _facts(picture: Picture, out: Path, settings: Settings) -> Facts:
    skipped: list[tuple[str, str, str]] = []
    stored = f"images/{picture.image_id.removeprefix('images/')}"
    if picture.path is None and not stored.endswith(".png"):
        stored = f"{stored}.png"
    patient = (f"patient {picture.dataset}/{picture.patient}",) if picture.patient else ()
    modality = picture.modality or "unknown"
    try:
        image, digest = picture.open()
    except SampleError as error:
        failed = ((error.code, picture.source.name, error.detail),)
        return Facts(stored, picture.dataset, modality, patient, frozenset(), (), {}, Counter(), failed, 0)
    layers = picture.layers(*image.size, lambda code, name, detail: skipped.append((code, name, detail)))
    asked, shares, left_out = _asked(layers, image, stored, out, settings)
    if not skipped or layers:
        _keep_image(picture, image, out / stored)
    return Facts(
        stored,
        picture.dataset,
        modality,
        (*patient, f"content {digest}"),
        frozenset(layer.label for layer in layers),
        tuple(asked) if layers or not skipped else (),
        shares,
        left_out,
        tuple(skipped),
        sum(len(layer.instances) for layer in layers),
    )


def _asked(
    layers: Sequence[Layer], image: Image.Image, stored: str, out: Path, settings: Settings
) -> tuple[list[Question], dict[str, float], Counter[str]]:
    """Every question that a picture's masks answer."""
    found: list[Question] = []
    shares: dict[str, float] = {}
    left_out: Counter[str] = Counter()
    gray = np.asarray(image.convert("L"))
    kept: list[tuple[Layer, Question]] = []
    for layer in layers:
        boxes = tuple(one.box for one in layer.instances if one.area >= settings.min_pixels)
        if not boxes:
            left_out["filter: too small"] += 1
            continue
        share = measure.grid_share(boxes, *image.size, settings.grid)
        if share > settings.max_share:
            left_out["filter: covers too much of the grid"] += 1
            continue
        shares[layer.label] = share
        mask = None if layer.mask is None else _keep_mask(layer.mask, stored, (layer.label,), out)
        positive = Question(stored, LOCALIZATION, (layer.label,), "yes", boxes, mask)
        kept.append((layer, positive))
        found.append(positive)
        if layer.mask is None:
            left_out["attributes: no mask, boxes only"] += 1
            continue
        for kind, answer in _attributes(layer, gray, settings).items():
            if questions.tells(layer.label, kind):
                left_out[f"{kind}: the name tells"] += 1
            elif answer is None:
                left_out[f"{kind}: ambiguous"] += 1
            else:
                found.append(Question(stored, kind, (layer.label,), answer, boxes, mask))
    if "size" in settings.kinds:
        found += _compared(kept, stored, out, settings, left_out)
    return found, shares, left_out


def _attributes(layer: Layer, gray: NDArray[np.uint8], settings: Settings) -> dict[str, str | None]:
    mask = layer.mask
    assert mask is not None
    ways = {
        "side": lambda: measure.side(mask),
        "quadrant": lambda: measure.quadrant(mask),
        "tone": lambda: measure.tone(gray, mask),
        "count": lambda: _few(measure.count(mask, layer.instances, settings.min_pixels)),
        "border": lambda: measure.border(mask),
        "shape": lambda: measure.shape(mask),
    }
    return {kind: way() for kind, way in ways.items() if kind in settings.kinds}


def _few(number: int | None) -> str | None:
    """A count that is one of the options."""
    return str(number) if number is not None and str(number) in questions.OPTIONS["count"] else None


def _compared(
    kept: Sequence[tuple[Layer, Question]], stored: str, out: Path, settings: Settings, left_out: Counter[str]
) -> list[Question]:
    """One question of larger or smaller of two classes, drawn from the clear pairs of a picture."""
    pairs: list[Question] = []
    areas: dict[str, tuple[Mask, Question]] = {a.label: (a.mask, q) for a, q in kept if a.mask is not None}
    for one, two in combinations(sorted(areas), 2):
        if questions.tells(one, "size") or questions.tells(two, "size"):
            left_out["size: the name tells"] += 1
            continue
        first = measure.larger(int(areas[one][0].sum()), int(areas[two][0].sum()))
        if first is None:
            left_out["size: ambiguous"] += 1
            continue
        kind = ("larger", "smaller")[questions.chance(settings.seed, "size", stored, one, two) % 2]
        boxes = areas[one][1].boxes + areas[two][1].boxes
        pairs.append(Question(stored, kind, (one, two), one if first == (kind == "larger") else two, boxes))
    if not pairs:
        return []
    chosen = min(pairs, key=lambda pair: questions.chance(settings.seed, "pair", pair.key))
    one, two = chosen.labels
    mask = _keep_mask(areas[one][0] | areas[two][0], stored, chosen.labels, out)
    return [Question(stored, chosen.kind, chosen.labels, chosen.answer, chosen.boxes, mask)]


def _keep_mask(mask: Mask, stored: str, labels: Sequence[str], out: Path) -> str:
    text = "+".join(labels)
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]
    name = f"masks/{stored.removeprefix('images/')}/{slug}-{crc32(text.encode()):08x}.png"
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(out / name, compress_level=1)
    return name


def _keep_image(picture: Picture, image: Image.Image, target: Path) -> None:
    """The file itself, linked where the disk allows it; a PNG without any header data for a slice or a DICOM file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if picture.path is None:
        image.save(target, compress_level=1)
        return
    try:
        os.link(picture.path.resolve(), target)
    except OSError:
        shutil.copyfile(picture.path, target)


# ---- all pictures ----------------------------------------------------------------------------------------------------


def _split(facts: Sequence[Facts], settings: Settings) -> dict[str, str]:
    return questions.assign({one.image_id: one.units for one in facts}, settings.splits, settings.seed)


def _chosen(facts: Sequence[Facts], settings: Settings) -> tuple[list[Question], Counter[str]]:
    """The questions that are asked, by picture, kind and class; and what was left out, by reason."""
    splits = _split(facts, settings)
    left_out = sum((one.left_out for one in facts), Counter[str]())
    rows = [question for one in facts for question in one.asked if question.kind != LOCALIZATION]
    if LOCALIZATION in settings.kinds:
        positives = {one.image_id: {q.labels[0]: q for q in one.asked if q.kind == LOCALIZATION} for one in facts}
        if settings.negatives == "none":
            rows += [question for each in positives.values() for question in each.values()]
        else:
            usable = [one for one in facts if not one.skipped]
            whole = [
                Shown(
                    one.image_id,
                    (splits[one.image_id], one.dataset, one.modality),
                    positives[one.image_id],
                    one.present,
                )
                for one in usable
            ]
            chosen, dropped = questions.balanced(whole, settings.seed)
            rows += chosen
            left_out["localization: no picture without the class to balance it"] += dropped
            partly = sum(len(positives[one.image_id]) for one in facts if one.skipped)
            left_out["localization: the picture has a mask that cannot be read"] += partly
    return sorted(rows, key=lambda q: (q.image_id, q.kind, q.labels)), Counter({k: v for k, v in left_out.items() if v})


def _kind(question: Question) -> str:
    return "size" if question.kind in ("larger", "smaller") else question.kind


def _counts(
    rows: Sequence[Question],
    facts: Sequence[Facts],
    skipped: Sequence[tuple[str, str, str]],
    left_out: Mapping[str, int],
    splits: Mapping[str, str],
    settings: Settings,
) -> dict[str, Any]:
    about = {one.image_id: one for one in facts}
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        answers[_kind(row)][row.answer if row.kind not in ("larger", "smaller") else row.kind] += 1
    shares = [share for one in facts for share in one.shares.values()]
    binned = Counter(next(f"up to {end:g}" for end in SHARES if share <= end) for share in shares)
    return {
        "name": settings.name,
        "rows": len(rows),
        "images": len({row.image_id for row in rows}),
        "masks": sum(one.masks for one in facts),
        "split_by": dict(Counter("patient" if len(one.units) > 1 else "image" for one in facts)),
        "splits": _sorted(Counter(splits[row.image_id] for row in rows)),
        "modalities": _sorted(Counter(about[row.image_id].modality for row in rows)),
        "classes": _sorted(Counter(label for row in rows for label in row.labels)),
        "kinds": {
            kind: {
                "rows": sum(answers[kind].values()),
                "answers": _sorted(answers[kind]),
                "most_common_answer": round(max(answers[kind].values()) / sum(answers[kind].values()), 4),
            }
            for kind in KINDS
            if kind in answers
        },
        "box_share": {f"up to {end:g}": binned[f"up to {end:g}"] for end in SHARES},
        "left_out": _sorted(left_out),
        "skipped": _sorted(Counter(code for code, _, _ in set(skipped))),
        "settings": {
            "seed": settings.seed,
            "max_share": settings.max_share,
            "min_pixels": settings.min_pixels,
            "grid": settings.grid,
            "negatives": settings.negatives,
            "kinds": list(settings.kinds),
            "splits": dict(settings.splits),
        },
    }


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}


def tables(counts: Mapping[str, Any]) -> list[Table]:
    """The sheet of counts."""
    kinds = [[kind, one["rows"], f"{one['most_common_answer']:.1%}"] for kind, one in counts["kinds"].items()]
    found = [
        Table(
            f"{counts['name']}: {counts['rows']:,} questions on {counts['images']:,} images, {counts['masks']:,} masks",
            ["kind", "questions", "most common answer"],
            kinds,
        )
    ]
    titles = {
        "splits": "split",
        "modalities": "modality",
        "classes": "class",
        "box_share": "share of the grid under a class's boxes",
        "left_out": "left out",
        "skipped": "skipped input",
    }
    for key, title in titles.items():
        if counts[key]:
            found.append(Table("", [title, "count"], [[name, number] for name, number in counts[key].items()]))
    return found


# ---- what is written -------------------------------------------------------------------------------------------------


def _row(question: Question, fact: Facts, settings: Settings) -> dict[str, Any]:
    choices = questions.options(question, settings.seed)
    groups = {"modality": fact.modality, "class": " + ".join(question.labels), "kind": _kind(question)}
    row: dict[str, Any] = {
        "id": f"{_kind(question)}-{question.id}",
        "image": question.image_id,
        "image_id": question.image_id,
        "question": questions.worded(question, settings.seed),
        "reference": question.answer,
        "question_type": "closed" if choices is None else "choice",
    }
    if choices is not None:
        row["choices"] = choices
    row |= {"boxes": [box.as_list() for box in question.boxes], "group": groups[settings.group]}
    row["domain"] = settings.domain
    if question.mask:
        row["mask"] = question.mask
    return row


def _write(
    rows: Sequence[Question],
    facts: Sequence[Facts],
    splits: Mapping[str, str],
    skipped: Sequence[tuple[str, str, str]],
    counts: dict[str, Any],
    out: Path,
    settings: Settings,
    form: str,
) -> None:
    about = {one.image_id: one for one in facts}
    lines: dict[str, list[str]] = {name: [] for name in settings.splits}
    for question in rows:
        safe_name(question.image_id)
        row = _row(question, about[question.image_id], settings)
        lines[splits[question.image_id]].append(json.dumps(row, ensure_ascii=False))
    written = {name: texts for name, texts in lines.items() if texts}
    for name, texts in written.items():
        (out / f"{name}.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    default = "test" if "test" in written else next(iter(written))
    entry = {
        "title": f"{settings.name} (built from {form} masks)",
        "reader": "own",
        "domain": settings.domain,
        "data": {name: [f"{name}.jsonl"] for name in written},
        "splits": {name: len(texts) for name, texts in written.items()},
        "default_split": default,
        "box_format": "xyxy",
        "notes": ["Questions and answers come from masks and pixels by rule; nobody has checked them clinically."],
    }
    text = yaml.safe_dump({settings.name: entry}, sort_keys=False, allow_unicode=True)
    (out / "benchmarks.yaml").write_text(text, encoding="utf-8")
    (out / "counts.json").write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    listed = [json.dumps({"code": c, "file": f, "detail": d}, ensure_ascii=False) for c, f, d in skipped]
    (out / "skipped.jsonl").write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")
