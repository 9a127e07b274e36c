"""Forms in which people have the published sets, made up in their exact layouts."""

import json
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
from layouts import picture, put, put_json, put_lines, put_zip
from masked import SIZE, coco, label_map, made, rows, save
from newer import mevf

from vgtool.benchmarks.load import load
from vgtool.errors import SampleError, VgError


@pytest.mark.parametrize("inside", ["", "data_RAD"])
def test_vqa_rad_as_mevf_made_it_has_a_split_a_file_and_its_own_counts(inside: str, tmp_path: Path) -> None:
    mevf(tmp_path / inside, 451, 3064)
    for split, count in (("test", 451), ("train", 3064)):
        found = load("vqa-rad", split=split, data_root=tmp_path)
        assert (found.rows, found.published, len(found.rejected)) == (count, count, 0)
        assert not any("published" in note for note in found.notes)
        assert all(sample.id.startswith(f"{split}-{split}set") for sample in found.samples)
    assert found.samples[1].question_type == "closed" and found.samples[0].reference == "left"
    assert found.samples[0].image.read()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", ["freeform", "test_freeform"])
def test_a_file_of_one_split_that_a_pattern_finds_is_no_other_split(kind: str, split: str, tmp_path: Path) -> None:
    mevf(tmp_path)
    rows = json.loads((tmp_path / "testset.json").read_text())
    (tmp_path / "testset.json").unlink()
    (tmp_path / "trainset.json").unlink()
    put_json(tmp_path, "VQA_RAD_test.json", [row | {"phrase_type": kind} for row in rows])
    with pytest.raises(VgError, match=r"'VQA_RAD_test\.json' has .* Rename a file of one split to trainset\.json or"):
        load("vqa-rad", split=split, data_root=tmp_path)


@pytest.mark.parametrize("name", ["SLAKE_localization_questions.jsonl", "VGMED_localization_questions.jsonl"])
def test_vgmeds_early_files_are_read_under_both_names(name: str, tmp_path: Path) -> None:
    row = {"image": "xmlab7", "question": "Is there a Liver?", "bbox": [[4, 6, 10, 12]], "gt_tokens": []}
    put_lines(tmp_path, name, [row])
    put(tmp_path, "imgs/xmlab7/source.jpg", picture(30, 40, "JPEG"))
    (sample,) = load("vgmed", data_root=tmp_path).samples
    assert [box.as_list() for box in sample.boxes] == [[4, 6, 14, 18]] and sample.image.read()


def test_a_name_of_what_only_python_calls_digits_is_looked_for_as_it_is(tmp_path: Path) -> None:
    rows = [{"image": name, "question": "Is it?", "bbox": [[4, 6, 10, 12]]} for name in ("²", 7)]
    put_lines(tmp_path, "coco_localization_questions.jsonl", rows)
    put(tmp_path, "val2014/COCO_val2014_000000000007.jpg", picture(30, 40, "JPEG"))
    odd, plain = load("coco", data_root=tmp_path).samples
    assert plain.image.read()
    with pytest.raises(SampleError, match=r"image_missing: '.*²"):
        odd.image.read()


@pytest.mark.parametrize("folder", ["val2017", "train2017", "val2014"])
@pytest.mark.parametrize("beside", [True, False])
def test_the_controls_images_are_found_in_coco_as_it_is_published(folder: str, beside: bool, tmp_path: Path) -> None:
    """annotations/ and val2017/ side by side; 2017's folders name an image by its number alone."""
    name = "COCO_val2014_000000000042.jpg"
    put_lines(
        tmp_path / "coco", "COCO_localization.jsonl", [{"image": name, "question": "Is it?", "label": "dog",
                                                        "original_bboxes": [[1, 2, 3, 4]]}]
    )  # fmt: skip
    stored = name if folder == "val2014" else "000000000042.jpg"
    put(tmp_path if beside else tmp_path / "coco", f"{folder}/{stored}", picture(20, 30, "JPEG"))
    put_json(tmp_path, "annotations/instances_val2017.json", {"images": []})
    (sample,) = load("coco", data_root=tmp_path).samples
    assert sample.image.read() and sample.image_id == name


