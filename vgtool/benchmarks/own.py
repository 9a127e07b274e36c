"""vgtool's own format: a JSONL file, one question a line, images beside it. The way to bring any data.

    {"id": "q1", "image": "a.png", "question": "Is the heart enlarged?", "reference": "yes", "question_type": "closed"}

Also: image_id, group, domain, choices [text, ...], boxes [[x0, y0, x1, y1], ...] in stored pixels, continuous edges.
Image paths are relative to the file and may not leave its folder. A line that cannot be used is a failed row.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vgtool.benchmarks.load import Request
from vgtool.errors import SampleError, VgError
from vgtool.records import QUESTION_SUFFIX, Box, ImageSource, Rejected, Sample

LETTER_SUFFIX = "Answer with the option's letter from the given choices directly."
KINDS = ("closed", "choice", "open")
KEYS = {
    *(
        "id",
        "image",
        "image_id",
        "question",
        "reference",
        "question_type",
        "group",
        "domain",
        "choices",
        "boxes",
        "mask",
    ),
}


def read(path: Path) -> Iterator[Sample | Rejected]:
    """Samples of a file, in its order. VgError when there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VgError(f"Cannot read '{path}': {error}.", "Give a UTF-8 JSONL file.") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                raw = json.loads(line)
            except (ValueError, RecursionError):
                yield Rejected(f"line-{number}", f"malformed_row: line {number} is not JSON")
                continue
            yield _sample(raw, path.parent, number)


def open_request(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the key `own`: option `path`, from --data-root when there is one."""
    return read((request.root or Path()) / request.spec.options["path"])


def _sample(raw: Any, root: Path, number: int) -> Sample | Rejected:
    name = str(raw.get("id", f"line-{number}")) if isinstance(raw, dict) else f"line-{number}"
    try:
        if not isinstance(raw, dict):
            raise ValueError("it is no object")
        if unknown := sorted(set(raw) - KEYS):
            raise ValueError(f"unknown key '{unknown[0]}'")
        for key in ("id", "image", "question"):
            if not isinstance(raw.get(key), str) or not raw[key].strip():
                raise ValueError(f"'{key}' is missing or not text")
        kind = raw.get("question_type", "choice" if raw.get("choices") else "open")
        if kind not in KINDS or raw.get("domain", "medical") not in ("medical", "natural"):
            raise ValueError(f"question_type '{kind}' or domain '{raw.get('domain')}' is not known")
        choices = tuple(map(str, raw["choices"])) if raw.get("choices") else None
        if kind == "choice" and not choices:
            raise ValueError("a choice question without choices")
        boxes = tuple(Box(*map(float, box)) for box in raw.get("boxes") or ())
    except (ValueError, TypeError) as error:
        return Rejected(name, f"malformed_row: line {number}: {error}")
    return Sample(
        id=raw["id"],
        image_id=str(raw.get("image_id", raw["image"])),
        image=ImageSource(raw["image"], partial(_bytes, root, raw["image"])),
        question=raw["question"],
        prompt=_prompt(raw["question"], choices if kind == "choice" else None),
        domain=raw.get("domain", "medical"),
        group=str(raw.get("group", "")),
        question_type=kind,
        reference=str(raw.get("reference", "")),
        choices=choices,
        boxes=boxes,
    )


def _prompt(question: str, choices: tuple[str, ...] | None) -> str:
    if choices is None:
        return f"{question} {QUESTION_SUFFIX}"
    options = " ".join(f"{chr(ord('A') + index)}. {text}" for index, text in enumerate(choices))
    return f"{question} {options} {LETTER_SUFFIX}"


def _bytes(root: Path, name: str) -> bytes:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise SampleError("image_outside_root", f"'{name}' leads out of the benchmark's folder")
    try:
        return path.read_bytes()
    except OSError as error:
        raise SampleError("image_missing", f"'{name}': {error.strerror}") from None
