"""SLAKE: questions in two languages, and the images' own detections and masks as ground-truth boxes.

Next to each source.jpg lie detection.json (objects as name -> [x, y, width, height]) and mask.png, whose values
mask.txt names. A question's boxes are the objects that it names, or else that its answer names: by full name ("Left
Lung"), or by the last word of the name ("lung" means both). A question that names none has no box. Where
detection.json is missing, boxes are drawn around the mask's values.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from vgtool.benchmarks.boxes import boxes_of
from vgtool.benchmarks.pairs import facts
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, group_name, image_of, optional, rows_of, text
from vgtool.benchmarks.sources import Files, safe_name
from vgtool.errors import SampleError
from vgtool.images import open_mask
from vgtool.images.names import entry
from vgtool.records import Box, ImageSource, Rejected, Sample
from vgtool.words import words

Detections = Mapping[str, tuple[Box, ...] | SampleError]
"""Name -> its boxes, or why they are none."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What one image shows, by name."""

    boxes: Detections
    mask: ImageSource | None
    bare: bool = False
    """Neither file is beside the image."""
    unnamed: bool = False
    """Only a mask is, and nothing says what its values are."""


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `slake`."""
    files = files_of(request)
    form = request.box_format or request.spec.box_format or "xywh"

    @cache
    def values() -> dict[str, int]:
        found = files.read("mask.txt")
        return mask_values(found.decode("utf-8", "replace")) if found else {}

    @lru_cache(maxsize=2048)
    def objects(folder: str) -> Objects | SampleError:
        try:
            found = _objects(files, folder, form, values)
        except SampleError as error:
            return error
        if found.unnamed:
            request.notes.append(f"mask.txt, which says what mask.png shows, is not there{files.looked('mask.txt')}.")
        elif found.bare and not any(note.startswith("No boxes") for note in request.notes):
            request.notes.append(f"No boxes where neither detection.json nor mask.png is beside the image: '{folder}'.")
        return found

    def draft(row: Row) -> Draft:
        image, image_id = image_of(row.get("img_name"), files)
        question, answer = text(row, "question"), text(row, "answer")
        shown = objects(safe_name(image_id).rpartition("/")[0])
        if isinstance(shown, SampleError):
            raise shown
        names = named(question, answer, [*shown.boxes])
        marks = [values()[name.casefold()] for name in names if name.casefold() in values()]
        return Draft(
            image=image,
            image_id=image_id,
            question=question,
            kind="closed" if optional(row, "answer_type").upper() == "CLOSED" else "open",
            reference=answer,
            group=group_name(request.spec.groups, optional(row, "modality")),
            boxes=tuple(box for name in names for box in _whole(shown.boxes[name])),
            mask=_mask(shown.mask, marks) if shown.mask and marks else None,
        )

    return build(request, rows_of(request, files), draft, own_id=lambda row: optional(row, "qid") or None, facts=facts)


def named(question: str, answer: str, names: list[str]) -> list[str]:
    """The objects that the question names, or else the answer."""
    for where in (question, answer):
        said = " " + " ".join(_singular(word) for word in words(where)) + " "
        full = [name for name in names if f" {' '.join(map(_singular, words(name)))} " in said]
        if full:
            return full
        last = [name for name in names if words(name) and f" {_singular(words(name)[-1])} " in said]
        if last:
            return last
    return []


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _objects(files: Files, folder: str, form: str, values: Callable[[], dict[str, int]]) -> Objects:
    mask = files.source(f"{folder}/mask.png")
    found = files.read(f"{folder}/detection.json")
    if found is not None:
        return Objects(detections(found, f"{folder}/detection.json", form), mask if mask.exists() else None)
    if not mask.exists():
        return Objects({}, None, bare=True)
    pixels = open_mask(mask)
    boxes = {name: (_around(pixels == value),) for name, value in values().items() if (pixels == value).any()}
    return Objects(boxes, mask, unnamed=not values())


def _whole(boxes: tuple[Box, ...] | SampleError) -> tuple[Box, ...]:
    if isinstance(boxes, SampleError):
        raise boxes
    return boxes


def detections(data: bytes, where: str, form: str = "xywh") -> Detections:
    """Boxes by name: a list of one-key objects (a name may come twice), or one object; each value a box or a list."""
    try:
        raw: Any = json.load(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise SampleError("detection_unreadable", f"'{where}' is not JSON: {error}") from None
    items = raw if isinstance(raw, list) else [raw]
    if not all(isinstance(item, dict) for item in items):
        raise SampleError("detection_unreadable", f"'{where}' is not a list of name -> [x, y, width, height]")
    boxes: dict[str, tuple[Box, ...] | SampleError] = {}
    for name, value in ((str(name).strip(), value) for item in items for name, value in item.items()):
        found = boxes.get(name, ())
        if isinstance(found, SampleError):
            continue
        try:
            boxes[name] = found + boxes_of(value, form)
        except SampleError as error:
            boxes[name] = SampleError("detection_unreadable", f"'{where}', {name}: {error.detail}")
    return boxes


def mask_values(listing: str) -> dict[str, int]:
    """Lower-case name -> value of mask.txt: one pair a line, either way round, quoted and ended by a comma or not."""
    found = (entry(line) for line in listing.splitlines())
    return {one[0].strip().casefold(): one[1] for one in found if one is not None and one[1] is not None}


def _around(mask: np.ndarray) -> Box:
    ys, xs = np.nonzero(mask)
    return Box(float(xs.min()), float(ys.min()), float(xs.max()) + 1, float(ys.max()) + 1)


def _mask(source: ImageSource, marks: list[int]) -> Callable[[], object]:
    return lambda: np.isin(open_mask(source), marks)
