"""Boxes: every published way of writing four numbers, as stored pixels with continuous edges.

xyxy            x0 y0 x1 y1, pixels
xywh            x0 y0 width height, pixels
xyxy-inclusive  x0 y0 x1 y1, the greatest pixel included, so one is added
normalised      x0 y0 x1 y1 as shares of the image, 0 to 1
normalised-1000 the same, 0 to 1000
"""

from collections.abc import Callable, Sequence

from vgtool.benchmarks.options import literal
from vgtool.errors import SampleError
from vgtool.records import Box

BOX_FORMATS = ("xyxy", "xywh", "xyxy-inclusive", "normalised", "normalised-1000")
SHARES = {"normalised": 1, "normalised-1000": 1000}
"""Formats in shares of the image -> what its far edge is."""
Size = Callable[[], tuple[int, int]]
"""Reads the width and height of a box's image, when a format needs them."""


def boxes_of(values: object, form: str, size: Size | None = None) -> tuple[Box, ...]:
    """Boxes in stored pixels. SampleError, with the format that would fit, for an impossible one."""
    if isinstance(values, str):
        values = literal(values)
    if not isinstance(values, (list, tuple)):
        raise SampleError("malformed_row", f"the boxes are no list: {str(values)[:80]}")
    if values and not isinstance(values[0], (list, tuple)):
        values = [values]
    scale = (1.0, 1.0)
    if values and form in SHARES:
        if size is None:
            raise SampleError("malformed_row", f"boxes of this benchmark are in pixels, not {form}")
        width, height = size()
        scale = (width / SHARES[form], height / SHARES[form])
    return tuple(_box(one, form, scale) for one in values)


def all_shares(boxes: Sequence[Box]) -> bool:
    """Whether boxes that were read as pixels can only be shares of their images: all lie within 0 to 1. (Read as
    inclusive their far edges are one further, and some edge is not whole.)"""
    edges = [edge for box in boxes for edge in box.as_list()]
    if not edges or min(edges) < 0:
        return False
    return max(edges) <= 1 or (max(edges) <= 2 and any(not edge.is_integer() for edge in edges))


def _box(value: object, form: str, scale: tuple[float, float]) -> Box:
    numbers = value if isinstance(value, (list, tuple)) else ()
    if len(numbers) != 4 or not all([isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers]):
        raise SampleError("malformed_row", f"box {str(value)[:80]} is not four numbers")
    if form in SHARES and not all(0 <= n <= SHARES[form] for n in numbers):
        raise SampleError(
            "malformed_row", f"box {list(numbers)} is impossible as {form}: not within 0 to {SHARES[form]}"
        )
    try:
        return _edges(numbers, form, scale)
    except (ValueError, OverflowError):
        fits = [other for other in BOX_FORMATS[:3] if other != form and _possible(numbers, other)]
        hint = f"; it would be possible as {fits[0]} (--box-format {fits[0]})" if fits else ""
        raise SampleError("malformed_row", f"box {list(numbers)} is impossible as {form}{hint}") from None


def _edges(numbers: Sequence[float], form: str, scale: tuple[float, float] = (1.0, 1.0)) -> Box:
    x, y, u, v = map(float, numbers)
    if form == "xywh":
        return Box(x, y, x + u, y + v)
    if form == "xyxy-inclusive":
        return Box(x, y, u + 1, v + 1)
    return Box(x * scale[0], y * scale[1], u * scale[0], v * scale[1])


def _possible(numbers: Sequence[float], form: str) -> bool:
    try:
        _edges(numbers, form)
    except (ValueError, OverflowError):
        return False
    return True
