"""What can be measured of a mask and its pixels, each with a margin: an answer, or None where it is not clear.

Sides are sides of the picture as it is stored, never the patient's. A pixel counts at its centre.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vgtool.grounding.geometry import Geometry
from vgtool.records import Box, Grid

Mask = NDArray[np.bool_]
_EIGHT = np.ones((3, 3), bool)

HALF_SHARE = 0.8
"""Side and quadrant: at least this share of the pixels lies there."""
SIZE_RATIO = 1.5
"""Larger or smaller of two: the areas differ by at least this factor."""
TONE_LEVELS = 12.0
"""Brighter or darker: the means differ by at least this many of 255 grey levels,"""
TONE_SPREAD = 0.5
"""and by this many pooled standard deviations."""
TONE_PIXELS = 20
"""Pixels that the surroundings must have."""
BORDER_SHARE = 0.02
"""Not touching the border: the nearest pixel is this share of the shorter side away, and 3 pixels."""
ROUND_RATIO, LONG_RATIO = 0.8, 0.5
"""Minor by major axis: round from the first up, elongated from the second down."""
ELLIPSE_FILL = 0.9
"""Both only where the area is this share of the ellipse with the same axes, or more (no rings, no crescents)."""
SHAPE_PIXELS = 64
"""Pixels that a shape must have."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One thing of a class: its box (continuous edges) and its pixels."""

    box: Box
    area: int


def box_around(mask: Mask) -> Box:
    """The box of a mask that is not empty: the last pixel's far edge is in it."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(xs[0]), float(ys[0]), float(xs[-1]) + 1, float(ys[-1]) + 1)


def components(mask: Mask) -> list[Instance]:
    """Connected parts (diagonals connect), from the top, then from the left."""
    whole = box_around(mask)
    x0, y0 = int(whole.x0), int(whole.y0)
    parts, number = ndimage.label(mask[y0 : int(whole.y1), x0 : int(whole.x1)], _EIGHT)
    areas = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    found = []
    for (rows, cols), area in zip(ndimage.find_objects(parts), areas, strict=True):
        box = Box(x0 + cols.start, y0 + rows.start, x0 + cols.stop, y0 + rows.stop)
        found.append(Instance(Box(*map(float, box.as_list())), int(area)))
    return sorted(found, key=lambda one: (one.box.y0, one.box.x0, one.box.as_list()))


def grid_share(boxes: Sequence[Box], width: int, height: int, side: int) -> float:
    """Share of a side x side grid that boxes touch, the image padded to a square: the paper's ratio."""
    grid = Grid(side, side)
    return len(Geometry.pad(width, height, side * 14, grid).region(boxes)) / grid.tokens


