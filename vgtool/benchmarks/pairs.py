"""Parquet with image, question and answer and nothing else: PathVQA, and VQA-RAD as it is on Hugging Face.

No field says what kind a question is, so an answer that is yes or no makes it closed.
"""

from collections.abc import Iterator

from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, image_of, polarity, rows_of, text
from vgtool.benchmarks.sources import Files
from vgtool.records import Rejected, Sample


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `pairs`."""
    return read_from(request, files_of(request))


def read_from(request: Request, files: Files) -> Iterator[Sample | Rejected]:
    def draft(row: Row) -> Draft:
        image, image_id = image_of(row.get("image"), files)
        answer = text(row, "answer")
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "question"),
            kind="closed" if polarity(answer) else "open",
            reference=answer,
        )

    return build(request, rows_of(request, files, ("image",)), draft, facts=facts)


def facts(row: Row) -> dict[str, str]:
    return {"yes_no": polarity(row.get("answer"))}
