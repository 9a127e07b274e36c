"""vgtool's own format: JSONL, JSON, csv, tsv or Parquet, one question a row, images beside it: to bring any data.

    {"id": "q1", "image": "a.png", "question": "Is the heart enlarged?", "answer": "yes"}

Needed: image (path relative to the file, or absolute inside its folder or --data-root; in Parquet also stored bytes)
and question. Also: id, answer (or reference),
question_type (closed, choice, open), choices [text, ...], boxes [[x0, y0, x1, y1], ...] with box_format, mask (path,
with mask_value where one value counts, or run lengths {"size": [height, width], "counts": [...]} as COCO's), slice and
axis (of a multi-frame file, a volume, or a folder that is a DICOM series), window, image_id, group, domain. The answer
of a choice question is an option's text, its letter or both; several accepted answers are a list. A row that cannot be
used is a failed row.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from glob import escape
from pathlib import Path
from typing import TypeVar, get_args

from vgtool.benchmarks.boxes import BOX_FORMATS, SHARES, boxes_of
from vgtool.benchmarks.options import by_either, options_of
from vgtool.benchmarks.references import accepted, reference_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import (
    Draft,
    Row,
    build,
    files_of,
    optional,
    polarity,
    rows_of,
    text,
)
from vgtool.benchmarks.sources import Files
from vgtool.benchmarks.tables import READ
from vgtool.benchmarks.views import seen_image, seen_mask, view_of
from vgtool.errors import SampleError, VgError, did_you_mean
from vgtool.grounding import runlength
from vgtool.images import image_size
from vgtool.records import QUESTION_TYPES, Domain, ImageSource, QuestionType, Rejected, Sample, View
from vgtool.registry import BenchmarkSpec

Word = TypeVar("Word", bound=str)
DOMAINS: tuple[Domain, ...] = get_args(Domain)
NEEDED = ("image", "question")
KEYS = {
    *NEEDED,
    "id",
    "answer",
    "reference",
    "question_type",
    "choices",
    "boxes",
    "box_format",
    "mask",
    "mask_value",
    "slice",
    "axis",
    "window",
} | {*("image_id", "group", "domain", "file")}


NO_TEXT = {"mask", "mask_value", "slice", "axis", "window"}
"""Keys whose csv cells may be JSON; choices and boxes are read as such anyway."""


def entry(path: Path) -> BenchmarkSpec:
    """The registry entry of a file: one split, no published count."""
    if not path.is_file():
        raise VgError(
            f"No file '{path}' here or in --data-root.",
            f"Give its folder as --data-root, a file of questions ({', '.join(READ)}), or a name in benchmarks.yaml.",
        )
    return BenchmarkSpec(
        name=path.stem,
        title=path.name,
        reader="own",
        domain="medical",
        default_split="all",
        splits={"all": None},
        data={"all": [escape(path.name)]},
    )


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `own`."""
    files = files_of(request)
    rows = rows_of(request, files, ("image",))
    draft = partial(_draft, request, files)
    return build(request, rows, draft, own_id=lambda row: optional(row, "id") or None, prefix="")


def _draft(request: Request, files: Files, row: Row) -> Draft:
    row = {key: value for key, value in row.items() if value is not None and value != ""}
    if not NO_TEXT.isdisjoint(row):
        row |= {key: _typed(value) for key, value in row.items() if key in NO_TEXT}
    if unknown := sorted(row.keys() - KEYS):
        raise SampleError("malformed_row", f"unknown key '{unknown[0]}'. {did_you_mean(unknown[0], KEYS)}".strip())
    view = view_of(row)
    image, image_id = seen_image(row.get("image"), files, view)
    choices = options_of(row.get("choices"))
    answer = reference_of(row.get("answer", row.get("reference")))
    likely: QuestionType = "choice" if choices else "closed" if polarity(answer) else "open"
    kind: QuestionType = _one_of(row, "question_type", likely, QUESTION_TYPES)
    domain = _one_of(row, "domain", request.spec.domain, DOMAINS)
    if kind == "choice" and not choices:
        raise SampleError("malformed_row", "a choice question without choices")
    own_image = optional(row, "image_id")
    return Draft(
        image=image,
        image_id=f"{own_image}{view.suffix}" if own_image else image_id,
        question=text(row, "question"),
        kind=kind,
        reference=_right(choices, answer) if kind == "choice" and answer else answer,
        choices=choices or None,
        group=optional(row, "group"),
        boxes=boxes_of(row.get("boxes", ()), request.box_format or _format(request, row), lambda: image_size(image)),
        mask=_mask(row, files, image, view),
        domain=domain,
    )


def _one_of(row: Row, name: str, usual: Word, known: Sequence[Word]) -> Word:
    """A field that takes one of some words, in any case. SampleError for another."""
    said = str(row.get(name, usual)).strip().lower()
    if found := next((word for word in known if word == said), None):
        return found
    raise SampleError("malformed_row", f"{name} '{row[name]}' is none of {', '.join(known)}")


def _right(choices: tuple[str, ...], answer: str) -> str:
    return reference_of([by_either(choices, one) for one in accepted(answer)])


def _typed(value: object) -> object:
    """A value of a csv cell as what its column holds: a number, a list, an object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _mask(row: Row, files: Files, image: ImageSource, view: View) -> Callable[[], object] | None:
    """Where a mask is true: where a file is set, or has mask_value; or as run lengths say."""
    given, value = row.get("mask"), row.get("mask_value")
    if not given:
        return None
    if isinstance(given, Mapping):
        try:
            runlength.decode(given)
        except ValueError as error:
            raise SampleError("malformed_row", f"mask: {error}") from None
        return partial(runlength.decode, given)
    if value is not None and type(value) is not int:
        raise SampleError("malformed_row", f"mask_value {value!r} is no whole number")
    return seen_mask(files, str(given), value, image, view)


def _format(request: Request, row: Row) -> str:
    form = str(row.get("box_format") or request.spec.box_format or "xyxy")
    form = "xyxy-inclusive" if form == "inclusive" else form
    if form not in BOX_FORMATS:
        raise SampleError("malformed_row", f"box_format '{form}' is not known. {did_you_mean(form, BOX_FORMATS)}")
    request.shares.update({form} & {*SHARES})
    return form
