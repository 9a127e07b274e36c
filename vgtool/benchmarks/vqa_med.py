"""VQA-Med of ImageCLEF 2019: text files of `image|question|answer` lines, those of the test `image|category|...`.

A test answer may be several (`#` between them, any is right) and may have a part in brackets that may be left out. An
image is named without its suffix.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from vgtool.benchmarks.archives import Member
from vgtool.benchmarks.pairs import facts
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, found_for, image_of, optional, polarity, text
from vgtool.benchmarks.tables import Malformed, read_text
from vgtool.records import Rejected, Sample

FIELDS = {3: ("image", "question", "answer"), 4: ("image", "category", "question", "answer")}
"""Number of fields -> their names."""
_BRACKET = re.compile(r"\s*\([^()]*\)\s*")


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `vqa-med`."""
    files = files_of(request)
    rows = (row for path in found_for(request, files) for row in lines(path))

    def draft(row: Row) -> Draft:
        name = text(row, "image")
        image, image_id = image_of(f"{name}.jpg", files, f"{name}.png", name)
        reference = accepted_of(text(row, "answer"))
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "question"),
            kind="closed" if polarity(reference) else "open",
            reference=reference,
            group=optional(row, "category"),
        )

    return build(request, rows, draft, facts=facts)


def lines(path: Path | Member) -> Iterator[Row | Malformed]:
    """The rows of a file of fields between `|`."""
    for line in read_text(path).split("\n"):
        fields = [field.strip() for field in line.split("|")]
        if names := FIELDS.get(len(fields)):
            yield dict(zip(names, fields, strict=True))
        elif line.strip():
            yield Malformed(line[:200].strip(), f"{len(fields)} fields between |, not {' or '.join(map(str, FIELDS))}")


def accepted_of(answer: str) -> str:
    """A reference as the test file writes it: every one of several, with and without what stands in brackets."""
    found = []
    for one in (part.strip() for part in answer.split("#")):
        short = _BRACKET.sub(" ", one).strip()
        found += [one.replace("(", "").replace(")", ""), short] if short and short != one else [one]
    found = list(dict.fromkeys(one for one in found if one))
    return found[0] if len(found) == 1 else json.dumps(found, ensure_ascii=False)
