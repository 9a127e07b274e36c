"""A row's slice, axis and window: of DICOM series, multi-frame files and volumes, with masks on their grid."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vgtool
from vgtool.benchmarks.load import Benchmark, load
from vgtool.images import open_image

pytest.importorskip("pydicom")

from scans import dataset, encoded, masks, scan, volume


def loaded(folder: Path, *lines: dict[str, Any]) -> Benchmark:
    rows = [{"id": f"q{at}", "question": "Is it there?", "answer": "yes", **line} for at, line in enumerate(lines)]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return load(str(folder / "q.jsonl"))


def shade(sample: Any) -> np.ndarray:
    return np.asarray(open_image(sample.image))[..., 0]


def spread(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(np.round((values - low) / (high - low) * 255), 0, 255)


def test_slices_of_a_series_folder_are_counted_by_position(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    (tmp_path / "ct" / "notes.txt").write_text("no picture")
    found = loaded(tmp_path, *({"image": "ct/", "slice": at, "window": [0, 900]} for at in range(5)))
    assert not found.rejected
    for at, sample in enumerate(found.samples):
        assert np.array_equal(shade(sample), spread(volume()[at], 0, 900)), at
    assert len({sample.image_id for sample in found.samples}) == len({s.image.name for s in found.samples}) == 5


def test_a_slice_of_a_series_is_a_picture_to_look_at(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    for at in range(5):
        image = np.asarray(vgtool.picture(tmp_path / "ct", slice=at, window=(0, 900)))[..., 0]
        assert np.array_equal(image, spread(volume()[at], 0, 900)), at
    link = tmp_path / "elsewhere"
    link.symlink_to(tmp_path / "ct" / "IM1.dcm")
    assert vgtool.picture(link, window=(0, 900)).size == image.shape[::-1]
    for given, said in (({"slice": 5}, "slice 5 is none of 0 to 4"), ({}, "no slice is named")):
        with pytest.raises(vgtool.VgError, match=said):
            vgtool.picture(tmp_path / "ct", **given)


def test_a_series_inside_an_archive_is_read_in_place(tmp_path: Path) -> None:
    scan(tmp_path / "pack" / "ct")
    shutil.make_archive(str(tmp_path / "pack"), "zip", tmp_path / "pack")
    shutil.rmtree(tmp_path / "pack")
    from vgtool.benchmarks.sources import Files
    from vgtool.records import ImageSource, View

    files = Files([tmp_path], ("",), ("pack.zip",))
    source = files.series("ct", 3)
    image = open_image(ImageSource("a", source.read, view=View(window=(0.0, 900.0))))
    assert np.array_equal(np.asarray(image)[..., 0], spread(volume()[3], 0, 900))


def test_a_series_that_cannot_be_ordered_fails_each_of_its_rows_by_name(tmp_path: Path) -> None:
    scan(tmp_path / "ct")
    scan(tmp_path / "other", SeriesInstanceUID="1.2.3")
    shutil.copy(tmp_path / "other" / "IM1.dcm", tmp_path / "ct" / "IM99.dcm")
    mixed, beyond, bare = loaded(
        tmp_path, {"image": "ct", "slice": 0}, {"image": "other", "slice": 5}, {"image": "other"}
    ).samples
    for sample, said in ((mixed, "series_mixed"), (beyond, "image_slice.*5 slices"), (bare, "image_missing")):
        with pytest.raises(Exception, match=said):
            open_image(sample.image)


def test_a_frame_and_a_window_of_a_dicom_file_are_the_rows_own(tmp_path: Path) -> None:
    frames = np.stack([volume()[0], volume()[1]])
    (tmp_path / "a.dcm").write_bytes(
        encoded(dataset(frames, NumberOfFrames=2, WindowCenter=[100, 450], WindowWidth=[50, 900]))
    )
    first, second, named = loaded(
        tmp_path,
        {"image": "a.dcm", "slice": 1, "window": 1},
        {"image": "a.dcm", "slice": 1, "window": "full"},
        {"image": "a.dcm", "slice": 0, "window": [0, 900], "image_id": "mine"},
    ).samples
    assert np.abs(shade(first) - ((frames[1] - 449.5) / 899 + 0.5) * 255).max() <= 0.5
    assert np.array_equal(shade(second), spread(frames[1], frames[1].min(), frames[1].max()))
    assert np.array_equal(shade(named), spread(frames[0], 0, 900))
    assert named.image_id == "mine#slice=0,window=0..900"


def test_a_slice_of_a_volume_has_its_mask_on_the_images_grid(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values, marks = np.moveaxis(volume(), 0, 2), np.moveaxis(masks()["liver_lobe"], 0, 2).astype(np.uint8) * 3
    image = nibabel.Nifti1Image(values, np.diag([2.0, 0.5, 3, 1]))
    label = nibabel.Nifti1Image(marks, image.affine).as_reoriented(nibabel.orientations.axcodes2ornt("PIR"))
    nibabel.save(image, tmp_path / "v.nii.gz")
    nibabel.save(label, tmp_path / "m.nii.gz")
    row = {"image": "v.nii.gz", "slice": 2, "window": [0, 900], "mask": "m.nii.gz"}
    whole, valued, other, coronal = loaded(
        tmp_path, row, {**row, "mask_value": 3}, {**row, "mask_value": 2}, {**row, "axis": "coronal", "slice": 20}
    ).samples
    assert np.array_equal(shade(whole), spread(values[:, :, 2][::-1, ::-1].T, 0, 900))
    wanted = marks[:, :, 2][::-1, ::-1].T > 0
    assert np.array_equal(whole.mask(), wanted) and np.array_equal(valued.mask(), wanted)
    assert not other.mask().any()
    assert np.array_equal(shade(coronal), spread(values[:, 20][::-1, ::-1].T, 0, 900))
    assert np.array_equal(coronal.mask(), marks[:, 20][::-1, ::-1].T > 0)


@pytest.mark.parametrize(
    "line",
    [
        {"slice": -1},
        {"slice": 1.5},
        {"slice": True},
        {"axis": 3},
        {"axis": "oblique"},
        {"window": [5, 1]},
        {"window": [1, 2, 3]},
        {"window": -1},
        {"window": {"low": 1}},
        {"window": ["a", "b"]},
    ],
)
def test_a_view_that_means_nothing_fails_its_row(tmp_path: Path, line: dict[str, Any]) -> None:
    (rejected,) = loaded(tmp_path, {"image": "a.png", **line}).rejected
    assert rejected.reason.startswith("malformed_row")
