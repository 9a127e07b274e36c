"""Where DICOM pictures lie in the patient: the plane of each frame, and a series in order of position.

Slices are ordered along the normal of their plane (PS3.3 C.7.6.2.1.1), axial ones mostly from the feet up; names and
instance numbers of files do not matter. Only pictures without a position are ordered by their instance numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.errors import SampleError
from vgtool.images.files import reading
from vgtool.images.voi import numbers

PARALLEL = 0.999
"""Cosine from which two directions are one."""
UIDS = ("FrameOfReference", "SeriesInstance", "SOPInstance")
APART = 1e-3
"""Millimetres that two slices lie apart at least."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """A frame in the patient, in millimetres."""

    origin: NDArray[np.float64]
    """Centre of the first pixel."""
    across: NDArray[np.float64]
    """From one column to the next: direction of length 1."""
    down: NDArray[np.float64]
    """From one row to the next: direction of length 1."""
    spacing: tuple[float, float]
    """Between columns, between rows."""
    size: tuple[int, int]
    """Columns, rows."""

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.across, self.down)

    def depth(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far points [..., 3] lie above the plane, along its normal."""
        return (point - self.origin) @ self.normal

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Column and row [..., 2] of points [..., 3]; whole numbers are the centres of pixels."""
        away = points - self.origin
        return np.stack([away @ self.across / self.spacing[0], away @ self.down / self.spacing[1]], -1)

    def centres(self) -> NDArray[np.float64]:
        """Centres of all pixels [rows, columns, 3]."""
        columns, rows = (np.arange(side)[:, None] * step for side, step in zip(self.size, self.spacing, strict=True))
        return self.origin + (columns * self.across)[None] + (rows * self.down)[:, None]


def planes(file: Any, name: str) -> list[Plane | None]:
    """The plane of each frame; None where the file does not say."""
    with reading(name, "image_unreadable", "has no usable position"):
        size = (int(file.get("Columns") or 0), int(file.get("Rows") or 0))
        shared = list(file.get("SharedFunctionalGroupsSequence") or ())[:1]
        frames = list(file.get("PerFrameFunctionalGroupsSequence") or ()) or [file]
        return [_plane([file, *shared, frame], size, name) for frame in frames]


def _plane(said: Sequence[Any], size: tuple[int, int], name: str) -> Plane | None:
    """From the data set itself, its shared groups and the frame's own; the last that says something counts."""
    homes = [
        ("PlanePositionSequence", "ImagePositionPatient", 3),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        ("PixelMeasuresSequence", "PixelSpacing", 2),
    ]
    found = []
    for sequence, keyword, length in homes:
        places = [one for group in said for one in (group, *list(group.get(sequence) or ())[:1])]
        values = [value for place in places if len(value := numbers(place, keyword, name)) == length]
        if not values:
            return None
        found.append(np.array(values[-1]))
    position, direction, spacing = found
    across, down = direction[:3], direction[3:]
    if min(np.linalg.norm(across), np.linalg.norm(down), *spacing) <= 0 or abs(across @ down) > 0.01:
        return None
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    return Plane(position, across, down, (float(spacing[1]), float(spacing[0])), size)


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """One picture of a series."""

    name: str
    frame: int | None
    """In a multi-frame file; None for the only one."""
    plane: Plane | None
    space: str
    """Unique identifier of its frame of reference: positions in different ones say nothing of each other."""
    series: str
    """Unique identifier."""
    instance: str
    """Unique identifier of the file."""
    number: float | None
    """InstanceNumber."""


def slices(file: Any, name: str) -> list[Slice]:
    """The pictures of a file, by its header; none for a file that has no picture."""
    with reading(name, "image_unreadable", "has no usable header"):
        if not file.get("Rows") or not file.get("Columns"):
            return []
        frames = int(file.get("NumberOfFrames") or 1)
        space, uid, instance = (str(file.get(f"{one}UID") or "") for one in UIDS)
        number = next(iter(numbers(file, "InstanceNumber", name)), None)
    lying = planes(file, name)
    lying = lying * frames if len(lying) == 1 else lying
    return [
        Slice(name, at if frames > 1 else None, lying[at] if at < len(lying) else None, space, uid, instance, number)
        for at in range(frames)
    ]


def ordered(found: Iterable[Slice], where: str) -> list[Slice]:
    """The slices of one series by position. SampleError `series_...` where they are no stack of slices."""
    several = list(found)
    if len({one.series for one in several}) > 1:
        raise SampleError("series_mixed", f"'{where}' holds several series; keep each in a folder of its own")
    if not several:
        raise SampleError("series_empty", f"'{where}' holds no DICOM picture")
    placed = [one.plane for one in several if one.plane is not None]
    if len(placed) < len(several):
        return _by_number(several, where)
    first = placed[0]
    if any(min(one.across @ first.across, one.down @ first.down) < PARALLEL for one in placed):
        raise SampleError("series_mixed", f"'{where}' holds slices in several directions")
    depths = np.array([float(first.normal @ one.origin) for one in placed])
    order = np.argsort(depths, kind="stable")
    if len(several) > 1 and np.diff(depths[order]).min() < APART:
        at = several[int(order[int(np.diff(depths[order]).argmin())])].name
        raise SampleError("series_mixed", f"'{where}' holds several slices at one position, such as '{at}'")
    return [several[int(at)] for at in order]


def _by_number(several: list[Slice], where: str) -> list[Slice]:
    keys = [(one.number, one.frame or 0) for one in several]
    unnumbered = len(several) > 1 and any(number is None for number, _ in keys)
    if unnumbered or len(set(keys)) < len(keys):
        raise SampleError("series_mixed", f"'{where}' holds pictures with neither positions nor different numbers")
    return sorted(several, key=lambda one: (one.number or 0, one.frame or 0))
