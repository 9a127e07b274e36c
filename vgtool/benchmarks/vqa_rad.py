"""VQA-RAD: the official JSON with its image folder, or the Parquet files on Hugging Face (see `pairs`).

Traps of the JSON: "CLOSED " with a space, answers that are numbers or have a tab in front, and the test rows being
those whose phrase_type begins with `test`. A protocol's filter sees the fields as they stand, spaces included.
"""

from collections.abc import Iterator

from vgtool.benchmarks import pairs
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, group_name, image_of, optional, rows_of, text
from vgtool.records import Rejected, Sample


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `vqa-rad`."""
    files = files_of(request)
    spec = request.spec
    found = files.data(spec.of_split(spec.data, request.split))
    if not found or found[0].suffix == ".parquet":
        return pairs.read_from(request, files)

    def draft(row: Row) -> Draft:
        image, image_id = image_of(row.get("image_name"), files)
        return Draft(
            image=image,
            image_id=image_id,
            question=text(row, "question"),
            kind="closed" if optional(row, "answer_type") == "CLOSED" else "open",
            reference=text(row, "answer"),
            group=group_name(spec.groups, optional(row, "image_organ")),
        )

    def of_split(row: object) -> bool:
        return not isinstance(row, dict) or optional(row, "phrase_type").startswith("test") == (request.split == "test")

    rows = (row for row in rows_of(request, files) if of_split(row))
    return build(request, rows, draft, own_id=lambda row: optional(row, "qid") or None, facts=pairs.facts)
