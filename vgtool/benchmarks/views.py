"""Which picture of a file or series a row asks about, and in which window: its `slice`, `axis` and `window`.

A series is a folder of DICOM files, whose slices are counted by position (vgtool.images.series) and not by name.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vgtool.benchmarks.rows import image_of
from vgtool.benchmarks.sources import Files, LocatedImage
from vgtool.errors import SampleError
from vgtool.images import open_mask, open_region
from vgtool.records import ImageSource, View

KEYS = ("slice", "axis", "window")
PLAIN = View()
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def view_of(row: Mapping[str, Any]) -> View:
    """What a row says of its picture. SampleError `malformed_row` for what means nothing."""
    if row.keys().isdisjoint(KEYS):
        return PLAIN
    at, axis, window = (row.get(key) for key in KEYS)
    if at is not None and (type(at) is not int or at < 0):
        raise SampleError("malformed_row", f"slice {at!r} is no whole number from 0 on")
    number = 2 if axis is None else AXES.get(axis) if isinstance(axis, str) else axis if type(axis) is int else None
    if number not in (0, 1, 2):
        raise SampleError("malformed_row", f"axis {axis!r} is none of {', '.join(AXES)}")
    return View(at, number, _window(window))


def _window(value: Any) -> tuple[float, float] | int | str | None:
    if value is None or (isinstance(value, str) and value.strip()) or (type(value) is int and value >= 0):
        return value.strip() if isinstance(value, str) else value
    if isinstance(value, (list, tuple)) and len(value) == 2:
        ends = [float(one) for one in value if isinstance(one, (int, float)) and not isinstance(one, bool)]
        if len(ends) == 2 and all(map(math.isfinite, ends)) and ends[0] < ends[1]:
            return ends[0], ends[1]
    said = "neither [low, high], nor the number or name of a window that the file states, nor full"
    raise SampleError("malformed_row", f"window {str(value)[:80]} is {said}")


def seen_image(value: object, files: Files, view: View) -> tuple[ImageSource, str]:
    """As rows.image_of, seen as the row says; views of one file are images of their own. A folder is a series."""
    if view.slice is not None and isinstance(value, str) and files.has_folder(value):
        source: ImageSource = files.series(value, view.slice)
        return replace(source, name=f"{source.name}{view.suffix}", view=replace(view, slice=None)), (
            f"{source.name}{view.suffix}"
        )
    source, image_id = image_of(value, files)
    if not view.suffix:
        return source, image_id
    return replace(source, name=f"{source.name}{view.suffix}", view=view), f"{image_id}{view.suffix}"


def seen_mask(files: Files, name: str, value: int | None, image: ImageSource, view: View) -> Callable[[], object]:
    """Where a mask file is set, or has a value; of a file with several pictures the slice of its row, of a NIfTI volume
    on the grid of its image. SampleError `mask_missing` where there is none."""
    found: LocatedImage = files.source(name)
    if not found.exists():
        raise SampleError("mask_missing", f"'{name}' is not in the data folder{files.looked(name)}")
    source = replace(found, view=View(view.slice, view.axis))
    if value is None:
        return lambda: open_region(source, image=image)
    return lambda: open_mask(source, image=image) == value
