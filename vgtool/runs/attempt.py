"""The rows of some images, whatever happens to them: less at a time while memory runs out, alone what fails together.

Out of memory leaves the handler first, so that the failed pass's tensors are free. Then half the images go through at a
time, and of a single image half the questions; how many fitted is remembered by image tokens.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from vgtool.errors import SampleError
from vgtool.methods.task import ImageGroup, Row, Task

NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What torch's CPU allocator, CUDA itself and cuBLAS say for want of memory, not as torch.OutOfMemoryError."""


@dataclass
class Limits:
    """What memory was enough for, where it once was not: image tokens of a prompt -> most a pass."""

    images: dict[int, int] = field(default_factory=dict)
    questions: dict[int, int] = field(default_factory=dict)

    @staticmethod
    def of(known: dict[int, int], tokens: int) -> int | None:
        return min((limit for size, limit in known.items() if size <= tokens), default=None)


def attempt(task: Task, groups: Sequence[ImageGroup], most: int | None, limits: Limits) -> list[Row]:
    """All rows of groups of one form. `most`: questions of an image in one pass."""
    tokens = sum(vision.tokens for vision in groups[0].visions)
    size = Limits.of(limits.images, tokens) or len(groups)
    if size < len(groups):
        parts = [groups[at : at + size] for at in range(0, len(groups), size)]
        return [row for part in parts for row in attempt(task, part, most, limits)]
    if len(groups) == 1:
        return _single(task, groups[0], most, limits)
    found = _tried(task, groups, min(filter(None, (most, Limits.of(limits.questions, tokens))), default=None))
    if isinstance(found, SampleError):
        return [row for group in groups for row in attempt(task, [group], most, limits)]
    if found is not None:
        return list(found)
    _free()
    limits.images[tokens] = (len(groups) + 1) // 2
    return attempt(task, groups, most, limits)


def _single(task: Task, group: ImageGroup, most: int | None, limits: Limits) -> list[Row]:
    """The rows of one image. When one question a pass is too many, or its questions fail together, each sample is tried
    by itself, and what fails alone fails."""
    tokens, count = sum(vision.tokens for vision in group.visions), len(group.samples)
    known = Limits.of(limits.questions, tokens)
    most = min((n for n in (most, known) if n is not None), default=None)
    while True:
        found = _tried(task, [group], most)
        if found is not None and not isinstance(found, SampleError):
            return list(found)
        if count == 1:
            reason = str(found or "out_of_memory: one question on this image does not fit the device")
            return list(task.failed(group.samples[0], reason))
        if found is not None:
            break
        _free()
        if most == 1:
            break
        most = (min(most or count, count) + 1) // 2
        limits.questions[tokens] = most
    singles = [replace(group, samples=(sample,)) for sample in group.samples]
    return [row for one in singles for row in _single(task, one, 1, limits)]


def _tried(task: Task, groups: Sequence[ImageGroup], most: int | None) -> Sequence[Row] | SampleError | None:
    """The rows; why they fail together; or None when memory ran out: the error and the tensors its traceback holds are
    gone by then."""
    try:
        return task.run(groups, most)
    except SampleError as error:
        return error.with_traceback(None)
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_MEMORY):
            raise  # any other error of a device leaves it unusable: the process ends, and a rerun goes on
        return None


def _free() -> None:
    gc.collect()  # what a cycle of references still holds of the failed pass
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
