"""MedThinkVQA: cases of several images, a clinical history and five diagnoses, one JSON object a line.

The question is the history, then `ASKED`: the authors' own words are not public. IMAGING_FINDINGS, discussion and the
captions tell the diagnosis and are never shown. The images of a case are `image_01_path` on, in their order.
"""

import re
from collections.abc import Iterator

from vgtool.benchmarks.options import by_letter, options_of
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.rows import Draft, Row, build, files_of, image_of, optional, rows_of, text
from vgtool.errors import SampleError
from vgtool.records import Rejected, Sample

ASKED = "Which is the most likely diagnosis?"
_IMAGE = re.compile(r"image_\d+_path")


def read(request: Request) -> Iterator[Sample | Rejected]:
    """Reader of the registry key `medthinkvqa`."""
    files = files_of(request)

    def draft(row: Row) -> Draft:
        named = [row[key] for key in sorted(row) if _IMAGE.fullmatch(key) and row[key]]
        if not named:
            raise SampleError("image_missing", "the row names no image")
        images = [image_of(name, files) for name in named]
        choices = options_of(row.get("options"))
        return Draft(
            image=images[0][0],
            image_id=images[0][1],
            question=f"{text(row, 'CLINICAL_HISTORY')}\n{ASKED}",
            kind="choice",
            reference=by_letter(choices, text(row, "correct_answer")),
            choices=choices,
            group=optional(row, "image_01_modality"),
            extra_images=tuple(image for image, _ in images[1:]),
        )

    return build(request, rows_of(request, files), draft)
