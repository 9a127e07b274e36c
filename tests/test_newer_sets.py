"""Sets published since 2024, VQA-Med and SLAKE's knowledge rows, each by its published layout."""

import json
from pathlib import Path
from typing import Any

import layouts
import newer
import pytest
from layouts import put_json

from vgtool import registry
from vgtool.benchmarks.load import load
from vgtool.benchmarks.vqa_med import accepted_of
from vgtool.images import open_image
from vgtool.records import Sample

LETTERED: dict[str, tuple[Any, list[str], tuple[Any, ...]]] = {
    "medxpertqa": (newer.medxpertqa, ["test-MM-26"], ("d", tuple("abcde"), "Cardiovascular")),
    "medframeqa": (newer.medframeqa, ["test-q1"], ("b", ("a", "b"), "CT")),
    "mmmu-pro-med": (
        newer.mmmu_pro,
        ["test-test_Pharmacy_0", "test-test_Public_Health_2"],
        ("option 9", tuple(newer.TEN), "Pharmacy"),
    ),
}


def told(sample: Sample) -> tuple[Any, ...]:
    return sample.reference, sample.choices, sample.group


def sizes(sample: Sample) -> list[tuple[int, int]]:
    return [open_image(one).size for one in (sample.image, *sample.extra_images)]


@pytest.mark.parametrize("name", LETTERED)
def test_lettered_questions_about_several_images_are_read(name: str, tmp_path: Path) -> None:
    write, ids, first = LETTERED[name]
    write(tmp_path)
    found = load(name, data_root=tmp_path)
    assert [sample.id for sample in found.samples] == ids
    assert told(found.samples[0]) == first and sizes(found.samples[0]) == [(20, 21), (22, 23)]
    assert all("is no letter of" in row.reason for row in found.rejected)
    assert len(found.rejected) == (name == "medxpertqa")


@pytest.mark.parametrize("metadata", [None, newer.as_text])
def test_radimagenet_vqa_has_three_types_and_its_modality_as_struct_or_text(metadata: Any, tmp_path: Path) -> None:
    newer.radimagenet(tmp_path, metadata)
    found = load("radimagenet-vqa", data_root=tmp_path)
    assert [(sample.question_type, *told(sample)) for sample in found.samples] == [
        ("choice", "hip", ("brain", "spine", "hip", "knee"), "MRI"),
        ("closed", "No", None, "MRI"),
        ("open", "arthritis", None, "MRI"),
    ]
    assert [row.reason for row in found.rejected] == ["answer_not_an_option: 'D' is no letter of 2 options"]
    assert found.samples[0].image_id == found.samples[1].image_id != found.samples[2].image_id
    assert found.published == 9000


def test_medthinkvqa_shows_history_and_all_images_and_nothing_that_tells_the_diagnosis(tmp_path: Path) -> None:
    newer.medthinkvqa(tmp_path)
    found = load("medthinkvqa", data_root=tmp_path)
    (sample,) = found.samples
    assert told(sample) == ("b", tuple("abcde"), "MRI") and sizes(sample) == [(20, 21), (22, 23)]
    assert sample.question == "A man of 39 has pain.\nWhich is the most likely diagnosis?"
    assert "It shows" not in sample.prompt and "It is b" not in sample.prompt
    assert [row.reason.split(":")[0] for row in found.rejected] == ["image_missing"]


def test_medbookvqas_options_stand_in_the_order_of_its_letters(tmp_path: Path) -> None:
    newer.medbookvqa(tmp_path)
    found = load("medbookvqa", data_root=tmp_path)
    (sample,) = found.samples
    assert told(sample) == ("CT", ("MRI", "X-ray", "CT", "PET"), "Modality Recognition")
    assert sample.id == "test-q1" and sizes(sample) == [(20, 21)]
    assert "letters C, A, B, C of 4 options" in found.rejected[0].reason


def test_vqa_med_is_read_from_its_text_files_with_every_accepted_answer(tmp_path: Path) -> None:
    newer.vqa_med(tmp_path)
    found = load("vqa-med", data_root=tmp_path)
    emboli = ["fungal infection with septic emboli", "septic emboli", "cystic mass"]
    assert [(sample.question_type, sample.reference, sample.group) for sample in found.samples] == [
        ("closed", "no", "modality"),
        ("open", json.dumps(emboli), "abnormality"),
    ]
    assert [row.reason for row in found.rejected] == [
        "malformed_row: 2 fields between |, not 3 or 4 (synpic1|no question)"
    ]
    assert sizes(found.samples[0]) == [(20, 21)]
    (train,) = load("vqa-med", split="train", data_root=tmp_path).samples
    assert (train.reference, train.group, sizes(train)) == ("axial", "", [(24, 25)])


@pytest.mark.parametrize(
    "written,accepted",
    [
        ("axial", "axial"),
        ("a#b", '["a", "b"]'),
        ("(mild) edema", '["mild edema", "edema"]'),
        ("mass (left)", '["mass left", "mass"]'),
        ("(all)", "(all)"),
    ],
)
def test_what_stands_in_brackets_may_be_left_out(written: str, accepted: str) -> None:
    assert accepted_of(written) == accepted


@pytest.mark.parametrize(
    "name,rows", [("medframeqa", 2851), ("medxpertqa", 2000), ("medthinkvqa", 720), ("medbookvqa", 5000)]
)
def test_published_counts_of_newer_sets_stand_in_the_registry(name: str, rows: int) -> None:
    assert registry.benchmarks()[name].splits["test"] == rows


def test_the_list_counts_the_rows_of_text_files(tmp_path: Path) -> None:
    from vgtool.benchmarks.fetch import rows_on_disk

    newer.vqa_med(tmp_path)
    assert rows_on_disk(registry.benchmarks()["vqa-med"], tmp_path) == 4


def test_slakes_knowledge_rows_are_a_protocol(tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    rows = [row | {"base_type": "kvqa" if n in (0, 3) else "vqa"} for n, row in enumerate(layouts.SLAKE_ROWS)]
    put_json(tmp_path, "test.json", rows)
    found = load("slake", data_root=tmp_path, protocol="knowledge")
    assert [sample.id for sample in found.samples] == ["test-100", "test-103"] and found.published == 148
