"""Masks as run lengths: {"size": [height, width], "counts": [...]}, column by column, the first run being background.

This is COCO's form, so that its tools read what is written here and the other way round. Its compressed form, a text in
place of the list, is read too: five bits a character, lowest first, each run less the one before the last.
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
    if isinstance(counts, (str, bytes)):
        counts = _runs(counts.encode("latin-1", "replace") if isinstance(counts, str) else counts)
    if not _whole(counts):
        raise ValueError("the counts are no list of whole numbers")
    height, width = size
    if height * width > MAX_PIXELS or sum(counts) != height * width:
        raise ValueError(f"runs of {sum(counts):,} pixels do not fill {width} x {height}")
    marks = np.arange(len(counts)) % 2 == 1
    return np.repeat(marks, counts).reshape((height, width), order="F")


def _runs(text: bytes) -> list[int]:
    """The runs of the compressed form."""
    found: list[int] = []
    number = shift = 0
    for byte in text:
        part = byte - 48
        if not 0 <= part < 64 or shift > 60:
            raise ValueError("the counts are no run lengths that COCO's tools write")
        number |= (part & 31) << shift
        shift += 5
        if part & 32:
            continue
        if part & 16:
            number -= 1 << shift
        found.append(number + (found[-2] if len(found) > 2 else 0))
        number = shift = 0
    if shift:
        raise ValueError("the counts end amid a number")
    return found


def _whole(values: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(values, Sequence) and all(type(value) is int and value >= 0 for value in values)
