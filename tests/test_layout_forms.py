"""Forms in which people have the published sets, made up in their exact layouts."""

import json
from pathlib import Path
from typing import Any

import pytest
from layouts import picture, put, put_json, put_lines
from newer import mevf

from vgtool.benchmarks.load import load
from vgtool.errors import VgError


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