def side(mask: Mask) -> str | None:
    """left or right."""
    columns = mask.sum(0)
    width = len(columns)
    left, right = columns[: width // 2].sum(), columns[(width + 1) // 2 :].sum()
    return _most({"left": left, "right": right}, columns.sum())


def quadrant(mask: Mask) -> str | None:
    """upper left, upper right, lower left or lower right."""
    height, width = mask.shape
    up, down = mask[: height // 2], mask[(height + 1) // 2 :]
    cut, rest = width // 2, (width + 1) // 2
    found = {
        "upper left": up[:, :cut].sum(),
        "upper right": up[:, rest:].sum(),
        "lower left": down[:, :cut].sum(),
        "lower right": down[:, rest:].sum(),
    }
    return _most(found, mask.sum())


def _most(shares: dict[str, Any], total: int) -> str | None:
    name = max(shares, key=lambda one: shares[one])
    return name if shares[name] >= HALF_SHARE * total else None


def tone(gray: NDArray[np.uint8], mask: Mask) -> str | None:
    """brighter or darker than the ring around it, in mean grey level. The ring is as wide as a tenth of the square
    root of the area, 2 pixels at least."""
    inside, ring = inside_and_ring(gray, mask)
    if len(ring) < TONE_PIXELS or not len(inside):
        return None
    gap = float(inside.mean() - ring.mean())
    pooled = math.sqrt((float(inside.var()) + float(ring.var())) / 2)
    if abs(gap) < TONE_LEVELS or abs(gap) < TONE_SPREAD * pooled:
        return None
    return "brighter" if gap > 0 else "darker"


def inside_and_ring(gray: NDArray[np.uint8], mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grey levels under the mask and of the ring around it."""
    reach = max(2, round(0.1 * math.sqrt(int(mask.sum()))))
    box = box_around(mask)
    rows = slice(max(int(box.y0) - reach, 0), int(box.y1) + reach)
    cols = slice(max(int(box.x0) - reach, 0), int(box.x1) + reach)
    near, pixels = mask[rows, cols], gray[rows, cols].astype(np.float64)
    grown = ndimage.maximum_filter(near.astype(np.uint8), 2 * reach + 1, mode="constant", cval=0) > 0
    return pixels[near], pixels[grown & ~near]


def border(mask: Mask) -> str | None:
    """yes when a pixel lies on the picture's border, no when all are clearly away from it."""
    height, width = mask.shape
    box = box_around(mask)
    gap = min(box.x0, box.y0, width - box.x1, height - box.y1)
    if gap == 0:
        return "yes"
    return "no" if gap >= max(3.0, BORDER_SHARE * min(width, height)) else None


def axes(mask: Mask) -> tuple[float, float]:
    """Major and minor axis of the ellipse with the mask's second moments, a pixel being a unit square."""
    ys, xs = np.nonzero(mask)
    xx, yy = float(xs.var()) + 1 / 12, float(ys.var()) + 1 / 12
    xy = float(((xs - xs.mean()) * (ys - ys.mean())).mean())
    root = math.sqrt((xx - yy) ** 2 + 4 * xy**2)
    return 4 * math.sqrt((xx + yy + root) / 2), 4 * math.sqrt(max((xx + yy - root) / 2, 0.0))


def shape(mask: Mask) -> str | None:
    """round or elongated, of a single part inside the picture."""
    box = box_around(mask)
    height, width = mask.shape
    crop = mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
    area = int(crop.sum())
    cut = min(box.x0, box.y0, width - box.x1, height - box.y1) == 0
    if cut or area < SHAPE_PIXELS or ndimage.label(crop, _EIGHT)[1] != 1:
        return None
    major, minor = axes(crop)
    if area < ELLIPSE_FILL * math.pi / 4 * major * minor:
        return None
    ratio = minor / major
    return "round" if ratio >= ROUND_RATIO else "elongated" if ratio <= LONG_RATIO else None


def count(mask: Mask, instances: Sequence[Instance], least: int) -> int | None:
    """How many: only where the instances are the mask's connected parts, none of them a speck."""
    parts = components(mask)
    return len(parts) if len(parts) == len(instances) and min(part.area for part in parts) >= least else None


def larger(first: int, second: int) -> bool | None:
    """Whether the first area is the larger one."""
    if max(first, second) < SIZE_RATIO * min(first, second):
        return None
    return first > second


def polygon(points: Sequence[tuple[float, float]], width: int, height: int) -> Mask:
    """Pixels whose centre is inside a polygon (even-odd); x runs right, y down, pixel i from i to i + 1."""
    flips = np.zeros((height, width + 1), np.int32)
    for (xa, ya), (xb, yb) in zip(points, [*points[1:], points[0]], strict=True):
        if ya == yb:
            continue
        low, high = (ya, yb) if ya < yb else (yb, ya)
        rows = np.arange(max(math.ceil(low - 0.5), 0), min(math.ceil(high - 0.5), height))
        crossings = xa + (rows + 0.5 - ya) * (xb - xa) / (yb - ya)
        np.add.at(flips, (rows, np.clip(np.ceil(crossings - 0.5), 0, width).astype(int)), 1)
    return np.cumsum(flips, 1)[:, :width] % 2 == 1
