"""NIfTI: slices as radiologists see them, labels on their image's grid; against world coordinates and scipy."""

import gzip
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from vgtool.errors import SampleError
from vgtool.images import image_size, open_image, volumes
from vgtool.records import ImageSource, View

nibabel = pytest.importorskip("nibabel")

SHAPE = (7, 6, 5)
RAMP = np.arange(210, dtype=np.int16).reshape(SHAPE)
SCANNER = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
"""Left to right reversed, as many scanners write."""


def written(values: np.ndarray, affine: np.ndarray | None = SCANNER, kind: Any = None, **header: Any) -> bytes:
    image = (kind or nibabel.Nifti1Image)(values, affine)
    for name, value in header.items():
        image.header[name] = value
    return image.to_bytes()


def source(data: bytes, **view: Any) -> ImageSource:
    return ImageSource("v.nii.gz", lambda: data, view=View(**view))


def shade(image: Any) -> np.ndarray:
    return np.asarray(image)[..., 0]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_a_slice_shows_the_patients_right_on_the_left_and_front_or_head_up(axis: int, packed: bool) -> None:
    data = written(RAMP)
    given = source(gzip.compress(data) if packed else data, slice=2, axis=axis, window=(0.0, 255.0))
    canonical = RAMP[::-1]  # the first axis of SCANNER runs to the left
    plane = np.take(canonical, 2, axis)
    width, height = plane.shape
    wanted = [[plane[width - 1 - x, height - 1 - y] for x in range(width)] for y in range(height)]
    assert shade(open_image(given)).tolist() == wanted
    assert image_size(given) == (width, height)


def test_the_window_is_the_volumes_percentiles_the_rows_or_the_full_range() -> None:
    data = written(RAMP)
    low, high = np.percentile(RAMP, (0.5, 99.5))
    plane = RAMP[::-1][:, :, 1][::-1, ::-1].T
    wanted = np.clip(np.round((plane - low) / (high - low) * 255), 0, 255)
    shown = open_image(source(data, slice=1))
    assert np.array_equal(shade(shown), wanted) and "percentiles" in shown.info["window"]
    assert open_image(source(data, slice=1, window="full")).info["window"] == "full range, 0 to 209"
    with pytest.raises(SampleError, match="image_window"):
        open_image(source(data, slice=1, window=1))


def test_what_is_not_finite_lies_outside_the_body_and_is_black() -> None:
    values = RAMP.astype(np.float32)
    values[0], values[1, 0, 0] = np.nan, np.inf
    seen = shade(open_image(source(written(values, np.eye(4)), slice=0, window="full")))
    assert (seen[:, -1] == 0).all() and seen[-1, -2] == 0 and seen.max() > 0
    with pytest.raises(SampleError, match="no finite voxel"):
        open_image(source(written(np.full(SHAPE, np.nan, np.float32)), slice=0))


@pytest.mark.parametrize("codes,shown", [((1, 1), "sform"), ((0, 1), "qform"), ((1, 0), "sform")])
def test_the_sform_counts_where_it_is_set_else_the_qform(codes: tuple[int, int], shown: str) -> None:
    image = nibabel.Nifti1Image(RAMP, SCANNER)
    image.set_qform(np.eye(4), codes[1])  # not reversed
    image.set_sform(SCANNER, codes[0])
    seen = shade(open_image(source(image.to_bytes(), slice=0, window=(0.0, 255.0))))
    canonical = RAMP[::-1] if shown == "sform" else RAMP
    assert np.array_equal(seen, canonical[:, :, 0][::-1, ::-1].T)


def test_a_file_that_states_no_orientation_goes_left_front_head() -> None:
    values = np.zeros((4, 5, 6), np.uint8)
    values[0, 4, 2] = 255  # the far right, foremost voxel: shown at the upper left
    data = written(values, None)  # with an affine nibabel would set the code again
    header = nibabel.Nifti1Image.from_bytes(data).header
    assert int(header["sform_code"]) == int(header["qform_code"]) == 0
    seen = shade(open_image(source(data, slice=2, window="full")))
    assert seen.shape == (5, 4) and np.argwhere(seen).tolist() == [[0, 0]]
    assert not volumes.load(data, "v").framed


def test_four_dimensions_with_one_volume_are_three() -> None:
    assert np.array_equal(volumes.load(written(RAMP[..., None]), "v").values, RAMP[::-1])


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    "values,said",
    [
        (np.zeros(SHAPE, RGB), "colours"),
        (np.zeros(SHAPE, np.complex64), "complex numbers"),
        (np.zeros((*SHAPE, 2), np.int16), "7 x 6 x 5 x 2"),
        (np.zeros((7, 6), np.int16), "7 x 6;"),
    ],
)
def test_what_is_no_volume_of_one_number_a_voxel_is_named(values: np.ndarray, said: str) -> None:
    with pytest.raises(SampleError, match=said):
        open_image(source(written(values), slice=0))


def test_cifti_is_named() -> None:
    axes = (nibabel.cifti2.ScalarAxis(["a"]), nibabel.cifti2.BrainModelAxis.from_mask(np.ones(4), name="cortex_left"))
    data = nibabel.Cifti2Image(np.zeros((1, 4), np.float32), axes).to_bytes()
    with pytest.raises(SampleError, match="CIFTI"):
        open_image(source(data, slice=0))


