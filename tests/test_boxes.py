"""Boxes of VGMED, COCO and SLAKE as their authors mean them; SLAKE's side files."""

import json
import zipfile
from pathlib import Path
from typing import Any

import layouts
import pytest
from copies import EXPECTED, read, told
from layouts import put_lines, put_zip

from vgtool.benchmarks.slake import detections, mask_values
from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import Geometry
from vgtool.records import Box, Grid

# ---- boxes -----------------------------------------------------------------------------------------------------------


def test_vgmed_boxes_become_the_tokens_worked_by_hand_on_a_padded_grid(tmp_path: Path) -> None:
    """24 x 24 cells of 14 px over 336 px. Row 1: 96 x 48, scale 3.5, padded 84 above: x 35..105, y 112..182. Row 3:
    60 x 100, scale 3.36, padded 67.2 left: x 102.48..169.68, y 13.44..67.2."""
    layouts.vgmed(tmp_path)
    samples = read("vgmed", tmp_path).samples
    for sample, size, rows, cols in (
        (samples[0], (96, 48), range(8, 13), range(2, 8)),
        (samples[2], (60, 100), range(0, 5), range(7, 13)),
    ):
        geometry = Geometry.pad(*size, 336, Grid(24, 24))
        assert geometry.region(sample.boxes) == [r * 24 + c for r in rows for c in cols]


def _boxes(tmp_path: Path, rows: list[dict[str, Any]], name: str = "vgmed", **settings: Any) -> list[Any]:
    prefix = "COCO" if name == "coco" else "VGMED"
    put_lines(tmp_path, f"{prefix}_localization.jsonl", [{"question": "Is it?", "modality": "ct"} | r for r in rows])
    found = read(name, tmp_path, **settings)
    by_id = {s.id: [b.as_list() for b in s.boxes] for s in found.samples} | {r.id: r.reason for r in found.rejected}
    return list(by_id.values())


RULE = [
    ({"image": "SAMed2D_v1/ct/a.png", "original_bboxes": [[2, 3, 9, 9]]}, "vgmed", [[2, 3, 10, 10]]),
    ({"image": "Slake1.0/imgs/xmlab1/source.jpg", "original_bboxes": [[2, 3, 9, 9]]}, "vgmed", [[2, 3, 11, 12]]),
    ({"image": "x.png", "bbox": [[1, 1, 4, 4]], "original_bboxes": [[2, 3, 9, 9]]}, "vgmed", [[1, 1, 5, 5]]),
    ({"image": "xmlab1", "bbox": [[1, 1, 4, 4]]}, "vgmed", [[1, 1, 5, 5]]),
    ({"image": "xmlab1", "bbox": [8, 1, 4, 4]}, "vgmed", [[8, 1, 12, 5]]),
    ({"image": "a/Slake.png", "original_bboxes": [[2, 3, 9, 9]]}, "coco", [[2, 3, 11, 12]]),
]


@pytest.mark.parametrize("raw,name,boxes", RULE)
def test_the_authors_box_rule_decides_row_by_row(raw: Any, name: str, boxes: Any, tmp_path: Path) -> None:
    assert _boxes(tmp_path, [raw], name) == [boxes]


def test_a_box_that_cannot_be_is_refused_with_the_format_that_fits_and_may_be_forced(tmp_path: Path) -> None:
    rows = [
        {"image": "a/b.png", "original_bboxes": [[50, 40, 20, 10]]},
        {"image": "a/c.png", "original_bboxes": [[5, 4, 20, 10]]},
    ]
    refused, fine = sorted(_boxes(tmp_path, rows), key=str, reverse=True)
    assert refused.startswith(
        "malformed_row: box [50, 40, 20, 10] is impossible as xyxy-inclusive; it would be possible"
    )
    assert "--box-format xywh" in refused and fine == [[5, 4, 21, 11]]
    assert any("impossible boxes; --box-format" in note for note in read("vgmed", tmp_path).notes)
    assert sorted(_boxes(tmp_path, rows, box_format="xywh")) == [[[5, 4, 25, 14]], [[50, 40, 70, 50]]]
    with pytest.raises(VgError, match="Did you mean 'xywh'"):
        _boxes(tmp_path, rows, box_format="xyhw")


