"""From stored masks to layers: a mask of one class, a label map's classes, boxes alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.build.measure import Instance, Mask, box_around, components
from vgtool.build.picture import Layer, Report
from vgtool.errors import SampleError
from vgtool.images import Names, open_binary, open_labels
from vgtool.images.masks import UNKNOWN_COLOUR
from vgtool.records import Box, ImageSource

MOST_UNKNOWN = 10
"""Values without a name that are told one by one."""


def binary(source: ImageSource, width: int, height: int, report: Report) -> Mask | None:
    """A mask of one class. None, reported, where it is none, is empty, or of another size than its image."""
    try:
        mask = open_binary(source)
    except SampleError as error:
        report(error.code.replace("image_", "mask_"), source.name, error.detail)
        return None
    if not _fits(mask, source.name, width, height, report):
        return None
    if not mask.any():
        report("mask_empty", source.name, "no pixel is set")
        return None
    return mask


def label_map(source: ImageSource, names: Names, width: int, height: int, report: Report) -> list[Layer]:
    """The classes of a label map; none, reported, where it cannot be read as one."""
    try:
        values = open_labels(source, names)
    except SampleError as error:
        report(error.code.replace("image_", "mask_"), source.name, error.detail)
        return []
    return labelled(values, names, source.name, report) if _fits(values, source.name, width, height, report) else []


def _fits(values: NDArray[Any], name: str, width: int, height: int, report: Report) -> bool:
    if values.shape == (height, width):
        return True
    report("mask_size", name, f"{values.shape[1]} x {values.shape[0]}, the image {width} x {height}")
    return False


def labelled(values: NDArray[Any], names: Names, where: str, report: Report) -> list[Layer]:
    """The classes of values [height, width]; instances are connected parts."""
    there = set(np.unique(values).tolist())
    tell_unknown(there, names, where, report)
    layers = []
    for label, own in names.by_class.items():
        if present := sorted(own & there):
            mask = values == present[0] if len(present) == 1 else np.isin(values, present)
            layers.append(Layer(label, tuple(components(mask)), mask))
    return layers


def tell_unknown(there: set[int], names: Names, where: str, report: Report) -> None:
    """Report the values that have no name, the first ones each by itself."""
    unknown = sorted(value for value in there if not names.knows(value))
    for value in unknown[:MOST_UNKNOWN]:
        what = f"value {value}" if value < UNKNOWN_COLOUR else f"colour #{value - UNKNOWN_COLOUR:06x}"
        report("unknown_class", where, f"{what} has no name")
    if len(unknown) > MOST_UNKNOWN:
        report("unknown_class", where, f"{len(unknown) - MOST_UNKNOWN} more values have no name")


def united(label: str, masks: Sequence[Mask], *, countable: bool = True) -> Layer:
    """One class of several masks, each an instance."""
    union = masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)
    parts = [Instance(box_around(mask), int(mask.sum())) for mask in masks]
    ordered = sorted(parts, key=lambda one: (one.box.y0, one.box.x0, one.box.as_list()))
    return Layer(label, tuple(ordered), union, countable)


def boxed(label: str, boxes: Sequence[Box], width: int, height: int) -> Layer:
    """One class of which only boxes are known; what lies outside the picture is cut off."""
    inside = [part for box in boxes if (part := box.clipped(width, height))]
    return Layer(label, tuple(Instance(box, round(box.area)) for box in inside), None)
