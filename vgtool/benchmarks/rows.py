"""From a published row to a sample: what every reader shares.

A reader turns a row into a `Draft`; `build` picks the protocol's rows, dresses the question, names the row and keeps
what cannot be used as `Rejected`. Ids never depend on a row's place: they are the benchmark's own, or made of the
content; the second of two equal rows gets `-2`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vgtool.benchmarks.archives import Member
from vgtool.benchmarks.options import either_or, letter, right_option
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.sources import Files
from vgtool.benchmarks.tables import Cell, Malformed, digest_of, read_rows, refuse_half
from vgtool.errors import SampleError, VgError
from vgtool.images import open_region
from vgtool.records import QUESTION_SUFFIX, Box, ImageSource, QuestionType, Rejected, Sample

Row = dict[str, Any]

LETTER_SUFFIX = "Answer with the option's letter from the given choices directly."
SHORT = f"{{question}} {QUESTION_SUFFIX}"
LETTERED = f"{{question}}\n{{options}}\n{LETTER_SUFFIX}"
PROMPTS: dict[QuestionType, str] = {"closed": SHORT, "open": SHORT, "choice": LETTERED}
"""How a protocol asks that says nothing else."""
_SIGNS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Draft:
    """A row as its reader understood it, before any protocol."""

    image: ImageSource
    image_id: str
    question: str
    kind: QuestionType
    reference: str = ""
    choices: tuple[str, ...] | None = None
    group: str = ""
    boxes: tuple[Box, ...] = ()
    extra_images: tuple[ImageSource, ...] = ()
    mask: Callable[[], object] | None = None
    domain: str | None = None


def files_of(request: Request) -> Files:
    """The folders and archives of a request. VgError when the benchmark is not on disk."""
    spec = request.spec
    if request.root is None:
        way = f"Fetch it with `vgtool benchmarks --fetch {spec.name}`, or name" if spec.hub else "Name"
        raise VgError(f"Benchmark '{spec.name}' is not on disk.", f"{way} its folder with --data-root.")
    given = [] if request.data_root is None else [request.data_root / spec.name, request.data_root]
    near = [folder / name for folder in (request.root.parent, *given[1:]) for name in spec.beside]
    roots = dict.fromkeys(folder.resolve() for folder in (request.root, *given, *near) if folder.is_dir())
    files = Files(list(roots), spec.folders, spec.archives)
    request.notes.extend(files.skipped)
    return files


def rows_of(
    request: Request,
    files: Files,
    images: Sequence[str] = (),
    keep: Callable[[Path | Member], bool] = lambda path: True,
) -> Iterator[Row | Malformed]:
    """The rows of a split, file by file. VgError when there is no file for it."""
    found = found_for(request, files, keep)
    for path in found:
        for row in read_rows(path, images):
            if isinstance(row, dict):
                row["file"] = path.name
            yield row


def found_for(
    request: Request, files: Files, keep: Callable[[Path | Member], bool] = lambda path: True
) -> list[Path | Member]:
    """The data files of a split. VgError, with the names that were looked for and where, when there is none."""
    spec = request.spec
    patterns = spec.of_split(spec.data, request.split)
    found = [path for path in files.data(patterns) if keep(path)]
    if not found:
        wanted = " or ".join(f"'{pattern}'" for pattern in patterns)
        hint = f"Fetch it with `vgtool benchmarks --fetch {spec.name} --split {request.split}`." if spec.hub else ""
        inside = "".join(f" or {name}" for name in files.archives)
        raise VgError(f"No {wanted} for split '{request.split}' in '{request.root}'{inside}.", hint)
    request.files.extend(path.name for path in found)
    return found


def build(
    request: Request,
    rows: Iterable[Row | Malformed],
    draft: Callable[[Row], Draft],
    *,
    own_id: Callable[[Row], object] = lambda row: None,
    facts: Callable[[Row], Mapping[str, str]] = lambda row: {},
    prefix: str | None = None,
) -> Iterator[Sample | Rejected]:
    """Samples and rejected rows. `own_id`: the benchmark's id of a row, None to make one of its content; ids begin
    with `prefix` (the split when not given). `facts`: what a protocol may filter by beside the row's own fields."""
    prefix = f"{request.split}-" if prefix is None else prefix
    wanted, absent, copies = request.protocol.filter, set(request.protocol.filter), Counter[str]()
    empty = True

    def numbered(digest: str) -> str:
        copies[digest] += 1
        return f"{prefix}{digest}" + (f"-{copies[digest]}" if copies[digest] > 1 else "")

    for row in rows:
        empty = False
        if isinstance(row, Malformed):
            where = f" ({row.text[:60]})" if row.text else ""
            yield Rejected(numbered(digest_of(row.text)), f"malformed_row: {row.problem}{where}")
            continue
        known = {**row, **facts(row)} if wanted else row
        absent -= known.keys()
        if any(str(known.get(field)) not in values for field, values in wanted.items()):
            continue
        given = own_id(row)
        if given is None:
            name = numbered(digest_of({key: value for key, value in row.items() if key != "file"}))
        else:
            name = f"{prefix}{given}"
        try:
            found = draft(row)
            refuse_half(found.reference, *(found.choices or ()))
        except SampleError as error:
            question = row.get("question")
            yield Rejected(name, str(error), question=question if isinstance(question, str) else "")
            continue
        yield _sample(request, found, name)
    if absent and not empty:
        raise VgError(
            f"Protocol selects rows of '{request.spec.name}' by '{sorted(absent)[0]}', which no row on disk has.",
            "Use the published form that has it, or another --protocol.",
        )