@pytest.mark.parametrize(
    "box",
    [[1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True], [float("nan"), 0, 1, 1], [0, 0, float("inf"), 1], 5, {"x": 1}, []],
)
def test_what_is_no_box_fails_its_row(box: Any, tmp_path: Path) -> None:
    found = _boxes(tmp_path, [{"image": "a/b.png", "original_bboxes": [box] if box != [] else []}])
    assert len(found) == 1 and found[0].startswith("malformed_row: ")


def test_box_format_is_refused_where_there_are_no_boxes(tmp_path: Path) -> None:
    layouts.path_vqa(tmp_path)
    with pytest.raises(VgError, match="'path-vqa' has no boxes on disk"):
        read("path-vqa", tmp_path, box_format="xywh")


# ---- SLAKE's side files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        [{"Liver": [1, 2, 3, 4]}, {"Heart": [5, 6, 7, 8]}],
        {"Liver": [1, 2, 3, 4], "Heart": [5, 6, 7, 8]},
        [{"Liver": [[1, 2, 3, 4]], "Heart": [[5, 6, 7, 8]]}],
    ],
)
def test_detections_read_as_list_or_object(raw: Any) -> None:
    found = detections(json.dumps(raw).encode(), "detection.json")
    assert {name: [b.as_list() for b in boxes] for name, boxes in found.items()} == {
        "Liver": [[1, 2, 4, 6]],
        "Heart": [[5, 6, 12, 14]],
    }


def test_a_name_that_comes_twice_has_both_boxes_and_a_bad_one_is_the_names_alone() -> None:
    good, bad = [[1, 2, 3, 4], [5, 6, 7, 8]], [[5, 6, 0, 8], [1, 2, 3, 4]]
    listed = [*({"Liver": box} for box in good), *({"Mass": box} for box in bad), {"X": "big"}]
    found = detections(json.dumps(listed).encode(), "imgs/x/detection.json")
    assert found["Liver"] == (Box(1, 2, 4, 6), Box(5, 6, 12, 14))
    for name in ("Mass", "X"):
        assert str(found[name]).startswith(f"detection_unreadable: 'imgs/x/detection.json', {name}: ")


def test_a_box_without_area_costs_the_rows_that_name_its_object_only(tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    boxes = b'[{"Left Lung": [10, 10, 0, 40]}, {"Right Lung": [60, 10, 30, 40]}, {"Heart": [40, 40, 20, 20]}]'
    put_zip(tmp_path, "imgs.zip", layouts.slake_images() | {"imgs/xmlab1/detection.json": boxes})
    found = read("slake", tmp_path)
    assert [row.id for row in found.rejected] == ["test-100", "test-101", "test-103"]
    assert [sample.id for sample in found.samples] == ["test-102", "test-104", "test-106", "test-107"]
    assert all("Left Lung: box [10, 10, 0, 40] is impossible" in row.reason for row in found.rejected)


def test_slakes_images_are_found_where_its_archive_was_unpacked_into_a_folder_of_its_own_name(tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    with zipfile.ZipFile(tmp_path / "imgs.zip") as archive:
        archive.extractall(tmp_path / "imgs")
    (tmp_path / "imgs.zip").unlink()
    assert [told(sample) for sample in read("slake", tmp_path).samples] == EXPECTED["slake"]


@pytest.mark.parametrize("data", [b"{", b"[1]", b'"x"', b'[{"Liver": [1, 2, 3, 4]}, 1]'])
def test_other_detections_fail_with_the_files_name(data: bytes) -> None:
    with pytest.raises(SampleError, match=r"detection_unreadable.*imgs/x/detection\.json"):
        detections(data, "imgs/x/detection.json")


def test_a_broken_detection_file_costs_the_rows_of_its_image_only(tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    put_zip(tmp_path, "imgs.zip", layouts.slake_images() | {"imgs/xmlab1/detection.json": b"[{"})
    found = read("slake", tmp_path)
    assert [sample.id for sample in found.samples] == ["test-106", "test-107"]
    assert {row.reason.split(":")[0] for row in found.rejected} == {"detection_unreadable"}


def test_mask_names_read_either_way_round() -> None:
    assert mask_values("1: Left Lung\nHeart 2\n3\tLiver\n\nnothing\n") == {"left lung": 1, "heart": 2, "liver": 3}
    assert mask_values('Liver：70\n  "Left Lung": 135,\n"8": "Heart"') == {"liver": 70, "left lung": 135, "heart": 8}
