"""VQA-RAD: the official JSON with its image folder, or the Parquet files on Hugging Face (see `pairs`).

Traps of the JSON: "CLOSED " with a space, answers that are numbers or have a tab in front, and the test rows being
those whose phrase_type begins with `test`. The form that MEVF's repository made (trainset.json and testset.json, 3,064
and 451 rows) has a file a split, in which phrase_type says nothing about it. A protocol's filter sees the fields as
they stand, spaces included.
"""

from collections.abc import Iterator

from vgtool.benchmarks import pairs
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, group_name, image_of, optional, rows_of, text
from vgtool.benchmarks.tables import Malformed
from vgtool.errors import VgError
from vgtool.records import Rejected, Sample

WHOLE = ("trainset.json", "testset.json")
"""Files of one split each."""


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
            kind="closed" if optional(row, "answer_type").upper() == "CLOSED" else "open",
            reference=text(row, "answer"),
            group=group_name(spec.groups, optional(row, "image_organ")),
        )

    rows = list(rows_of(request, files))
    if found[0].name not in WHOLE:
        rows = _of_split(request, rows)
    return build(request, rows, draft, own_id=lambda row: optional(row, "qid") or None, facts=pairs.facts)


def _of_split(request: Request, rows: list[Row | Malformed]) -> list[Row | Malformed]:
    """The rows of a file of all splits. VgError for a file whose rows do not say which are the test ones, or which are
    all of one split: it would pass for a split that it is not."""
    is_test = [isinstance(row, dict) and optional(row, "phrase_type").startswith("test") for row in rows]
    if all(is_test) or not any(is_test):
        only = "test rows" if all(is_test) else "no row whose phrase_type begins with test"
        raise VgError(
            f"'{request.files[-1]}' has {only}, so it is not the official file of both splits.",
            f"Rename a file of one split to {' or '.join(WHOLE)}.",
        )
    wanted = request.split == "test"
    return [row for row, test in zip(rows, is_test, strict=True) if test == wanted or not isinstance(row, dict)]
