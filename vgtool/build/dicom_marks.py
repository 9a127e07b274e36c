"""DICOM SEG and RT-STRUCT as masks of slices.

A segment's frame belongs to the slice in whose plane it lies (or to the picture that it names, where it states no
position), and is taken over pixel by pixel, the nearest where the grids differ. Fractional segments are set where their
value is half of the greatest or more. A contour fills the pixels whose centre it holds; where contours of one structure
overlap, the inner one is a hole.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.build.measure import Mask, polygon
from vgtool.build.picture import Report
from vgtool.errors import SampleError
from vgtool.images import dicom
from vgtool.images.files import reading
from vgtool.images.series import PARALLEL, Plane, Slice, planes

FRACTION = 0.5
"""A fractional segment is set from this share of MaximumFractionalValue on."""
NEAR = 0.5
"""Millimetres that a frame or contour may lie off its slice."""

Stacks = Sequence[Sequence[Slice]]
"""Series, each in order."""
Marks = dict[Slice, list["Mark"]]


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """One class in one slice, drawn when it is asked for."""

    name: str
    """Of the file that holds it."""
    label: str
    mask: Callable[[], Mask]


def _homes(stacks: Stacks, spaces: Collection[str], series: Collection[str]) -> Stacks:
    """The series that an object can mark: those it names, else those in its own frame of reference."""
    named = [stack for stack in stacks if stack[0].series in series]
    return named or [stack for stack in stacks if stack[0].space and stack[0].space in spaces]


def _nearest(plane: Plane, stacks: Stacks) -> Slice | None:
    """The slice in whose plane another one lies."""
    best: tuple[float, Slice] | None = None
    for one in (one for stack in stacks for one in stack):
        if one.plane is None or abs(one.plane.normal @ plane.normal) < PARALLEL:
            continue
        off = abs(float(one.plane.depth(plane.origin)))
        if off <= NEAR and (best is None or off < best[0]):
            best = (off, one)
    return best[1] if best else None


def onto(mask: Mask, own: Plane, other: Plane) -> Mask:
    """A mask in its own plane, taken over by the pixels of another plane that it lies in: each takes the nearest."""
    at = np.floor(own.pixels(other.centres()) + 0.5).astype(int)
    columns, rows = at[..., 0], at[..., 1]
    inside = (columns >= 0) & (columns < own.size[0]) & (rows >= 0) & (rows < own.size[1])
    return inside & mask[np.where(inside, rows, 0), np.where(inside, columns, 0)]


# ---- SEG -------------------------------------------------------------------------------------------------------------


def segments(file: Any, name: str, stacks: Stacks, marks: Marks, report: Report) -> None:
    """Add the frames of a SEG object to the slices that they mark."""
    with reading(name, "mask_unreadable", "has no usable segments"):
        labels = {int(one.SegmentNumber): str(one.SegmentLabel).replace("_", " ") for one in file.SegmentSequence}
        kind = str(file.get("SegmentationType", "BINARY")).upper()
        top = int(file.get("MaximumFractionalValue") or 1) if kind == "FRACTIONAL" else 1
        frames = list(file.get("PerFrameFunctionalGroupsSequence") or ())
        shared = list(file.get("SharedFunctionalGroupsSequence") or ())[:1]
        series = [str(one.SeriesInstanceUID) for one in file.get("ReferencedSeriesSequence") or ()]
        stacks = _homes(stacks, [str(file.get("FrameOfReferenceUID") or "")], series)
        numbers = [_segment([*shared, frame]) for frame in frames]
        named = [_pictures([*shared, frame]) for frame in frames]
    by_instance = {one.instance: one for stack in stacks for one in stack if one.frame is None}
    lost = 0
    for at, plane in enumerate(planes(file, name)[: len(frames)]):
        home = _nearest(plane, stacks) if plane else next((by_instance[u] for u in named[at] if u in by_instance), None)
        if home is None:
            lost += 1
            continue
        wanted = labels if kind == "LABELMAP" else {numbers[at]: labels.get(numbers[at], "")}
        for number, label in wanted.items():
            if not label:
                report("unknown_class", name, f"frame {at} is of segment {number}, which has no label")
                continue
            least = number if kind == "LABELMAP" else max(FRACTION * top, 1e-9)
            most = number if kind == "LABELMAP" else math.inf
            marks[home].append(Mark(name, label, _framed(file, name, at, (least, most), plane, home)))
    if lost:
        report("mask_without_image", name, f"{lost} of {len(frames)} frames lie in no slice of any series here")


def _framed(
    file: Any, name: str, at: int, ends: tuple[float, float], plane: Plane | None, home: Slice
) -> Callable[[], Mask]:
    def mask() -> Mask:
        values, _ = dicom.decoded(file, name, at)
        if values.ndim != 2:
            raise SampleError("mask_unreadable", f"'{name}' has frames in colour")
        found: Mask = (values >= ends[0]) & (values <= ends[1])
        return onto(found, plane, home.plane) if plane is not None and home.plane is not None else found

    return mask


def _segment(groups: Sequence[Any]) -> int:
    """The segment that a frame is of; 0 where it does not say (label maps)."""
    for group in reversed(groups):
        for item in group.get("SegmentIdentificationSequence") or ():
            return int(item.ReferencedSegmentNumber)
    return 0


def _pictures(groups: Sequence[Any]) -> list[str]:
    """Identifiers of the pictures that a frame was drawn on."""
    return [
        str(source.ReferencedSOPInstanceUID)
        for group in groups
        for one in group.get("DerivationImageSequence") or ()
        for source in one.get("SourceImageSequence") or ()
    ]


# ---- RT-STRUCT -------------------------------------------------------------------------------------------------------


def contours(file: Any, name: str, stacks: Stacks, marks: Marks, report: Report) -> None:
    """Add the closed planar contours of an RT-STRUCT object to the slices that they lie in."""
    with reading(name, "mask_unreadable", "has no usable structures"):
        labels = {
            int(one.ROINumber): str(one.get("ROIName") or "").replace("_", " ") for one in file.StructureSetROISequence
        }
        stacks = _homes(stacks, *_spaces_and_series(file))
        drawn = [
            (labels.get(int(roi.ReferencedROINumber), ""), one)
            for roi in file.get("ROIContourSequence") or ()
            for one in roi.get("ContourSequence") or ()
        ]
    rings: dict[tuple[Slice, str], list[NDArray[np.float64]]] = defaultdict(list)
    lost: dict[str, int] = defaultdict(int)
    for label, contour in drawn:
        try:
            points = _points(contour, name)
        except SampleError as error:
            report(error.code, name, f"{label}: {error.detail}")
            continue
        home = _slice_of(points, stacks) if points is not None else None
        if points is None or not label:
            lost["other forms than closed contours" if points is None else "contours without a name"] += 1
        elif home is None:
            lost["contours that lie in no slice of any series here"] += 1
        else:
            rings[home, label].append(points)
    for what, number in lost.items():
        report("mask_without_image", name, f"{number} of {len(drawn)} are {what}")
    for (home, label), several in rings.items():
        marks[home].append(Mark(name, label, _filled(several, home)))


def _spaces_and_series(file: Any) -> tuple[list[str], list[str]]:
    """Identifiers of the frames of reference and of the series that structures were drawn in."""
    frames = list(file.get("ReferencedFrameOfReferenceSequence") or ())
    spaces = [str(one.get("FrameOfReferenceUID") or "") for one in frames]
    spaces += [str(one.get("ReferencedFrameOfReferenceUID") or "") for one in file.StructureSetROISequence]
    studies = [study for one in frames for study in one.get("RTReferencedStudySequence") or ()]
    series = [one for study in studies for one in study.get("RTReferencedSeriesSequence") or ()]
    return spaces, [str(one.get("SeriesInstanceUID") or "") for one in series]


def _points(contour: Any, name: str) -> NDArray[np.float64] | None:
    """[points, 3] of a closed planar contour; None for another form, such as a single point."""
    with reading(name, "mask_unreadable", "has a contour that cannot be used"):
        if str(contour.get("ContourGeometricType", "CLOSED_PLANAR")) not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
            return None
        points = np.array([float(one) for one in contour.ContourData]).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise SampleError("mask_unreadable", f"'{name}' has a contour that is not finite")
        return points if len(points) >= 3 else None


def _slice_of(points: NDArray[np.float64], stacks: Stacks) -> Slice | None:
    """The slice in whose plane all points lie, or half a slice's distance off it at most."""
    best: tuple[float, Slice] | None = None
    for stack in stacks:
        placed = [(one, one.plane) for one in stack if one.plane is not None]
        if not placed:
            continue
        depths = np.array([np.abs(plane.depth(points)).max() for _, plane in placed])
        nearest = int(depths.argmin())
        if depths[nearest] <= NEAR and (best is None or depths[nearest] < best[0]):
            best = (float(depths[nearest]), placed[nearest][0])
    return best[1] if best else None


def _filled(rings: Sequence[NDArray[np.float64]], home: Slice) -> Callable[[], Mask]:
    def mask() -> Mask:
        assert home.plane is not None
        drawn = np.zeros(home.plane.size[::-1], bool)
        for points in rings:
            corners = home.plane.pixels(points) + 0.5  # a pixel's centre lies half a pixel from its edge
            drawn ^= polygon([(float(x), float(y)) for x, y in corners], *home.plane.size)
        return drawn

    return mask
