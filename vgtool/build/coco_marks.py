"""COCO's annotations of one picture, as layers: polygons, run lengths, boxes, crowds."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vgtool.build.layers import boxed, united
from vgtool.build.measure import Mask, box_around, polygon
from vgtool.build.picture import Layer, Report
from vgtool.errors import SampleError
from vgtool.grounding import runlength
from vgtool.records import Box

Size = tuple[int, int]
"""Width, height."""
SAME_SHAPE = 0.02
"""Two sizes are the same picture scaled where their proportions differ by this share, or less."""


def annotated(
    marks: Sequence[dict[str, Any]], classes: Mapping[str, str], drawn: Size, size: Size, report: Report
) -> list[Layer]:
    """Layers of annotations that are drawn on a picture of size `drawn` which is stored at `size`."""
    if not _proportional(drawn, size):
        said = f"annotations of {drawn[0]} x {drawn[1]}, the image {size[0]} x {size[1]}"
        for one in marks:
            report("mask_size", f"annotation {one.get('id', '?')}", said)
        return []
    masks: dict[str, list[Mask]] = defaultdict(list)
    boxes: dict[str, list[Box]] = defaultdict(list)
    crowded = {classes[str(one["category_id"])] for one in marks if one.get("iscrowd")}
    for one in marks:
        where, label = f"annotation {one.get('id', '?')}", classes[str(one["category_id"])]
        try:
            mask = segmentation(one.get("segmentation"), drawn, size)
            if mask is None:
                boxes[label].append(_box(one, drawn, size))
            elif mask.any():
                masks[label].append(mask)
            else:
                report("mask_empty", where, "no pixel is set")
        except SampleError as error:
            report(error.code, where, error.detail)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            report("mask_unreadable", where, f"neither segmentation nor bbox can be used: {error}")
    found = []
    for label in sorted(masks.keys() | boxes.keys()):
        if label in boxes:  # one instance without a mask: the class has boxes only
            whole = [*boxes[label], *(box_around(mask) for mask in masks.get(label, ()))]
            found.append(boxed(label, sorted(whole, key=Box.as_list), *size))
        else:
            found.append(united(label, masks[label], countable=label not in crowded))
    return found


def _proportional(drawn: Size, size: Size) -> bool:
    return abs(math.log(drawn[0] * size[1] / (drawn[1] * size[0]))) <= SAME_SHAPE


def _box(one: dict[str, Any], drawn: Size, size: Size) -> Box:
    x, y, w, h = map(float, one["bbox"])
    if max(x, y, w, h) <= 1 < min(drawn):
        raise SampleError("mask_unreadable", f"box {one['bbox']} lies between 0 and 1; pixels are needed")
    across, down = size[0] / drawn[0], size[1] / drawn[1]
    box = Box(x * across, y * down, (x + w) * across, (y + h) * down).clipped(*size)
    if box is None:
        raise SampleError("mask_size", f"box {one['bbox']} lies outside {drawn[0]} x {drawn[1]}")
    return box


def segmentation(value: Any, drawn: Size, size: Size) -> Mask | None:
    """A mask [height, width] of polygons or run lengths; None where there is none, or only polygons without area, for
    which the box stands. SampleError for what cannot be drawn."""
    if not value:
        return None
    if isinstance(value, list):
        return _polygons(value if isinstance(value[0], list) else [value], drawn, size)
    if not isinstance(value, dict):
        raise SampleError("mask_unreadable", f"segmentation {str(value)[:80]!r} is neither polygons nor run lengths")
    width, height = drawn
    if list(value.get("size") or ()) != [height, width]:
        raise SampleError("mask_size", f"run lengths for {value.get('size')}, the image {width} x {height}")
    mask = runlength.decode(value)
    return mask if drawn == size else np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))


def _polygons(rings: list[Any], drawn: Size, size: Size) -> Mask | None:
    across, down = size[0] / drawn[0], size[1] / drawn[1]
    mask = np.zeros(size[::-1], bool)
    flat = True
    for ring in rings:
        numbers = [float(number) for number in ring]
        if len(numbers) % 2 or not all(map(math.isfinite, numbers)):
            raise SampleError("mask_unreadable", f"a polygon of {len(numbers)} numbers")
        if max(map(abs, numbers), default=0) <= 1 < min(drawn):
            raise SampleError("mask_unreadable", "a polygon between 0 and 1; pixels are needed")
        points = [(x * across, y * down) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        if _area(points) > 0:
            flat = False
            mask |= polygon(points, *size)
    return None if flat else mask


def _area(points: Sequence[tuple[float, float]]) -> float:
    """Of the box around a polygon: 0 for a line, a point, or fewer than three corners."""
    if len(points) < 3:
        return 0.0
    xs, ys = zip(*points, strict=True)
    return (max(xs) - min(xs)) * (max(ys) - min(ys))
