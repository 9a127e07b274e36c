"""DICOM SEG and RT-STRUCT as masks of slices.

A segment's frame belongs to the slice in whose plane it lies (or to the picture that it names, where it states no
position), and is taken over pixel by pixel, the nearest where the grids differ. Fractional segments are set where their
value is half of the greatest or more. A contour fills the pixels whose centre it holds or runs through, since tools
draw contours through the centres of the outermost pixels; where contours of one structure overlap, the inner one is a
hole.
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
from vgtool.images.names import NO_CLASS
from vgtool.images.series import PARALLEL, Plane, Slice, planes

FRACTION = 0.5
"""A fractional segment is set from this share of MaximumFractionalValue on."""
NEAR = 0.5
"""Millimetres that a frame or contour may lie off its slice."""

ON_EDGE = 1e-3
"""Pixels that a contour may miss a centre by and still run through it."""

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


def _clean(label: str) -> str:
    return label.replace("_", " ").strip()


def _is_nothing(label: str) -> bool:
    return _clean(label).lower() in NO_CLASS


# ---- SEG -------------------------------------------------------------------------------------------------------------


def segments(file: Any, name: str, stacks: Stacks, marks: Marks, report: Report) -> None:
    """Add the frames of a SEG object to the slices that they mark."""
    with reading(name, "mask_unreadable", "has no usable segments"):
        named_by = {int(one.SegmentNumber): str(one.SegmentLabel) for one in file.SegmentSequence}
        labels = {number: _clean(label) for number, label in named_by.items() if not _is_nothing(label)}
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
        if kind != "LABELMAP" and numbers[at] not in named_by:
            report("unknown_class", name, f"frame {at} is of segment {numbers[at]}, which has no label")
        for number, label in labels.items():
            if kind != "LABELMAP" and number != numbers[at]:
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
            int(one.ROINumber): _clean(str(one.get("ROIName") or "")) for one in file.StructureSetROISequence
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
        corners = [home.plane.pixels(points) for points in rings]
        for each in corners:  # a pixel's centre lies half a pixel from its edge
            drawn ^= polygon([(float(x) + 0.5, float(y) + 0.5) for x, y in each], *home.plane.size)
        for each in corners:
            columns, rows = _centres_on(each)
            inside = (columns >= 0) & (columns < drawn.shape[1]) & (rows >= 0) & (rows < drawn.shape[0])
            drawn[rows[inside], columns[inside]] = True
        return drawn

    return mask


def _centres_on(corners: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of the pixels through whose centre a contour runs; corners [n, 2] in columns and rows."""
    found = [np.zeros((0, 2))]
    for one, other in zip(corners, np.roll(corners, -1, 0), strict=True):
        along = int(np.abs(other - one).argmax())
        low, high = sorted((one[along], other[along]))
        steps = np.arange(math.ceil(low - ON_EDGE), math.floor(high + ON_EDGE) + 1, dtype=float)
        length = other[along] - one[along]
        share = (steps - one[along]) / length if length else np.zeros(len(steps))
        across = one[1 - along] + share * (other[1 - along] - one[1 - along])
        on = np.abs(across - np.round(across)) <= ON_EDGE
        pair = np.stack([steps[on], across[on]], 1)
        found.append(pair if along == 0 else pair[:, ::-1])
    whole = np.round(np.concatenate(found)).astype(np.int64)
    return whole[:, 0], whole[:, 1]