def _sample(request: Request, draft: Draft, name: str) -> Sample:
    template = request.protocol.prompts.get(draft.kind, PROMPTS[draft.kind])
    choices = draft.choices
    if "{options}" in template and not choices:
        choices = ("Yes", "No") if polarity(draft.reference) else _offered(draft)
        if choices is None:  # a closed question whose options nobody published
            template = PROMPTS["closed"]
    return Sample(
        id=name,
        image_id=draft.image_id,
        image=draft.image,
        question=draft.question,
        prompt=dressed(template, draft.question, choices or ()),
        domain=request.spec.domain if draft.domain not in ("medical", "natural") else draft.domain,  # type: ignore[arg-type]
        group=draft.group,
        question_type=draft.kind,
        reference=draft.reference,
        choices=choices,
        boxes=draft.boxes,
        extra_images=draft.extra_images,
        mask=draft.mask,
    )


def _offered(draft: Draft) -> tuple[str, ...] | None:
    """The options that the question offers, where its answer is one of them; the answer chooses none of their words."""
    options = either_or(draft.question)
    return options if options and right_option(draft.reference, options) is not None else None


def dressed(template: str, question: str, choices: Sequence[str]) -> str:
    """A prompt: options one a line, lettered. What stands in a question is never expanded."""
    lines = "\n".join([f"{letter(index)}. {text}" for index, text in enumerate(choices)])
    parts = {"{question}": question, "{options}": lines}
    return "".join([parts.get(piece, piece) for piece in _pieces(template)])


@cache
def _pieces(template: str) -> list[str]:
    return re.split(r"(\{question\}|\{options\})", template)


# ---- fields ----------------------------------------------------------------------------------------------------------


def text(row: Row, *names: str) -> str:
    """The first of these fields that is there, stripped; numbers become text. SampleError when none is."""
    if found := optional(row, *names):
        return found
    raise SampleError("malformed_row", f"'{names[0]}' is missing or not text")


def optional(row: Row, *names: str) -> str:
    """As `text`, but nothing for nothing."""
    for name in names:
        value = row.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and (value := value.strip()):
            return value
    return ""


def polarity(answer: object) -> str:
    """`yes`, `no` or nothing: whether an answer is one of the two words."""
    word = str(answer).strip().rstrip(".").lower()
    return word if word in ("yes", "no") else ""


def group_name(groups: Mapping[str, str], value: str) -> str:
    """A modality under its clean name: letters and digits decide, so `MR (Mag-netic ...` finds its own."""
    folded = _folded(value)
    return next((shown for written, shown in groups.items() if _folded(written) == folded), value.strip())


def _folded(value: str) -> str:
    return _SIGNS.sub("", value.lower())


def image_of(value: object, files: Files, *others: str) -> tuple[ImageSource, str]:
    """An image and its id: stored in the row's file, or on disk under the row's path (or one of `others`)."""
    if isinstance(value, Cell):
        if value.source is not None:
            return value.source, value.digest
        value = value.path
    source = files.source(value, *others)
    return source, source.name


def side_mask(files: Files, *names: str) -> Callable[[], object]:
    """A mask file, read when it is needed: true where it is neither black nor transparent. SampleError `mask_missing`
    then, where there is none."""
    source = files.source(*names)

    def read() -> object:
        if not source.exists():
            raise SampleError("mask_missing", f"'{source.name}' is not in the data folder{files.looked(*names)}")
        return open_region(source)

    return read