def test_what_is_not_found_is_named_with_the_places_that_were_looked_in(tmp_path: Path) -> None:
    put_lines(tmp_path, "COCO_localization.jsonl", [{"image": "COCO_val2014_000000000042.jpg", "question": "Is it?",
                                                     "original_bboxes": [[1, 2, 3, 4]]}])  # fmt: skip
    (sample,) = load("coco", data_root=tmp_path).samples
    with pytest.raises(Exception, match="image_missing") as found:
        sample.image.read()
    said = str(found.value)
    assert all(name in said for name in ("COCO_val2014_000000000042.jpg", "'000000000042.jpg'", "val2014", "val2017"))
    assert str(tmp_path) not in said
    with pytest.raises(VgError, match=r"No 'VQA_RAD Dataset Public\.json' or .*'testset\.json'.* in '.*'"):
        load("vqa-rad", data_root=tmp_path)


def coco_as_published(root: Path) -> Path:
    """annotations/instances_val2017.json with val2017/ beside it."""
    instances = coco(root / "made")
    (root / "annotations").mkdir()
    instances.rename(root / "annotations" / "instances_val2017.json")
    (root / "made" / "images").rename(root / "val2017")
    return root / "annotations" / "instances_val2017.json"


def test_coco_as_published_is_built_from_the_folder_beside_its_annotations(tmp_path: Path) -> None:
    made(coco_as_published(tmp_path / "coco"), tmp_path / "published", splits={"test": 1.0})
    made(coco(tmp_path / "flat"), tmp_path / "plain", splits={"test": 1.0})
    published, plain = (
        sorted(str([row["question"], row["reference"], row.get("boxes")]) for row in rows(tmp_path / name))
        for name in ("published", "plain")
    )
    assert published == plain and len(plain) > 5


def test_an_image_that_build_does_not_find_is_named_with_the_folders_looked_in(tmp_path: Path) -> None:
    path = coco_as_published(tmp_path / "coco")
    (tmp_path / "coco" / "val2017" / "0.png").unlink()
    made(path, tmp_path / "out", splits={"test": 1.0})
    skipped = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    (said,) = [str(one) for one in skipped if "image_missing" in str(one)]
    assert all(place in said for place in ("0.png", "val2017", "train2017", "images/val2017", "annotations/images"))


@pytest.mark.parametrize("name", ["answers.json", "answer.json", "answer_dict.json", "answer_dict_val.json"])
@pytest.mark.parametrize("key", ["B", {"question_type": "multiple-choice", "ground_truth": "B"}])
def test_mmmus_own_key_is_read_under_its_names_and_in_both_forms(name: str, key: Any, tmp_path: Path) -> None:
    layouts.mmmu_med(tmp_path)
    put_json(tmp_path, name, {"test_Pharmacy_4": key, "test_Art_1": ["a", "b"]})
    found = load("mmmu-med", data_root=tmp_path, split="test")
    assert [sample.reference for sample in found.samples] == ["y"]
    assert not any("No answer key" in note for note in found.notes)


def test_a_key_and_side_files_that_are_not_there_are_named_with_where_they_were_looked_for(tmp_path: Path) -> None:
    layouts.mmmu_med(tmp_path / "mmmu")
    notes = load("mmmu-med", data_root=tmp_path / "mmmu", split="test").notes
    assert any("answers.json or answer.json or answer_dict.json" in n and "the folder itself" in n for n in notes)
    layouts.slake(tmp_path / "slake")
    images = layouts.slake_images()
    put_zip(tmp_path / "slake", "imgs.zip", {name: data for name, data in images.items() if name.endswith(".jpg")})
    notes = load("slake", data_root=tmp_path / "slake").notes
    assert "No boxes where neither detection.json nor mask.png is beside the image: 'xmlab1'." in notes
    put_zip(tmp_path / "slake", "imgs.zip", {name: data for name, data in images.items() if "detection" not in name})
    (tmp_path / "slake" / "mask.txt").unlink()
    (said,) = [note for note in load("slake", data_root=tmp_path / "slake").notes if "mask.txt" in note]
    assert "imgs, the folder itself" in said and "imgs.zip" in said


