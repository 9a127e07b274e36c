"""OmniMedVQA: one JSON per source with the answer as text, or the regrouped form with everything in two strings.

Raw: option_A to option_D, of which C and D may be missing, gt_answer as text, a modality that is spelt in odd ways and
once is keyed `modality`. Regrouped: problem "Question? A)x, B)y, C)z, D)w", solution "<answer> D </answer>"; its
modality is in the file's name only.
"""

import re
from collections.abc import Iterator

from vgtool.benchmarks.options import by_letter, by_text
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import (
    Draft,
    Row,
    build,
    files_of,
    group_name,
    image_of,
    optional,
    rows_of,
    text,
)
from vgtool.errors import SampleError
from vgtool.records import Rejected, Sample
from vgtool.words import words

_OPTION = re.compile(r"(?:^|[\s,])([A-I])\)")
_SOLUTION = re.compile(r"<answer>\s*([A-Za-z])\s*</answer>")


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `omnimedvqa`."""
    files = files_of(request)
    groups = request.spec.groups

    def raw(row: Row) -> Draft:
        image, image_id = image_of(row.get("image_path"), files)
        choices = tuple(found for letter in "ABCD" if (found := optional(row, f"option_{letter}")))
        given = request.spec.has_answers and not request.split.startswith("restricted")
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "question"),
            kind="choice",
            reference=by_text(choices, text(row, "gt_answer")) if given or optional(row, "gt_answer") else "",
            choices=choices,
            group=group_name(groups, optional(row, "modality_type", "modality")),
        )

    def regrouped(row: Row) -> Draft:
        image, image_id = image_of(row.get("image"), files)
        question, choices = split_problem(text(row, "problem"))
        said = text(row, "solution")
        solution = _SOLUTION.search(said)
        if solution is None:
            raise SampleError("malformed_row", f"solution '{said[:80]}' holds no <answer> letter </answer>")
        return Draft(
            image=image,
            image_id=image_id,
            question=question,
            kind="choice",
            reference=by_letter(choices, solution[1]),
            choices=choices,
            group=next((shown for written, shown in groups.items() if _names(str(row["file"]), written)), ""),
        )

    return build(
        request,
        rows_of(request, files),
        lambda row: regrouped(row) if "problem" in row else raw(row),
        own_id=lambda row: f"{row.get('dataset', '')}/{row['question_id']}" if row.get("question_id") else None,
    )


def _names(file: str, modality: str) -> bool:
    """Whether a file's name holds a modality, its bracket aside, as words of their own (`oct_test.json` is no CT)."""
    spelt = r"[\W_]*".join(words(modality.split("(")[0]))
    return re.search(rf"(?<![a-z0-9]){spelt}(?![a-z0-9])", file.lower()) is not None


def split_problem(problem: str) -> tuple[str, tuple[str, ...]]:
    """Question and options of "Q? A)x, B)y, ...": the last A) that a B) follows, then letters in order."""
    marks = [(match[1], match.start(1), match.end()) for match in _OPTION.finditer(problem)]
    for first in reversed([at for at, mark in enumerate(marks) if mark[0] == "A"]):
        chosen = [marks[first]]
        for mark in marks[first + 1 :]:
            if mark[0] == chr(ord(chosen[-1][0]) + 1):
                chosen.append(mark)
        if len(chosen) > 1:
            ends = [mark[1] for mark in chosen[1:]] + [len(problem)]
            options = tuple(
                problem[m[2] : end].strip().rstrip(",").strip() for m, end in zip(chosen, ends, strict=True)
            )
            if all(options):
                return problem[: chosen[0][1]].strip(), options
    raise SampleError("malformed_row", f"problem '{problem[:80]}' has no options A) and B)")
