"""Layouts of masks: read right, or told by name; against drawings, pycocotools, skimage and coordinates."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked import SIZE, coco, drawn, label_map, made, rows, save
from PIL import Image
from skimage.draw import disk

from vgtool.build import measure
from vgtool.errors import VgError
from vgtool.grounding import runlength


def test_coco_polygons_run_lengths_and_boxes_are_read(tmp_path: Path) -> None:
    built = made(coco(tmp_path / "in"), tmp_path / "out", negatives="none")
    assert built.failures == 0
    found = {tuple(map(tuple, r["boxes"])): r for r in rows(tmp_path / "out") if r["id"].startswith("localization")}
    ball = measure.box_around(drawn(disk((70, 70), 8)))
    assert set(found) == {((10, 10, 40, 30),), (tuple(ball.as_list()),), ((50, 60, 70, 70),)}
    assert "mask" not in found[((50, 60, 70, 70),)] and "card box" in found[((50, 60, 70, 70),)]["question"]


def test_compressed_run_lengths_are_read_through_pycocotools(tmp_path: Path) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    path = coco(tmp_path / "in")
    raw = json.loads(path.read_text())
    mask = drawn(disk((70, 30), 9))
    packed = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    raw["annotations"][-2]["segmentation"] = {"size": packed["size"], "counts": packed["counts"].decode()}
    path.write_text(json.dumps(raw))
    assert made(path, tmp_path / "out", negatives="none").failures == 0
    assert measure.box_around(mask).as_list() in [row["boxes"][0] for row in rows(tmp_path / "out")]


def test_one_folder_with_images_and_masks_and_json_maps_is_read(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for stem in ("scan_one", "scan_one_b"):  # the longer name must win its own masks
        save(root / f"{stem}.png", np.full((SIZE, SIZE), len(stem)))
    save(root / "scan_one_left_lung_000.png", drawn(disk((30, 30), 8)) * 255)
    save(root / "scan_one_b_left_lung_000.png", drawn(disk((60, 60), 8)))
    save(root / "scan_one--0012_000.png", drawn(disk((70, 30), 8)))
    save(root / "scan_two_left_lung_000.png", drawn(disk((30, 30), 8)))
    save(root / "scan_one_b--elsewhere_0012_000.png", drawn(disk((20, 70), 8)))
    (root / "classes.json").write_text('{"liver_tumor": 12}')
    built = made(root, tmp_path / "out", "samed2d", negatives="none")
    assert built.counts["skipped"] == {"mask_without_image": 1}
    found = {(r["image"], r["boxes"][0][0]) for r in rows(tmp_path / "out") if r["id"].startswith("localization")}
    names = ("images/scan_one.png", "images/scan_one_b.png")
    assert found == {(names[0], 23.0), (names[1], 53.0), (names[0], 23.0), (names[1], 63.0)}
    asked = [r["question"] for r in rows(tmp_path / "out") if r["id"].startswith("localization")]
    assert sum("left lung" in question for question in asked) == 2
    assert sum("liver tumor" in question for question in asked) == 1


def test_label_maps_give_one_row_a_class_with_all_its_instances(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / "in" / "images" / f"{name}.png", np.full((SIZE, SIZE), 70 if name == "a" else 71))
        save(tmp_path / "in" / "labels" / f"{name}.png", label_map())
    (tmp_path / "in" / "names.txt").write_text("0 background\n1 lesion\n2: large_organ\n")
    made(tmp_path / "in", tmp_path / "out", negatives="none", modality="CT")
    found = [r for r in rows(tmp_path / "out") if r["id"].startswith("localization") and "lesion" in r["question"]]
    assert len(found) == 2 and all(len(row["boxes"]) == 2 and row["group"] == "CT" for row in found)
    counted = [
        r["reference"] for r in rows(tmp_path / "out") if r["id"].startswith("count") and "lesion" in r["question"]
    ]
    assert counted == ["2", "2"]


@pytest.mark.parametrize("other,told", [("imgs/a.png", "image_twice"), ("masks/a.png", "mask_twice")])
def test_of_two_files_of_one_name_the_first_is_read_and_the_other_told(other: str, told: str, tmp_path: Path) -> None:
    """`images` comes before `imgs`, `labels` before `masks`."""
    save(tmp_path / "in" / "images" / "a.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "in" / "labels" / "a.png", label_map())
    (tmp_path / "in" / "names.txt").write_text("1 lesion\n2 organ\n")
    made(tmp_path / "in", tmp_path / "one", negatives="none")
    save(tmp_path / "in" / other, np.zeros((SIZE, SIZE)))
    built = made(tmp_path / "in", tmp_path / "both", negatives="none")
    assert built.counts["skipped"] == {told: 1} and built.failures == 1
    assert rows(tmp_path / "both") == rows(tmp_path / "one")
    assert json.loads((tmp_path / "both" / "skipped.jsonl").read_text())["file"] == other


def test_pairs_are_equal_names_a_channel_number_aside_and_what_is_alone_is_told(tmp_path: Path) -> None:
    images = ("a.png", "MR/b.png", "c_0000.png", "c_0001.png", "d_0000.png", "alone.png")
    for at, name in enumerate(images):
        save(tmp_path / "in" / "images" / name, np.full((SIZE, SIZE), 70 + at))
    for name in ("a.png", "MR/b.png", "c.png", "d_0000.png", "nobody.png"):
        save(tmp_path / "in" / "labels" / name, label_map())
    (tmp_path / "in" / "names.txt").write_text("1 lesion\n2 organ\n")
    built = made(tmp_path / "in", tmp_path / "out", negatives="none")
    assert {(row["image"], row["group"]) for row in rows(tmp_path / "out")} == {
        *((f"images/{name}", "unknown") for name in ("a.png", "c_0000.png", "d_0000.png")), ("images/MR/b.png", "MRI")
    }  # fmt: skip
    told = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [(one["file"], one["code"]) for one in told] == [
        ("images/alone.png", "image_without_mask"),
        ("images/c_0001.png", "image_without_mask"),
        ("labels/nobody.png", "mask_without_image"),
    ]
    assert built.failures == 1, "an image without a mask is nobody's mistake"


def test_images_whose_names_no_row_can_give_are_told_and_the_rest_is_built(tmp_path: Path) -> None:
    odd = {"~a.png", " b.png", "c:c.png", "data:d.png", "e\\e.png"}
    for at, name in enumerate(sorted({*odd, "x..y.png", "-z.png"})):
        save(tmp_path / "in" / name, np.full((SIZE, SIZE), 70 + at))
        save(tmp_path / "in" / f"{name.removesuffix('.png')}_organ_000.png", label_map() == 2)
    built = made(tmp_path / "in", tmp_path / "out", negatives="none")
    assert {row["image"] for row in rows(tmp_path / "out")} == {"images/x..y.png", "images/-z.png"}
    told = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert built.failures == len(odd) and {one["file"] for one in told} == odd
    assert {one["detail"] for one in told} == {f"no row can name an image '{name}'; rename the file" for name in odd}


def test_what_python_calls_a_digit_is_no_class_number(tmp_path: Path) -> None:
    save(tmp_path / "in" / "images" / "a.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "in" / "masks" / "a_²_000.png", label_map() == 1)
    save(tmp_path / "in" / "masks" / "a_12_000.png", label_map() == 2)
    (tmp_path / "in" / "classes.json").write_text('{"²": "liver", "spleen": "²", "organ": 12}')
    assert made(tmp_path / "in", tmp_path / "out", negatives="none").failures == 0
    asked = {row["question"] for row in rows(tmp_path / "out") if row["id"].startswith("localization")}
    assert len(asked) == 2 and any("²" in one for one in asked) and any("organ" in one for one in asked)


def test_slake_folders_are_read_from_masks_or_else_from_detections(tmp_path: Path) -> None:
    for index in (1, 2):
        folder = tmp_path / "in" / "imgs" / f"xmlab{index}"
        save(folder / "source.jpg", np.full((SIZE, SIZE), 60 + index))
        (folder / "question.json").write_text(json.dumps([{"modality": "CT"}]))
    save(tmp_path / "in" / "imgs" / "xmlab1" / "mask.png", label_map())
    (tmp_path / "in" / "imgs" / "xmlab2" / "detection.json").write_text('[{"Spleen": [5, 6, 20, 10]}]')
    (tmp_path / "in" / "mask.txt").write_text("1:Left Lung\n2:Liver\n")
    assert made(tmp_path / "in", tmp_path / "out", negatives="none").failures == 0
    found = rows(tmp_path / "out")
    assert {row["group"] for row in found} == {"CT"}
    assert [[5.0, 6.0, 25.0, 16.0]] in [row["boxes"] for row in found]
    assert not any("Left Lung" in row["question"] for row in found if row["id"].startswith(("side", "quadrant")))


def test_a_slake_box_without_area_is_reported_and_the_images_other_boxes_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "imgs" / "xmlab1"
    save(folder / "source.jpg", np.full((SIZE, SIZE), 60))
    (folder / "detection.json").write_text('[{"Spleen": [5, 6, 20, 10]}, {"Liver": [5, 6, 0, 10]}]')
    assert made(tmp_path / "in", tmp_path / "out", negatives="none", modality="CT").failures == 1
    assert [[5.0, 6.0, 25.0, 16.0]] in [row["boxes"] for row in rows(tmp_path / "out")]


def test_nifti_slices_lie_as_radiologists_read_them(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    marks = np.zeros((40, 50, 6), np.uint8)
    marks[30:38, 35:45, 4] = 1  # towards the patient's right (+x is left to right), front
    marks[30:33, 35:38, 2] = 1
    values = np.where(marks > 0, 100.0, -50.0).astype(np.float32)
    for folder, data in (("imagesTr", values), ("labelsTr", marks)):
        (tmp_path / "in" / folder).mkdir(parents=True)
        name = "p1_0000.nii.gz" if folder == "imagesTr" else "p1.nii.gz"
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "in" / folder / name)
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "node": 1}}))
    made(tmp_path / "in", tmp_path / "out", negatives="none", modality="CT", min_pixels=4)
    (row,) = [r for r in rows(tmp_path / "out") if r["id"].startswith("localization")]
    assert row["image"] == "images/p1_z0004.png"
    assert Image.open(tmp_path / "out" / row["image"]).size == (40, 50)
    assert row["boxes"] == [[2.0, 5.0, 10.0, 15.0]]
    every = made(tmp_path / "in", tmp_path / "all", negatives="none", slices="all", min_pixels=4)
    assert every.counts["images"] == 2


def test_dicom_images_become_pictures_without_header_data(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    for index in (1, 2):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
        file = pydicom.dataset.Dataset()
        file.file_meta = meta
        file.PatientID, file.Modality, file.PhotometricInterpretation = "SECRET-1", "CT", "MONOCHROME2"
        file.Rows = file.Columns = SIZE
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 15, 0, 1
        file.PixelData = (label_map() * 300 + index).astype(np.uint16).tobytes()
        (tmp_path / "in" / "images").mkdir(parents=True, exist_ok=True)
        file.save_as(tmp_path / "in" / "images" / f"s{index}.dcm", enforce_file_format=True)
        save(tmp_path / "in" / "labels" / f"s{index}.png", label_map())
    (tmp_path / "in" / "names.json").write_text('{"lesion": 1, "organ": 2}')
    made(tmp_path / "in", tmp_path / "out", negatives="none", splits={"train": 0.5, "test": 0.5})
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(b"SECRET" in path.read_bytes() for path in written)
    assert len(list((tmp_path / "out").glob("t*.jsonl"))) == 1  # one patient, one split
    assert {Image.open(path).format for path in (tmp_path / "out" / "images").iterdir()} == {"PNG"}


# ---- COCO as tools write it ------------------------------------------------------------------------------------------

SQUARE = [10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]


def listed(root: Path, annotation: dict[str, Any], *, exif: int = 0, **entry: Any) -> Path:
    """One picture of 96 x 64 with one annotation."""
    (root / "images").mkdir(parents=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8))
    settings = {}
    if exif:
        settings["exif"] = image.getexif()
        settings["exif"][0x0112] = exif
    image.save(root / "images" / "a.jpg", quality=95, **settings)
    entry = {"id": 1, "file_name": "a.jpg", "width": 96, "height": 64, **entry}
    mark = {"id": 5, "image_id": 1, "category_id": 1, **annotation}
    (root / "set.json").write_text(
        json.dumps({"images": [entry], "annotations": [mark], "categories": [{"id": 1, "name": "plate"}]})
    )
    return root / "set.json"


def boxes_of(path: Path, out: Path) -> list[list[float]]:
    built = made(path, out, negatives="none")
    assert built.failures == 0, built.counts["skipped"]
    return next(row["boxes"] for row in rows(out) if row["id"].startswith("localization"))


@pytest.mark.parametrize(
    "annotation",
    [
        {"segmentation": [[2 * n for n in SQUARE]]},
        {"bbox": [20, 20, 60, 40]},
        {"segmentation": runlength.encode(drawn((slice(20, 60), slice(20, 80)), 128, 192))},
    ],
)
def test_annotations_of_a_larger_copy_are_scaled_to_the_file(tmp_path: Path, annotation: dict[str, Any]) -> None:
    path = listed(tmp_path / "in", annotation, width=192, height=128)
    assert boxes_of(path, tmp_path / "out") == [[10, 10, 40, 30]]


def test_annotations_of_another_shape_are_told(tmp_path: Path) -> None:
    path = listed(tmp_path / "in", {"segmentation": [SQUARE]}, width=64, height=96)
    with pytest.raises(VgError, match=r"No question comes.*mask_size"):
        made(path, tmp_path / "out", negatives="none")


def test_a_picture_that_exif_turns_lies_as_its_annotations_say(tmp_path: Path) -> None:
    shown = listed(tmp_path / "shown", {"segmentation": [SQUARE]}, exif=6, width=64, height=96)
    assert boxes_of(shown, tmp_path / "a") == [[10, 10, 40, 30]]
    assert Image.open(next((tmp_path / "a" / "images").iterdir())).size == (64, 96)
    stored = listed(tmp_path / "stored", {"segmentation": [SQUARE]}, exif=6)
    assert boxes_of(stored, tmp_path / "b") == [[10, 10, 40, 30]]
    assert Image.open(next((tmp_path / "b" / "images").iterdir())).size == (96, 64)
    for at, entry in enumerate(({"exif": 3}, {"exif": 6, "width": None})):
        path = listed(tmp_path / f"unclear{at}", {"segmentation": [SQUARE]}, **entry)
        with pytest.raises(VgError, match="image_rotated"):
            made(path, tmp_path / "out", negatives="none")


def test_crowds_give_no_count(tmp_path: Path) -> None:
    runs = runlength.encode(drawn((slice(10, 30), slice(10, 40)), 64, 96))
    for crowd in (0, 1):
        path = listed(tmp_path / f"in{crowd}", {"segmentation": runs, "iscrowd": crowd})
        made(path, tmp_path / f"out{crowd}", negatives="none")
        kinds = {row["id"].split("-")[0] for row in rows(tmp_path / f"out{crowd}")}
        assert ("count" in kinds) == (not crowd) and "localization" in kinds


def test_ids_may_be_texts_on_one_side_and_numbers_on_the_other(tmp_path: Path) -> None:
    path = listed(tmp_path / "in", {"segmentation": [SQUARE], "image_id": "1", "category_id": "1"})
    assert boxes_of(path, tmp_path / "out") == [[10, 10, 40, 30]]


def test_flat_polygons_are_rings_and_those_without_area_fall_back_to_the_box(tmp_path: Path) -> None:
    assert boxes_of(listed(tmp_path / "a", {"segmentation": SQUARE}), tmp_path / "x") == [[10, 10, 40, 30]]
    for at, ring in enumerate(([10, 10, 40, 30], [10, 10, 40, 10, 10, 10])):
        path = listed(tmp_path / f"b{at}", {"segmentation": [ring], "bbox": [10, 10, 30, 20]})
        assert boxes_of(path, tmp_path / f"y{at}") == [[10, 10, 40, 30]]


@pytest.mark.parametrize(
    "annotation", [{"bbox": [0.1, 0.1, 0.3, 0.2]}, {"segmentation": [[0.1, 0.1, 0.4, 0.1, 0.4, 0.3]]}]
)
def test_normalised_coordinates_are_refused(tmp_path: Path, annotation: dict[str, Any]) -> None:
    with pytest.raises(VgError, match="mask_unreadable"):
        made(listed(tmp_path / "in", annotation), tmp_path / "out", negatives="none")


@pytest.mark.parametrize("list_,entry,said", [
    ("categories", 5, "'set.json' has the category 5 without 'id'. Correct the file."),
    ("categories", {"id": 9}, "'set.json' has the category {'id': 9} without 'name'. Correct the file."),
    ("images", 5, "'set.json' has the image 5 without 'id'. Correct the file."),
])  # fmt: skip
def test_an_entry_of_coco_that_is_none_is_quoted(list_: str, entry: Any, said: str, tmp_path: Path) -> None:
    path = coco(tmp_path / "in")
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {list_: [*raw[list_], entry]}))
    with pytest.raises(VgError) as caught:
        made(path, tmp_path / "out")
    assert str(caught.value) == said


def test_entries_of_coco_that_cannot_be_used_are_told_and_the_rest_is_built(tmp_path: Path) -> None:
    path = coco(tmp_path / "in")
    raw = json.loads(path.read_text())
    raw["images"] += [{"id": 9, "file_name": "../x.png"}, {"id": 10}, {"id": 1, "file_name": "z.png"}]
    raw["annotations"] += [5, {"id": 20, "image_id": 77}, {"id": 21, "image_id": 0, "category_id": 8}]
    path.write_text(json.dumps(raw))
    made(coco(tmp_path / "plain"), tmp_path / "wanted", negatives="none")
    built = made(path, tmp_path / "out", negatives="none")
    assert rows(tmp_path / "out") == rows(tmp_path / "wanted")
    assert built.counts["skipped"] == {
        "image_missing": 1, "image_outside_root": 1, "image_twice": 1, "mask_without_image": 2, "unknown_class": 1,
    }  # fmt: skip


def test_a_file_that_is_listed_twice_is_one_picture_with_the_marks_of_both(tmp_path: Path) -> None:
    path = coco(tmp_path / "in")
    raw = json.loads(path.read_text())
    raw["images"].append({**raw["images"][2], "id": "again"})
    raw["annotations"].append({"id": 20, "image_id": "again", "category_id": 3, "bbox": [60, 60, 20, 20]})
    raw["images"].append({**raw["images"][1], "id": "other", "width": 9})
    path.write_text(json.dumps(raw))
    built = made(path, tmp_path / "out", negatives="none")
    assert built.counts["skipped"] == {"image_twice": 1}
    asked = [row for row in rows(tmp_path / "out") if row["image"] == "images/2.png" and row["boxes"]]
    there = {tuple(row["boxes"][0]) for row in asked if row["id"].startswith("localization")}
    assert there == {(10, 10, 40, 30), (60, 60, 80, 80)}


def test_pictures_that_would_be_stored_under_one_name_are_told(tmp_path: Path) -> None:
    path = coco(tmp_path / "in")
    raw = json.loads(path.read_text())
    raw["images"].append({"id": 9, "file_name": "images/0.png", "width": SIZE, "height": SIZE})
    raw["annotations"].append({"id": 30, "image_id": 9, "category_id": 1, "segmentation": [SQUARE]})
    path.write_text(json.dumps(raw))
    assert made(path, tmp_path / "out", negatives="none").counts["skipped"] == {"image_twice": 1}


@pytest.mark.parametrize("seed", range(3))
def test_compressed_run_lengths_are_those_of_pycocotools_and_damaged_ones_are_refused(seed: int) -> None:
    tools = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((37, 53)) < (0.02, 0.5, 0.98)[seed]
    packed = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (packed["counts"], packed["counts"].decode()):
        assert np.array_equal(runlength.decode({"size": [37, 53], "counts": counts}), mask)
    for broken in (packed["counts"][:-1], b"~~~~", b"o" * 40, "\x00é"):
        with pytest.raises(ValueError):
            runlength.decode({"size": [37, 53], "counts": broken})


# ---- label maps by colour and name -----------------------------------------------------------------------------------


def test_a_label_map_in_colours_is_read_by_the_colours_of_its_names(tmp_path: Path) -> None:
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[label_map()]
    for name in ("images", "labels"):
        (tmp_path / "in" / name).mkdir(parents=True)
    save(tmp_path / "in" / "images" / "a.png", np.full((SIZE, SIZE), 70))
    Image.fromarray(colours).save(tmp_path / "in" / "labels" / "a.png")
    names = tmp_path / "itk.label"
    names.write_text('1 255 0 0 1 1 1 "lesion"\n2 0 0 255 1 1 1 "organ"\n')
    made(tmp_path / "in", tmp_path / "out", "pairs", negatives="none", names=names)
    found = {len(row["boxes"]) for row in rows(tmp_path / "out") if row["id"].startswith("localization")}
    assert found == {1, 2}
    assert not any("255" in row["question"] for row in rows(tmp_path / "out"))
    (tmp_path / "in" / "names.txt").write_text("1 lesion\n2 organ\n")
    with pytest.raises(VgError, match="mask_in_colours"):
        made(tmp_path / "in", tmp_path / "none", "pairs", negatives="none")


def test_ignored_values_are_no_class_and_regions_are_unions(tmp_path: Path) -> None:
    values = label_map()
    values[:4, :] = 3
    save(tmp_path / "in" / "images" / "a.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "in" / "labels" / "a.png", values)
    labels = {"background": 0, "everything": [1, 2], "organ": 2, "ignore": 3}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"labels": labels}))
    built = made(tmp_path / "in", tmp_path / "out", negatives="none", max_share=1.0)
    assert built.failures == 0
    marked = {}
    for row in rows(tmp_path / "out"):
        if row["id"].startswith("localization"):
            mask = np.asarray(Image.open(tmp_path / "out" / row["mask"])) > 0
            marked["organ" if "organ" in row["question"] else "everything"] = mask
    assert np.array_equal(marked["organ"], values == 2)
    assert np.array_equal(marked["everything"], (values == 1) | (values == 2))


# ---- volumes ---------------------------------------------------------------------------------------------------------


def volume_pair(root: Path, label: np.ndarray, affine: np.ndarray, image: np.ndarray | None = None) -> Path:
    import nibabel

    stated = np.diag([1.0, 1, 2, 1])
    stated[:3, 3] = [-20, -30, 5]
    values = np.random.default_rng(0).normal(0, 50, (40, 50, 6)).astype(np.float32) if image is None else image
    for folder, data, where in (("images", values, stated), ("labels", label, stated @ affine)):
        (root / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(data, where), root / folder / "p.nii.gz")
    (root / "names.json").write_text('{"node": 1, "ring": 255, "hole": -1}')
    return root


MARKS = np.zeros((40, 50, 6), np.int16)
MARKS[30:38, 35:45, 4] = 1


def test_a_label_with_other_axes_marks_the_same_place_as_its_image(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    turned = np.array([[0.0, -1, 0, 39], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    root = volume_pair(tmp_path / "in", np.rot90(MARKS, -1, (0, 1)).copy(), turned)
    built = made(root, tmp_path / "out", negatives="none", min_pixels=4)
    assert built.failures == 0
    (row,) = [r for r in rows(tmp_path / "out") if r["id"].startswith("localization")]
    assert row["image"] == "images/p_z0004.png" and row["boxes"] == [[2.0, 5.0, 10.0, 15.0]]


def test_a_resampled_label_is_told_and_one_without_a_frame_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    moved = np.eye(4)
    moved[0, 3] = 1
    built = made(volume_pair(tmp_path / "a", MARKS, moved), tmp_path / "out", negatives="none", min_pixels=4)
    assert built.counts["skipped"] == {"mask_resampled": 1} and built.failures == 0
    (row,) = [r for r in rows(tmp_path / "out") if r["id"].startswith("localization")]
    assert row["boxes"] == [[1.0, 5.0, 9.0, 15.0]]
    import nibabel

    root = volume_pair(tmp_path / "b", MARKS, np.eye(4))
    nibabel.save(nibabel.Nifti1Image(MARKS, np.eye(4)), root / "labels" / "p.nii.gz")
    with pytest.raises(VgError, match="mask_frame"):
        made(root, tmp_path / "none", negatives="none")


def test_labels_255_and_below_0_count_where_they_are_named_and_others_are_told(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    label = MARKS.copy()
    label[5:15, 5:20, 2], label[5:15, 25:40, 2], label[0, 0, 0] = 255, -1, -7
    built = made(volume_pair(tmp_path / "in", label, np.eye(4)), tmp_path / "out", negatives="none", min_pixels=4)
    assert built.counts["skipped"] == {"unknown_class": 1}
    asked = [r for r in rows(tmp_path / "out") if r["id"].startswith("localization")]
    assert {r["image"] for r in asked} == {"images/p_z0002.png"}
    assert {word for r in asked for word in ("ring", "hole", "node") if word in r["question"]} == {"ring", "hole"}


def test_voxels_that_are_not_finite_lie_outside_and_the_window_is_counted(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    values = np.random.default_rng(0).normal(0, 50, (40, 50, 6)).astype(np.float32)
    values[:3] = np.nan
    root = volume_pair(tmp_path / "in", MARKS, np.eye(4), values)
    built = made(root, tmp_path / "out", negatives="none", min_pixels=4)
    low, high = np.nanpercentile(values, (0.5, 99.5))
    assert built.counts["windows"] == {f"{low:g} to {high:g}": 1}
    (row,) = [r for r in rows(tmp_path / "out") if r["id"].startswith("localization")]
    assert (np.asarray(Image.open(tmp_path / "out" / row["image"]).convert("L"))[:, -3:] == 0).all()
