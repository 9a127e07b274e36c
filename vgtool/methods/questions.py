"""Questions on their way into a pass, and the columns that every row of a run has."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pyarrow as pa

from vgtool.errors import SampleError
from vgtool.images.levels import USED
from vgtool.methods.task import ImageGroup, Row
from vgtool.models.inputs import Prompt
from vgtool.records import Rejected, Sample

PACK_TOKENS = 512
"""Tokens of an image's questions in one pass; more of them gain nothing."""

COMMON = [
    ("sample_id", pa.string()),
    ("image_id", pa.string()),
    ("group", pa.string()),
    ("question_type", pa.string()),
    ("question", pa.string()),
    ("prompt", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("window", pa.string()),
    ("grid_rows", pa.int32()),
    ("grid_cols", pa.int32()),
    ("grid_box", pa.list_(pa.float64())),
    ("boxes", pa.list_(pa.list_(pa.float64()))),
    ("region", pa.list_(pa.int32())),
    ("error", pa.string()),
]
FLOATS = pa.list_(pa.float32())


@dataclass(frozen=True, slots=True)
class Question:
    """A sample whose prompt is ready, and which of the groups at hand shows its image."""

    image: int
    sample: Sample
    prompt: Prompt


def rounds(
    groups: Sequence[ImageGroup], prompt: Callable[[str, int], Prompt], most: int | None
) -> tuple[Iterator[list[Question]], list[tuple[Sample, SampleError]]]:
    """What goes into each pass: of every image as many questions as fit; and samples whose prompt cannot be made."""
    failed: list[tuple[Sample, SampleError]] = []
    packs = [_packs(at, group, prompt, most, failed) for at, group in enumerate(groups)]
    return ([one for pack in some for one in pack] for some in zip_longest(*packs, fillvalue=())), failed


def _packs(
    image: int,
    group: ImageGroup,
    prompt: Callable[[str, int], Prompt],
    most: int | None,
    failed: list[tuple[Sample, SampleError]],
) -> list[list[Question]]:
    packs: list[list[Question]] = []
    used = 0
    for sample in group.samples:
        try:
            question = Question(image, sample, prompt(sample.prompt, len(group.images)))
        except SampleError as error:
            failed.append((sample, error.with_traceback(None)))
            continue
        size = len(question.prompt.tail)
        if not packs or used + size > PACK_TOKENS or len(packs[-1]) == most:
            packs.append([])
            used = 0
        packs[-1].append(question)
        used += size
    return packs


def common(question: Question, group: ImageGroup, region: Sequence[int], sent: str) -> Row:
    """The columns that probe and refine rows share; `sent`: the prompt as it was sent."""
    sample = question.sample
    geometry = group.visions[0].geometry
    return {
        "sample_id": sample.id,
        "image_id": sample.image_id,
        "group": sample.group,
        "question_type": sample.question_type,
        "question": sample.question,
        "prompt": sent,
        "width": geometry.width,
        "height": geometry.height,
        "window": group.images[0].info.get(USED),
        "grid_rows": geometry.grid.rows if geometry.placed else None,
        "grid_cols": geometry.grid.cols if geometry.placed else None,
        "grid_box": list(geometry.grid_box()) if geometry.placed else None,
        "boxes": [box.as_list() for box in sample.boxes],
        "region": list(region),
        "error": None,
    }


def failure(sample: Sample | Rejected, reason: str) -> Row:
    """A row without a result."""
    known = {"group": sample.group, "question_type": sample.question_type} if isinstance(sample, Sample) else {}
    ids = {"sample_id": sample.id, "image_id": sample.image_id, "question": sample.question}
    return {**ids, **known, "error": reason}
