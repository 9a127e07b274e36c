"""PMC-VQA: csv files whose column `Answer` is a text in version 1 and a letter in version 2.

Version 1 (train, test, test_clean) has `Answer_label` too; where text and letter mean two options the row fails.
Choices repeat their own letter with stray spaces (" A: Right Coronary Artery "), which goes.
"""

from collections.abc import Iterator

from vgtool.benchmarks.options import by_letter
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, image_of, optional, rows_of, text
from vgtool.errors import SampleError
from vgtool.records import Rejected, Sample

LETTERS = "ABCD"


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `pmc-vqa`."""
    files = files_of(request)

    def draft(row: Row) -> Draft:
        image, image_id = image_of(row.get("Figure_path"), files)
        choices = tuple(choice(row, letter) for letter in LETTERS)
        reference = by_letter(choices, text(row, "Answer_label", "Answer"))
        said = _bare(optional(row, "Answer"))
        if "Answer_label" in row and said != reference and said in choices:
            detail = f"Answer '{said[:80]}' is another option than Answer_label {row['Answer_label']}"
            raise SampleError("answer_ambiguous", detail)
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "Question"),
            kind="choice",
            reference=reference,
            choices=choices,
        )

    return build(request, rows_of(request, files), draft)


def choice(row: Row, letter: str) -> str:
    """One option's text without its own letter."""
    value = text(row, f"Choice {letter}")
    return value[2:].strip() if value.startswith(f"{letter}:") and value[2:].strip() else value


def _bare(answer: str) -> str:
    return answer[2:].strip() if answer[:1] in LETTERS and answer[1:2] == ":" else answer
