"""DICOM series by position, and SEG and RT-STRUCT objects as masks of their slices; against arrays and skimage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked import made, rows
from PIL import Image
from skimage.draw import polygon2mask

from vgtool.errors import SampleError, VgError
from vgtool.images.series import ordered, slices

pydicom = pytest.importorskip("pydicom")

from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402
from scans import (  # noqa: E402
    AXIAL,
    COLUMNS,
    FRAME,
    ROWS,
    SPACING,
    dataset,
    encoded,
    item,
    masks,
    origin,
    scan,
    volume,
)

OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]


def seg(kind: str = "BINARY", direction: list[float] = AXIAL, grid: int = 1, **tags: Any) -> Any:
    """The masks as a SEG object, its frames in odd order; `grid`: 2 for pixels half as large."""
    frames, groups = [], []
    labels = list(masks())
    for number, whole in enumerate(masks().values(), 1):
        for at in (3, 1, 2):
            if not whole[at].any():
                continue
            mask = np.kron(whole[at], np.ones((grid, grid), bool))
            step = np.array([direction[:3], direction[3:]]) * np.array(SPACING[::-1])[:, None]
            corner = origin(at, direction) - (step.sum(0) * (1 - 1 / grid) / 2)
            frames.append(mask * (number if kind == "LABELMAP" else 1))
            place = item(PlanePositionSequence=Sequence([item(ImagePositionPatient=corner.tolist())]))
            if kind != "LABELMAP":
                place.SegmentIdentificationSequence = Sequence([item(ReferencedSegmentNumber=number)])
            groups.append(place)
    values = np.stack(frames).astype(np.uint8)
    if kind == "FRACTIONAL":  # of 200: 100 is half
        values = np.where(np.stack(frames) > 0, 100, 99).astype(np.uint8)
        tags["MaximumFractionalValue"] = 200
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=direction)]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[one / grid for one in SPACING])]),
    )
    file = dataset(
        values,
        NumberOfFrames=len(frames),
        Modality="SEG",
        SegmentationType=kind,
        SegmentSequence=Sequence([item(SegmentNumber=n, SegmentLabel=one) for n, one in enumerate(labels, 1)]),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        **{"FrameOfReferenceUID": FRAME, **tags},
    )
    if kind == "BINARY":
        file.BitsAllocated = file.BitsStored = 1
        file.HighBit = 0
        file.PixelData = pydicom.pixels.pack_bits(values)
    return file


def built_masks(root: Path, out: Path, **options: Any) -> tuple[dict[str, np.ndarray], Any]:
    built = made(root, out, negatives="none", min_pixels=4, max_share=1.0, **options)
    found = {}
    for row in rows(out):
        if row["id"].startswith("localization"):
            name = "liver lobe" if "liver lobe" in row["question"] else "node"
            found[f"{row['image'].split('/')[-1]} {name}"] = np.asarray(Image.open(out / row["mask"])) > 0
    return found, built


# ---- series ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [AXIAL, OBLIQUE])
def test_slices_are_ordered_by_position_not_by_name_or_number(tmp_path: Path, direction: list[float]) -> None:
    files = scan(tmp_path, direction)
    found = ordered([one for at in (3, 0, 4, 1, 2) for one in slices(files[at], str(at))], "series")
    assert [one.name for one in found] == list("01234")


def test_a_series_that_is_no_stack_is_refused(tmp_path: Path) -> None:
    files = scan(tmp_path)
    one = [part for at, file in enumerate(files) for part in slices(file, str(at))]
    files[1].SeriesInstanceUID = generate_uid()
    with pytest.raises(SampleError, match=r"series_mixed.*several series"):
        ordered([*one, *slices(files[1], "1")], "series")
    files[2].ImageOrientationPatient = OBLIQUE
    with pytest.raises(SampleError, match=r"series_mixed.*several directions"):
        ordered([*one, *slices(files[2], "2")], "series")
    with pytest.raises(SampleError, match=r"series_mixed.*one position, such as '3'"):
        ordered([*one, *slices(files[3], "3")], "series")
    with pytest.raises(SampleError, match="series_empty"):
        ordered([], "series")


def test_pictures_without_positions_are_ordered_by_number(tmp_path: Path) -> None:
    files = scan(tmp_path)
    for file in files:
        del file.ImagePositionPatient
    parts = [part for at, file in enumerate(files) for part in slices(file, str(at))]
    assert [one.name for one in ordered(parts, "series")] == list("43210")
    files[0].InstanceNumber = 5
    with pytest.raises(SampleError, match=r"series_mixed.*neither positions"):
        ordered([part for at, file in enumerate(files) for part in slices(file, str(at))], "series")


# ---- SEG -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("direction", [AXIAL, OBLIQUE])
def test_segments_mark_the_slices_in_whose_planes_they_lie(tmp_path: Path, kind: str, direction: list[float]) -> None:
    scan(tmp_path / "in" / "ct", direction)
    (tmp_path / "in" / "seg.dcm").write_bytes(encoded(seg(kind, direction)))
    found, built = built_masks(tmp_path / "in", tmp_path / "out", slices="all", window=(0.0, 900.0))
    assert built.failures == 0 and built.counts["windows"] == {"0 to 900": 3}
    whole = masks()
    wanted = {f"IM{name}.dcm.png liver lobe": whole["liver_lobe"][at] for at, name in ((1, 10), (2, 1), (3, 5))}
    wanted["IM1.dcm.png node"] = whole["node"][2]
    assert set(found) == set(wanted) and all(np.array_equal(found[key], wanted[key]) for key in wanted)
    picture = np.asarray(Image.open(tmp_path / "out" / "images" / "ct" / "IM1.dcm.png"))[..., 0]
    assert np.abs(picture - volume()[2] / 900 * 255).max() <= 0.5
    assert {row["group"] for row in rows(tmp_path / "out")} == {"CT"}


def test_a_segment_on_a_finer_grid_is_taken_over_pixel_by_pixel(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "ct", OBLIQUE)
    (tmp_path / "in" / "seg.dcm").write_bytes(encoded(seg(direction=OBLIQUE, grid=2)))
    found, _ = built_masks(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(found["IM1.dcm.png liver lobe"], masks()["liver_lobe"][2])
    assert set(found) == {"IM1.dcm.png liver lobe", "IM1.dcm.png node"}, "the slice with most marked pixels"


def test_marks_of_another_frame_of_reference_mark_nothing(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "ct")
    (tmp_path / "in" / "seg.dcm").write_bytes(encoded(seg(FrameOfReferenceUID=generate_uid())))
    with pytest.raises(VgError, match=r"mask_without_image"):
        made(tmp_path / "in", tmp_path / "out", negatives="none")


def test_frames_beside_all_slices_and_damaged_objects_are_told(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "ct")
    off = seg()
    off.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [-40, 7, 500]
    (tmp_path / "in" / "seg.dcm").write_bytes(encoded(off))
    broken = seg()
    del broken.SegmentSequence
    (tmp_path / "in" / "broken.dcm").write_bytes(encoded(broken))
    cut = encoded(seg("FRACTIONAL"))
    (tmp_path / "in" / "cut.dcm").write_bytes(cut[: len(cut) - 2000])
    _, built = built_masks(tmp_path / "in", tmp_path / "out", slices="all")
    assert set(built.counts["skipped"]) == {"mask_unreadable", "mask_truncated", "mask_without_image"}


# ---- RT-STRUCT -------------------------------------------------------------------------------------------------------


def ring(points: np.ndarray, at: int, direction: list[float], kind: str = "CLOSED_PLANAR") -> Any:
    """A contour of points [n, 2] (column, row; whole numbers are pixel centres) in slice `at`."""
    across, down = np.array(direction[:3]) * SPACING[1], np.array(direction[3:]) * SPACING[0]
    world = origin(at, direction) + points[:, :1] * across + points[:, 1:] * down
    flat = [round(float(value), 6) for value in world.ravel()]
    return item(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=flat)


def structures(contours: dict[str, list[Any]]) -> Any:
    file = dataset(np.zeros((2, 2), np.uint8), Modality="RTSTRUCT")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(file, name)
    numbered = list(enumerate(contours.items(), 1))
    names = [item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=FRAME) for n, (name, _) in numbered]
    file.StructureSetROISequence = Sequence(names)
    drawn = [item(ReferencedROINumber=n, ContourSequence=Sequence(rings)) for n, (_, rings) in numbered]
    file.ROIContourSequence = Sequence(drawn)
    return file


STAR = np.array([[10.2, 5.1], [40.7, 8.4], [30.3, 20.6], [50.9, 40.2], [12.4, 35.5]])
HOLE = np.array([[20.1, 15.2], [28.6, 15.9], [25.3, 26.8]])


@pytest.mark.parametrize("direction", [AXIAL, OBLIQUE])
def test_contours_fill_the_pixels_whose_centres_they_hold_and_inner_ones_are_holes(
    tmp_path: Path, direction: list[float]
) -> None:
    scan(tmp_path / "in" / "ct", direction)
    contours = {
        "liver_lobe": [ring(STAR, 2, direction), ring(HOLE, 2, direction)],
        "node": [ring(STAR / 3.1, 2, direction), ring(STAR[:1], 2, direction, "POINT")],
    }
    (tmp_path / "in" / "rs.dcm").write_bytes(encoded(structures(contours)))
    found, built = built_masks(tmp_path / "in", tmp_path / "out")
    star, hole, small = (polygon2mask((ROWS, COLUMNS), one[:, ::-1]) for one in (STAR, HOLE, STAR / 3.1))
    assert np.array_equal(found["IM1.dcm.png liver lobe"], star & ~hole)
    assert np.array_equal(found["IM1.dcm.png node"], small)
    assert built.counts["skipped"] == {"mask_without_image": 1}


def test_contours_between_slices_or_of_another_scan_are_told(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "ct")
    contours = {"liver_lobe": [ring(STAR, 2, AXIAL), ring(STAR, 7, AXIAL)]}
    (tmp_path / "in" / "rs.dcm").write_bytes(encoded(structures(contours)))
    _, built = built_masks(tmp_path / "in", tmp_path / "out")
    assert built.counts["skipped"] == {"mask_without_image": 1} and built.failures == 1


def test_a_contour_through_pixel_centres_holds_those_pixels_and_its_hole_does_not(tmp_path: Path) -> None:
    """As tools draw them: outer contours through the outermost pixels, holes through the pixels around the hole."""
    scan(tmp_path / "in" / "ct")
    ends = ((10, 8, 40, 30), (20, 15, 25, 20))
    rings = [ring(np.array([[a, b], [c, b], [c, d], [a, d]], float), 2, AXIAL) for a, b, c, d in ends]
    drawn = structures({"node": rings, "liver_lobe": [ring(STAR, 2, AXIAL)]})
    (tmp_path / "in" / "rs.dcm").write_bytes(encoded(drawn))
    found, _ = built_masks(tmp_path / "in", tmp_path / "out")
    wanted = np.zeros((ROWS, COLUMNS), bool)
    wanted[8:31, 10:41] = True
    wanted[16:20, 21:25] = False
    assert np.array_equal(found["IM1.dcm.png node"], wanted)


def test_a_segment_called_background_is_no_class(tmp_path: Path) -> None:
    scan(tmp_path / "in" / "ct")
    file = seg("LABELMAP")
    file.SegmentSequence.insert(0, item(SegmentNumber=0, SegmentLabel="Background"))
    (tmp_path / "in" / "seg.dcm").write_bytes(encoded(file))
    made(tmp_path / "in", tmp_path / "out", negatives="none", min_pixels=4, max_share=1.0)
    classes = json.loads((tmp_path / "out" / "counts.json").read_text())["classes"]
    assert set(classes) == {"liver lobe", "node"}