def test_masks_that_are_not_there_are_named_with_where_they_were_looked_for(tmp_path: Path) -> None:
    layouts.vgmed(tmp_path)
    polyp = load("vgmed", data_root=tmp_path).samples[1]
    assert polyp.mask is not None
    with pytest.raises(SampleError, match=r"mask_missing: .*none\.png.* nor 'none\.png' \(looked in the folder itself"):
        polyp.mask()
    found = own(tmp_path, {"mask": "m.png"})
    assert found.rejected[0].reason == "mask_missing: 'm.png' is not in the data folder (looked in the folder itself)"


@pytest.mark.parametrize("form", ["pairs", "nifti"])
def test_build_says_which_names_it_looked_for(form: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(VgError, match=r"none of names\.json, names\.txt, .*, dataset\.json is in it"):
        made(tmp_path / "in", tmp_path / "out", form)
    put(tmp_path / "in", "names.txt", "1 liver\n")
    with pytest.raises(VgError, match=r"has no images: looked for \..* in folders called images or .*, and masks or"):
        made(tmp_path / "in", tmp_path / "out", form)


def skipped(out: Path) -> dict[str, str]:
    """File -> code of what a build told."""
    told = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert all(one["detail"] for one in told)
    return {one["file"]: one["code"] for one in told}


@pytest.mark.parametrize("marks,code", [
    ({"bbox": [500, 500, 5, 5]}, "mask_size"),
    ({"bbox": "x"}, "mask_unreadable"),
    ({}, "mask_unreadable"),
    ({"bbox": [1, 2, -3, 3]}, "mask_unreadable"),
    ({"segmentation": "x"}, "mask_unreadable"),
    ({"segmentation": 5}, "mask_unreadable"),
    ({"segmentation": [[1, 2, 3]]}, "mask_unreadable"),
    ({"segmentation": [[1, 1, 5, 1, 5, None]]}, "mask_unreadable"),
    ({"segmentation": {"counts": [9]}}, "mask_size"),
    ({"segmentation": {"size": [SIZE, SIZE], "counts": [3]}}, "mask_unreadable"),
    ({"segmentation": {"size": [SIZE, SIZE], "counts": [SIZE * SIZE]}}, "mask_empty"),
])  # fmt: skip
def test_a_mark_of_coco_that_cannot_be_drawn_costs_itself_alone(marks: Any, code: str, tmp_path: Path) -> None:
    path = coco(tmp_path / "in")
    made(path, tmp_path / "wanted", negatives="none")
    raw = json.loads(path.read_text())
    raw["annotations"].append({"id": 99, "image_id": 3, "category_id": 1, **marks})
    path.write_text(json.dumps(raw))
    assert made(path, tmp_path / "out", negatives="none").failures == 1
    assert skipped(tmp_path / "out") == {"annotation 99": code}
    assert rows(tmp_path / "out") == rows(tmp_path / "wanted")


def test_files_of_slake_that_cannot_be_read_are_told_and_the_rest_is_built(tmp_path: Path) -> None:
    good = {"detection.json": '[{"Spleen": [5, 6, 20, 10]}]', "question.json": '[{"modality": "CT"}]'}
    files = {
        "xmlab1": good,
        "xmlab2": good | {"question.json": "{"},
        "xmlab3": good | {"question.json": "[5]"},
        "xmlab4": good | {"detection.json": "["},
        "xmlab5": good | {"detection.json": "[5]"},
        "xmlab6": {},
    }
    for at, (name, texts) in enumerate(files.items()):
        put(tmp_path / "in", f"imgs/{name}/source.jpg", picture(60, 40 + at, "JPEG"))
        for file, text in texts.items():
            put(tmp_path / "in", f"imgs/{name}/{file}", text)
    built = made(tmp_path / "in", tmp_path / "out", negatives="none")
    assert {(row["image"].split("/")[-2], row["group"]) for row in rows(tmp_path / "out")} == {
        ("xmlab1", "CT"), ("xmlab2", "unknown"), ("xmlab3", "unknown")
    }  # fmt: skip
    assert skipped(tmp_path / "out") == {
        "xmlab2/question.json": "question_unreadable",
        "xmlab4/detection.json": "detection_unreadable",
        "xmlab5/detection.json": "detection_unreadable",
        "xmlab6": "image_without_mask",
    }
    assert built.failures == 3


def test_volumes_that_cannot_be_read_are_told_and_the_rest_is_built(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    marks = np.zeros((30, 30, 4), np.uint8)
    marks[5:20, 5:20, 2] = 1
    for folder in ("imagesTr", "labelsTr"):
        for name in ("image", "label", "empty", "whole"):
            path = put(tmp_path / "in", f"{folder}/{name}.nii.gz", b"")
            nibabel.save(nibabel.Nifti1Image(marks, np.eye(4)), path)
    put(tmp_path / "in", "imagesTr/image.nii.gz", b"no volume")
    cut = tmp_path / "in" / "labelsTr" / "label.nii.gz"
    cut.write_bytes(cut.read_bytes()[:50])
    nibabel.save(nibabel.Nifti1Image(0 * marks, np.eye(4)), tmp_path / "in" / "labelsTr" / "empty.nii.gz")
    put(tmp_path / "in", "names.txt", "1 node\n")
    assert made(tmp_path / "in", tmp_path / "out", negatives="none").failures == 3
    assert {row["image"] for row in rows(tmp_path / "out")} == {"images/whole_z0002.png"}
    assert skipped(tmp_path / "out") == {
        "imagesTr/image.nii.gz": "image_unreadable",
        "labelsTr/label.nii.gz": "mask_unreadable",
        "labelsTr/empty.nii.gz": "mask_empty",
    }


@pytest.mark.parametrize("key,code", [
    ("images/a.png", "unknown_class"),  # the mask is of that image, and nothing says of which class
    ("images\\a.png", "unknown_class"),
    ("a", "unknown_class"),
    ("/elsewhere/images/a.png", "mask_without_image"),
    ("../images/a.png", "mask_without_image"),
    ("", "mask_without_image"),
])  # fmt: skip
def test_a_json_map_may_name_images_as_it_likes(key: str, code: str, tmp_path: Path) -> None:
    save(tmp_path / "in" / "images" / "a.png", np.full((SIZE, SIZE), 70))
    save(tmp_path / "in" / "masks" / "a_organ_000.png", label_map() == 2)
    save(tmp_path / "in" / "masks" / "other.png", label_map() == 1)
    put_json(tmp_path / "in", "maps.json", {key: ["masks/other.png"], "x": [5, None], "y": None})
    made(tmp_path / "in", tmp_path / "out", negatives="none")
    assert skipped(tmp_path / "out") == {"masks/other.png": code} and rows(tmp_path / "out")


@pytest.mark.parametrize("name,form,said", [
    ("gone", "auto", "No folder or file '{}'. Name what holds the masks."),
    ("a.txt", "auto", "'{}' is no COCO JSON file. Name a folder with masks, or FILE.json."),
    ("in", "piars", "No format 'piars'. Did you mean 'pairs'?"),
    ("in", "coco", "Format 'coco' is not what '{}' is. coco is a JSON file, the others are folders."),
    ("a.json", "pairs", "Format 'pairs' is not what '{}' is. coco is a JSON file, the others are folders."),
    ("in", "samed2d", "'b.json' cannot be read as JSON: "),
])  # fmt: skip
def test_what_no_layout_is_leaves_no_folder_behind(name: str, form: str, said: str, tmp_path: Path) -> None:
    for file in ("a.txt", "a.json", "in/b.json"):
        put(tmp_path, file, "{")
    with pytest.raises(VgError) as caught:
        made(tmp_path / name, tmp_path / "out", form)
    assert str(caught.value).startswith(said.format(tmp_path / name))
    assert not (tmp_path / "out").exists()


# ---- boxes -----------------------------------------------------------------------------------------------------------


def own(root: Path, *rows: dict[str, Any], form: str | None = None, **settings: Any) -> Any:
    put(root, "a.png", picture(200, 100))
    shared = {"image": "a.png", "question": "Is it?", **({"box_format": form} if form else {})}
    put_lines(root, "mine.jsonl", [shared | {"id": str(n)} | row for n, row in enumerate(rows)])
    return load(str(root / "mine.jsonl"), **settings)


@pytest.mark.parametrize(
    "form,raw,pixels",
    [
        ("normalised", [0.1, 0.2, 0.5, 1], [20, 20, 100, 100]),
        ("normalised-1000", [100, 200, 500, 1000], [20, 20, 100, 100]),
        ("xyxy", [20, 20, 100, 100], [20, 20, 100, 100]),
    ],
)
def test_boxes_in_shares_of_the_image_become_its_pixels(form: str, raw: Any, pixels: Any, tmp_path: Path) -> None:
    for found in (own(tmp_path, {"boxes": [raw]}, form=form), own(tmp_path, {"boxes": [raw]}, box_format=form)):
        assert [box.as_list() for box in found.samples[0].boxes] == [pixels]


@pytest.mark.parametrize("stated", [None, "xyxy", "xywh", "xyxy-inclusive"])
def test_a_set_whose_boxes_all_lie_within_0_to_1_is_refused_with_the_format_that_fits(
    stated: str, tmp_path: Path
) -> None:
    rows = [{"boxes": [[0.1, 0.2, 0.3, 0.4]]}, {"boxes": [[0, 0, 0.5, 0.7]]}]
    with pytest.raises(VgError, match=r"All 2 boxes of .* lie within 0 to 1.*--box-format normalised"):
        own(tmp_path, *rows, form=stated)
    assert len(own(tmp_path, *rows, box_format="xyxy").samples) == 2, "named so, they are pixels"
    assert len(own(tmp_path, *rows, {"boxes": [[10, 10, 20, 20]]}).samples) == 3, "one is in pixels"


@pytest.mark.parametrize("form,raw", [("normalised", [0, 0, 1.2, 1]), ("normalised-1000", [0, 0, 1001, 5]),
                                      ("normalised", [-0.1, 0, 1, 1]), ("normalised", [0.5, 0, 0.5, 1])])  # fmt: skip
def test_a_box_beyond_its_format_costs_its_row(form: str, raw: Any, tmp_path: Path) -> None:
    found = own(tmp_path, {"boxes": [raw]}, {"boxes": [[0, 0, 1, 1]]}, form=form)
    assert [row.reason.split(":")[0] for row in found.rejected] == ["malformed_row"] and len(found.samples) == 1


# ---- right answers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer,reference",
    [
        (True, "yes"), (False, "no"), (3.0, "3"), (2.5, "2.5"), (0, "0"), ("NaN", ""), (float("nan"), ""), (None, ""),
        (["spleen", "lien"], '["spleen", "lien"]'), ([], ""), ({"a": 1}, None), ([["a"]], None),
    ],
)  # fmt: skip
def test_an_answer_is_a_reference_or_its_row_fails(answer: Any, reference: str | None, tmp_path: Path) -> None:
    found = own(tmp_path, {"answer": answer})
    assert [sample.reference for sample in found.samples] == ([] if reference is None else [reference])
    assert len(found.rejected) == (reference is None)


def test_id_zero_is_an_id_and_a_list_of_answers_is_of_options(tmp_path: Path) -> None:
    found = own(tmp_path, {"id": 0, "choices": ["liver", "spleen", "heart"], "answer": ["B", "liver"]})
    assert found.samples[0].id == "0" and found.samples[0].reference == '["spleen", "liver"]'