def test_a_slice_must_be_named_and_be_there() -> None:
    with pytest.raises(SampleError, match=r"image_animated.*5 slices; name one"):
        open_image(source(written(RAMP)))
    for view in (dict(slice=5), dict(slice=-1), dict(slice=0, axis=3)):
        with pytest.raises(SampleError, match="image_slice"):
            open_image(source(written(RAMP), **view))


# ---- labels on their image's grid ------------------------------------------------------------------------------------

MARKS = np.zeros((20, 24, 10), np.uint8)
MARKS[3:8, 14:20, 6:9] = 1
MARKS[12:18, 4:9, 1:4] = 2
IMAGE = volumes.load(written(MARKS.astype(np.int16)), "image")


def on_image(values: np.ndarray, affine: np.ndarray | None, **header: Any) -> tuple[np.ndarray, bool]:
    return volumes.labels_on(volumes.load(written(values, affine, **header), "label"), IMAGE, "label")


def test_a_label_on_the_same_grid_is_taken_as_it_is() -> None:
    placed, resampled = on_image(MARKS, SCANNER)
    assert np.array_equal(placed, MARKS[::-1]) and not resampled


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_a_label_with_other_axes_or_directions_lies_where_its_affine_says(axes: tuple[int, int, int]) -> None:
    turned = nibabel.orientations.axcodes2ornt("PSR")
    for ornt in (turned, np.stack([np.argsort(axes), [1, -1, 1]], 1).astype(float)):
        image = nibabel.Nifti1Image(MARKS, SCANNER).as_reoriented(ornt)
        placed, _ = on_image(np.asarray(image.dataobj), image.affine)
        assert np.array_equal(placed, MARKS[::-1])


def test_a_label_on_a_shifted_or_coarser_grid_takes_the_nearest_voxel() -> None:
    shifted = SCANNER.copy()
    shifted[:3, 3] += SCANNER[:3, :3] @ [2, -3, 1]  # the label begins at voxel (2, -3, 1) of the image
    placed, resampled = on_image(MARKS, shifted)
    wanted = np.zeros_like(MARKS)
    wanted[2:, :-3, 1:] = MARKS[:-2, 3:, :-1]
    assert resampled and np.array_equal(placed, wanted[::-1])
    coarse = SCANNER @ np.diag([2, 2, 1, 1])
    coarse[:3, 3] += SCANNER[:3, :3] @ [0.5, 0.5, 0]  # a coarse voxel's centre lies amid its four fine ones
    placed, _ = on_image(MARKS[::2, ::2], coarse)
    assert np.array_equal(placed, np.repeat(np.repeat(MARKS[::2, ::2], 2, 0), 2, 1)[::-1])


def test_an_oblique_label_takes_the_nearest_voxel_by_world_coordinates() -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    affine = turn @ SCANNER
    affine[:3, 3] = SCANNER[:3, 3] + [3, 25, 2]
    placed, _ = on_image(MARKS, affine)
    there = np.stack(np.meshgrid(*map(np.arange, MARKS.shape), indexing="ij"), -1) @ SCANNER[:3, :3].T + SCANNER[:3, 3]
    at = (there - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    wanted = ndimage.map_coordinates(MARKS, np.moveaxis(at, -1, 0), order=0, mode="constant")[::-1]
    assert wanted.any() and (placed != wanted).mean() < 0.001  # ties at half a voxel


def test_a_label_without_a_frame_or_in_another_place_is_refused() -> None:
    far = SCANNER.copy()
    far[:3, 3] += 900
    for affine, said in ((np.eye(4), "states no orientation"), (far, "different places")):
        with pytest.raises(SampleError, match=f"mask_frame.*{said}"):
            on_image(MARKS, affine)
    with pytest.raises(SampleError, match=r"mask_frame.*states no orientation"):
        on_image(MARKS[:-1], None, pixdim=(1, 2, 2, 3, 0, 0, 0, 0))  # with an affine nibabel would set a code


def test_a_scales_rounding_error_is_taken_off_a_label_and_other_fractions_are_refused() -> None:
    values = MARKS.astype(np.float32) * np.float32(1.49995)
    whole = volumes.whole_numbers(volumes.load(written((values * 0 + MARKS) * np.float32(0.99996), SCANNER), "l"), "l")
    assert np.array_equal(whole, MARKS[::-1])
    with pytest.raises(SampleError, match="mask_not_labels"):
        on_image(values, SCANNER)
    values[0, 0, 0] = np.nan
    with pytest.raises(SampleError, match=r"mask_not_labels.*finite"):
        on_image(values, SCANNER)
    scaled = nibabel.Nifti1Image(MARKS, SCANNER)
    scaled.header.set_slope_inter(1 / 3, 0)
    data = bytearray(scaled.to_bytes())
    data[112:116] = np.float32(0.99998).tobytes()  # scl_slope: 2 comes out as 1.99996
    assert set(np.unique(volumes.whole_numbers(volumes.load(bytes(data), "l"), "l"))) == {0, 1, 2}


def test_a_volume_is_unpacked_once_for_slices_asked_for_after_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    data, loads = gzip.compress(written(RAMP + 7)), []
    load = volumes.load
    monkeypatch.setattr(volumes, "load", lambda *args: loads.append(1) or load(*args))
    shown = [open_image(source(data[:], slice=at)) for at in range(5)]
    assert len(loads) == 1 and len({image.tobytes() for image in shown}) == 5
