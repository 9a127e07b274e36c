"""Masks as run lengths: {"size": [height, width], "counts": [...]}, column by column, the first run being background.

This is COCO's uncompressed form, so that its tools read what is written here and the other way round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 100_000_000


def encode(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Run lengths of a mask [height, width]."""
    flat = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [int(side) for side in mask.shape], "counts": counts.tolist()}


def decode(value: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask [height, width]. ValueError when the runs are not whole numbers that fill the size."""
    size, counts = value.get("size"), value.get("counts")
    if not (_whole(size) and len(size) == 2 and all(side > 0 for side in size)):
        raise ValueError(f"size {size!r} is not [height, width]")
    if not _whole(counts):
        raise ValueError("the counts are no list of whole numbers")
    height, width = size
    if height * width > MAX_PIXELS or sum(counts) != height * width:
        raise ValueError(f"runs of {sum(counts):,} pixels do not fill {width} x {height}")
    marks = np.arange(len(counts)) % 2 == 1
    return np.repeat(marks, counts).reshape((height, width), order="F")


def _whole(values: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(values, Sequence) and all(type(value) is int and value >= 0 for value in values)
