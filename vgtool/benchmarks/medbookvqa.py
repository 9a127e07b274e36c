"""MedBookVQA: data.json with Question, Answer, Distractors and the letters of each, pictures in figures.zip.

`correct_choice` is the letter of Answer, `other_choices` those of Distractors in their order; a row whose letters are
not A, B, C, ... once each fails. `image_path` was written for a folder beside the data, so a leading `../` goes.
"""

import re
from collections.abc import Iterator

from vgtool.benchmarks.options import options_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, image_of, optional, rows_of, text
from vgtool.errors import SampleError
from vgtool.records import Rejected, Sample

_UP = re.compile(r"^(?:\.\.?/)+")


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `medbookvqa`."""
    files = files_of(request)

    def draft(row: Row) -> Draft:
        image, image_id = image_of(_UP.sub("", text(row, "image_path").replace("\\", "/")), files)
        choices, right = lettered(row)
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "Question"),
            kind="choice",
            reference=right,
            choices=choices,
            group=optional(row, "QAtype"),
        )

    return build(request, rows_of(request, files), draft, own_id=lambda row: optional(row, "_id") or None)


def lettered(row: Row) -> tuple[tuple[str, ...], str]:
    """(options in the order of their letters, the right one)."""
    texts = (text(row, "Answer"), *options_of(row.get("Distractors")))
    others = row.get("other_choices")
    letters = [text(row, "correct_choice"), *(map(str, others) if isinstance(others, list) else ())]
    placed = dict(zip((letter.strip().upper() for letter in letters), texts, strict=False))
    if len(letters) != len(texts) or "".join(sorted(placed)) != "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(texts)]:
        said = ", ".join(letters)[:80]
        raise SampleError("malformed_row", f"the letters {said} of {len(texts)} options are not A on, each once")
    return tuple(placed[letter] for letter in sorted(placed)), texts[0]
