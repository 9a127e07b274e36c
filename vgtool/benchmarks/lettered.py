"""Sets of lettered questions about one or several images, published since 2024: MedXpertQA MM, MedFrameQA, MMMU-Pro.

Their fields differ in name only: options as a list, a list in a string or letter -> text, the answer as a letter in
`label`, `correct_answer` or `answer`; images stored as image_1, image_2, ... or named in `images`. MMMU-Pro's single
file holds every subject; rows of those that the entry's `subjects` does not name are not part of it.
"""

from collections.abc import Iterator

from vgtool.benchmarks.options import by_either, options_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, group_name, image_of, optional, rows_of, text
from vgtool.errors import SampleError
from vgtool.records import Rejected, Sample

IMAGES = tuple(f"image_{number}" for number in range(1, 10))
ANSWER = ("label", "correct_answer", "answer")
GROUP = ("subject", "modality", "system", "body_system")


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `lettered`."""
    files = files_of(request)
    groups = request.spec.groups
    subjects = set(map(str, request.spec.options.get("subjects", ())))

    def draft(row: Row) -> Draft:
        named = row.get("images")
        stored = [row[field] for field in IMAGES if row.get(field) is not None]
        images = [image_of(one, files) for one in (named if isinstance(named, list) and named else stored)]
        if not images:
            raise SampleError("image_missing", "the row holds no image")
        choices = options_of(row.get("options"))
        if not choices:
            raise SampleError("malformed_row", "a choice question without options")
        return Draft(
            image=images[0][0],
            image_id=images[0][1],
            question=text(row, "question"),
            kind="choice",
            reference=by_either(choices, text(row, *ANSWER)),
            choices=choices,
            group=group_name(groups, optional(row, *GROUP)),
            extra_images=tuple(image for image, _ in images[1:]),
        )

    rows = rows_of(request, files, IMAGES)
    kept = (row for row in rows if not subjects or not isinstance(row, dict) or optional(row, "subject") in subjects)
    return build(request, kept, draft, own_id=lambda row: optional(row, "id", "question_id") or None)
