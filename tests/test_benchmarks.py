"""Every published layout reads as it stands on disk, by its protocols; what is broken costs its own row only."""

import io
import json
import os
import random
import re
import stat
import struct
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import in_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import COPIES, picture, put, put_csv, put_json, put_lines, put_parquet, put_zip
from PIL import Image
from typer.testing import CliRunner

from vgtool import registry
from vgtool.benchmarks.load import Benchmark, load, reader
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.slake import detections, mask_values
from vgtool.benchmarks.sources import Archive, Files, safe_name
from vgtool.benchmarks.tables import read_rows
from vgtool.commands import app
from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import Geometry
from vgtool.images import open_image
from vgtool.records import Box, Grid, Rejected, Sample

SHORT = " Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
CONTENT_ID = "[0-9a-f]{16}"


def lettered(question: str, *options: str) -> str:
    lines = [f"{letter}. {text}" for letter, text in zip("ABCDEFGHI", options, strict=False)]
    return "\n".join([question, *lines, LETTER])


def row(id: str, size: tuple[int, int], question: str, kind: str, **fields: Any) -> dict[str, Any]:
    """What a row should become; fields that are not named are empty, the prompt is the short one."""
    empty: dict[str, Any] = {"reference": "", "choices": None, "boxes": [], "group": "", "more": [], "mask": None}
    prompt = lettered(question, *fields.get("choices", ())) if kind == "choice" else question + SHORT
    return empty | {"id": id, "size": size, "question": question, "kind": kind, "prompt": prompt} | fields


def told(sample: Sample) -> dict[str, Any]:
    """Every field of a sample, images as their decoded size."""
    return {
        "id": sample.id,
        "size": open_image(sample.image).size,
        "question": sample.question,
        "kind": sample.question_type,
        "prompt": sample.prompt,
        "reference": sample.reference,
        "choices": sample.choices,
        "boxes": [box.as_list() for box in sample.boxes],
        "group": sample.group,
        "more": [open_image(image).size for image in sample.extra_images],
        "mask": None if sample.mask is None else int(np.asarray(sample.mask()).sum()),
    }


LIVER = row(
    "localization-#", (96, 48), "Is there a liver tumor in the image?", "closed", group="CT", boxes=[[10, 8, 30, 28]],
    mask=400,
)  # fmt: skip
LUNG = row(
    "localization-#", (60, 100), "Can a Lung be found in this image?", "closed", group="X-ray",
    boxes=[[10.5, 4, 30.5, 20]],
)  # fmt: skip
POLYP = row(
    "localization-#", (64, 40), "Do you see a polyp in the picture?", "closed", group="Endoscopy",
    boxes=[[0, 0, 1, 1], [20, 10, 40, 20]],
)  # fmt: skip
SWOLLEN = {"id": "attribute-#", "question": "Is it swollen?", "prompt": "Is it swollen?" + SHORT, "kind": "open"}
DOG = row(
    "localization-#", (80, 64), "Is there a dog in the image?", "closed", group="dog",
    boxes=[[10.25, 20.5, 40.25, 60.5], [0, 0, 5.5, 6.5]],
)  # fmt: skip
LEFT, RIGHT, HEART = [10, 10, 30, 50], [60, 10, 90, 50], [40, 40, 60, 60]
MODALITY = "What imaging modality is used?"
YES_NO = {"prompt": lettered("Is it big?", "Yes", "No"), "choices": ("Yes", "No")}
CLOSED = {"prompt": "Is it big? Please choose from the following two options: [yes, no]"}
RAD_7 = row("test-7", (50, 60), "Is there a pleural effusion?", "closed", reference="No", group="Chest")
RAD_9 = row("test-9", (50, 60), "Is this PA or AP?", "closed", reference="PA", group="Chest")
OMNI: list[dict[str, Any]] = [
    row("open-access-ACRIMA/ACRIMA_0000", (33, 34), MODALITY, "choice", choices=("CT.", "ct", "Fundus", "OCT"),
        reference="ct", group="Fundus"),
    row("open-access-Chest CT Scan/Chest CT Scan_0001", (35, 36), MODALITY, "choice", choices=("Yes", "No"),
        reference="No", group="CT"),
    row("open-access-Chest CT Scan/Chest CT Scan_0002", (35, 36), MODALITY, "choice", reference="Mass", group="CT",
        choices=("Cyst", "Mass", "none")),
    row("open-access-Chest CT Scan/Chest CT Scan_0003", (37, 38), MODALITY, "choice", choices=("a", "b"),
        reference="b", group="MRI"),
    row("open-access-Chest CT Scan/Chest CT Scan_0004", (37, 38), MODALITY, "choice", choices=("a", "b"),
        reference="a", group="OCT"),
]  # fmt: skip
NINE = tuple(str(number) for number in range(9))
EXPECTED: dict[str, list[dict[str, Any]]] = {
    "vgmed": [LIVER, POLYP, LUNG],
    "vgmed-attribute": [LIVER | SWOLLEN, POLYP | SWOLLEN, LUNG | SWOLLEN],
    "vgmed-early": [row("localization-#", (30, 40), "Is there a Liver?", "closed", boxes=[[4, 6, 14, 18]])],
    "coco": [DOG],
    "coco-early": [row("localization-#", (31, 41), "Is there a cat?", "closed", boxes=[[1, 2, 4, 6]])],
    "vqa-rad": [
        RAD_7,
        row("test-8", (51, 61), "Is the heart big?", "closed", reference="yes", group="Head"),
        RAD_9,
        row("test-10", (51, 61), "How many lesions are there?", "open", reference="3", group="Head"),
    ],
    "vqa-rad-paper": [
        row("train-11", (51, 61), "Is the colon normal?", "closed", reference="Yes", group="Abdomen"),
        RAD_7,
        RAD_9,
    ],
    "vqa-rad-parquet": [
        row("test-#", (50, 60), "Is it big?", "closed", reference="yes", **YES_NO),
        row("test-#", (52, 62), "Is it big?", "closed", reference="No", **YES_NO),
        row("test-#-2", (52, 62), "Is it big?", "closed", reference="No", **YES_NO),
    ],
    "slake": [
        row("test-100", (100, 80), "Is the left lung healthy?", "closed", reference="Yes", group="X-ray", boxes=[LEFT],
            mask=800),
        row("test-101", (100, 80), "Are the lungs healthy?", "closed", reference="No", group="X-ray", mask=2000,
            boxes=[LEFT, RIGHT]),
        row("test-102", (100, 80), "Which is bigger, liver or heart?", "closed", reference="Heart", group="X-ray",
            boxes=[HEART], mask=0),
        row("test-103", (100, 80), "Which organ is on the left?", "open", reference="Left Lung", group="X-ray",
            boxes=[LEFT], mask=800),
        row("test-104", (100, 80), "What plane is it?", "open", reference="Coronal", group="X-ray"),
        row("test-106", (90, 70), "Is this a T1 weighted MRI image?", "closed", reference="T2", group="MRI"),
        row("test-107", (90, 70), "Where is the brain tumor?", "open", reference="Upper left", group="MRI",
            boxes=[[5, 6, 15, 26]], mask=200),
    ],
    "path-vqa": [
        row("test-#", (50, 60), "Is it big?", "closed", reference="yes", **CLOSED),
        row("test-#", (50, 60), "where is it?", "open", reference="left lobe", prompt="where is it?"),
        row("test-#", (52, 62), "Is it big?", "closed", reference="No", **CLOSED),
        row("test-#-2", (52, 62), "Is it big?", "closed", reference="No", **CLOSED),
    ],
    "pmc-vqa": [
        row("test_clean-#", (40, 41), "Which artery, in\nthe figure, is shown?", "choice",
            choices=("Right Coronary Artery", "Left, anterior", "B: type", "D: none"),
            reference="Right Coronary Artery"),
        row("test_clean-#", (42, 43), "What is it?", "choice", choices=("MRI", "CT", "PET", "X-ray"), reference="CT"),
    ],
    "pmc-vqa-2": [
        row("test_2-#", (44, 45), "What is it?", "choice", choices=("MRI", "CT", "PET", "X-ray"), reference="X-ray")
    ],
    "omnimedvqa": OMNI,
    "omnimedvqa-zip": OMNI,
    "omnimedvqa-regrouped": [
        row("regrouped-test-#", (33, 34), "What is shown in (A) and B?", "choice", reference="None of A, B",
            choices=("Cyst, simple", "Mass", "A) mark", "None of A, B"), group="CT"),
        row("regrouped-test-#", (35, 36), "Is it?", "choice", choices=("Yes", "No"), reference="Yes", group="CT"),
    ],
    "mmmu-med": [
        row("validation_Clinical_Medicine_3", (26, 27), "Which of <image 1> is abnormal?", "choice", choices=NINE,
            reference="8", group="Clinical Medicine"),
        row("validation_Pharmacy_1", (20, 21), "Which of <image 1> is abnormal?", "choice", more=[(22, 23)],
            choices=("a", "b's", "<image 2>"), reference="<image 2>", group="Pharmacy"),
        row("validation_Pharmacy_2", (24, 25), "Which of <image 1> is abnormal?", "open", reference='["3.5", "3,5"]',
            group="Pharmacy"),
    ],
    "med-eval": [
        row("#", (70, 71), "What is it?", "choice", choices=("yes", "no"), reference="no", group="VQA-RAD_test"),
        row("#", (70, 71), "What is it?", "choice", choices=("CT", "MRI", "X-ray", "PET"), reference="MRI",
            group="OmniMedVQA / MRI"),
        row("#", (72, 73), "What is it?", "choice", choices=("1", "2"), reference="2",
            group="MMMU_Medical_Validation / Public Health"),
    ],
}  # fmt: skip


def read(name: str, root: Path, **settings: Any) -> Benchmark:
    return load(name, data_root=root, **settings)


def read_copy(copy: str, root: Path) -> Benchmark:
    name, write, extra = COPIES[copy]
    write(root)
    return read(name, root, **{key[2:]: value for key, value in zip(extra[::2], extra[1::2], strict=True)})


def vgtool(*args: str | Path) -> Any:
    return CliRunner().invoke(app, list(map(str, args)))


# ---- what the published files say ------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", COPIES)
def test_every_field_of_every_row_is_what_the_published_layout_says(copy: str, tmp_path: Path) -> None:
    found = read_copy(copy, tmp_path)
    assert not found.rejected
    assert len(found.samples) == len(EXPECTED[copy])
    for sample, expected in zip(found.samples, EXPECTED[copy], strict=True):
        assert re.fullmatch(re.escape(expected["id"]).replace(r"\#", CONTENT_ID), sample.id)
        expected = expected | {"id": sample.id}
        assert told(sample) == expected
        assert sample.domain == ("natural" if copy.startswith("coco") else "medical")
    assert len({sample.id for sample in found.samples}) == len(found.samples)
    same_picture = {sample.image_id: told(sample)["size"] for sample in found.samples}
    assert len(same_picture) == len(set(same_picture.values())), "one image id, one picture"


@pytest.mark.parametrize("copy", COPIES)
def test_the_whole_pipeline_runs_on_a_copy(copy: str, tmp_path: Path) -> None:
    name, write, extra = COPIES[copy]
    write(tmp_path / "data" / name)
    common = ["--model", "phantom-vlm", "--benchmark", name, "--data-root", tmp_path / "data", *extra, "--limit", "2"]
    wanted = min(2, len(EXPECTED[copy]))
    commands = [["probe"]]
    if registry.benchmarks()[name].has_answers:
        commands.append(["refine", "--method", "no-image"])
    for command in commands:
        done = vgtool(*command, *common, "--out", tmp_path / command[0], "--json")
        assert done.exit_code == 0, done.output
        parts = pl.concat([pl.read_parquet(part) for part in (tmp_path / command[0] / "parts").glob("*.parquet")])
        assert parts["sample_id"].n_unique() == wanted
        assert parts["error"].null_count() == parts.height


def test_the_data_folder_may_be_the_benchmarks_own_or_its_parent(tmp_path: Path) -> None:
    layouts.pmc_vqa(tmp_path / "pmc-vqa")
    assert read("pmc-vqa", tmp_path).digest == read("pmc-vqa", tmp_path / "pmc-vqa").digest


def test_vgmed_finds_slakes_images_in_slakes_own_folder(tmp_path: Path) -> None:
    layouts.vgmed(tmp_path / "vgmed")
    (tmp_path / "vgmed" / "imgs" / "xmlab7" / "source.jpg").unlink()
    put_zip(tmp_path / "slake", "imgs.zip", {"imgs/xmlab7/source.jpg": picture(60, 100, "JPEG")})
    assert open_image(read("vgmed", tmp_path).samples[2].image).size == (60, 100)


@pytest.mark.parametrize("name,images", [
    ("coco", ["val2014.zip"]),
    ("vgmed", ["SAMed2D_v1", "endoscopy_polydb", "imgs"]),
    ("pmc-vqa", ["images.zip", "images_2.zip"]),
    ("slake", ["imgs.zip"]),
])  # fmt: skip
@pytest.mark.parametrize("inside", ["", "NAME"])
def test_rows_in_the_cache_take_their_images_from_the_data_folder(
    inside: str, name: str, images: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = in_cache(tmp_path / "hub", str(registry.benchmarks()[name].hub), lambda to: to, "datasets")
    COPIES[name][1](cached)
    whole = [told(sample) for sample in read(name, cached).samples]
    data = tmp_path / "data" / inside.replace("NAME", name)
    data.mkdir(parents=True)
    for part in images:
        (cached / part).rename(data / part)
    assert [told(sample) for sample in read(name, tmp_path / "data").samples] == whole


def test_rows_inside_an_archive_of_the_data_folder_come_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vgtool.benchmarks.fetch._cached", lambda spec: pytest.fail("asked the cache"))
    layouts.omnimedvqa_zip(tmp_path)
    assert read("omnimedvqa", tmp_path).rows == len(OMNI)


# ---- protocols -------------------------------------------------------------------------------------------------------

SLAKE_IDS = {
    ("default", None): ["100", "101", "102", "103", "104", "106", "107"],
    ("bilingual", None): ["100", "101", "102", "103", "104", "105", "106", "107"],
    ("huatuo", None): ["100", "101", "102", "106"],
    ("llava-med", None): ["100", "101", "102", "103", "104", "106", "107"],
    ("paper", "test"): ["100", "101", "102", "106"],
}


@pytest.mark.parametrize("protocol,split", SLAKE_IDS)
def test_a_protocol_fixes_the_rows(protocol: str, split: str | None, tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    found = read("slake", tmp_path, protocol=protocol, split=split)
    assert [sample.id.removeprefix("test-") for sample in found.samples] == SLAKE_IDS[protocol, split]


def test_the_papers_slake_rows_are_the_closed_english_ones_of_all_splits_and_training_rows_are_named(
    tmp_path: Path,
) -> None:
    layouts.slake(tmp_path)
    found = read("slake", tmp_path, protocol="paper")
    assert found.counts == {"train": 1, "validation": 1, "test": 4} and found.split == "train+validation+test"
    assert (found.rule, found.decoding.max_new_tokens, found.published) == ("paper", 1, 2781)
    assert "6 rows, where 2,781 are published." in found.notes
    assert any("train are included" in note and "tuned" in note for note in found.notes)


def test_lettered_options_are_yes_and_no_or_what_the_question_offers_or_none(tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    found = {sample.id: sample for sample in read("slake", tmp_path, protocol="huatuo").samples}
    assert found["test-100"].prompt == lettered("Is the left lung healthy?", "Yes", "No")
    assert found["test-102"].choices == ("liver", "heart"), "as the question spells them"
    assert found["test-106"].choices is None and found["test-106"].prompt.endswith(SHORT)


def test_published_counts_stand_in_the_protocols() -> None:
    """BENCHMARKS' own arithmetic: the paper's four averages need 9,440 rows, HuatuoGPT-Vision's set 17,298."""
    from vgtool.benchmarks.load import expected

    entries = registry.benchmarks()

    def rows(name: str, protocol: str, *splits: str) -> int | None:
        chosen = entries[name].protocols[protocol]
        return expected(entries[name], chosen, splits or chosen.splits or [entries[name].default_split])

    paper = [rows(name, "paper") for name in ("vqa-rad", "slake", "path-vqa", "pmc-vqa")]
    assert paper == [1297, 2781, 3362, 2000] and sum(map(int, map(str, paper))) == 9440
    assert rows("omnimedvqa", "paper") == 88996 and rows("mmmu-med", "paper") == 1752
    assert rows("med-eval", "huatuo") == 17298 == 251 + 416 + 3362 + 2000 + 11124 + 145
    assert [rows(name, "huatuo") for name in ("vqa-rad", "slake", "path-vqa")] == [251, 416, 3362]
    assert rows("slake", "bilingual", "train", "validation", "test") == 14028
    assert rows("slake", "default", "train", "validation", "test") == 7033
    assert rows("vqa-rad", "default", "train", "test") == 2248
    for name, protocol in (("vgmed", "default"), ("coco", "default")):
        assert rows(name, protocol, "attribute", "localization") == 27924


def test_every_rule_a_protocol_names_is_one_that_scores() -> None:
    from vgtool.scoring.answers import RULES

    for entry in registry.benchmarks().values():
        assert {protocol.rule for protocol in entry.protocols.values()} <= set(RULES)


def test_a_right_count_is_not_remarked_on(tmp_path: Path) -> None:
    put(
        tmp_path,
        "benchmarks.yaml",
        "four:\n  title: t\n  reader: pairs\n  domain: medical\n  splits: {test: 4}\n  default_split: test\n"
        "  data: {test: ['data/test-*.parquet']}\n",
    )
    layouts.path_vqa(tmp_path)
    found = load("four", data_root=tmp_path, registry=tmp_path)
    assert (found.rows, found.published, found.notes) == (4, 4, ())


def test_a_protocol_that_needs_a_field_the_files_lack_is_refused_by_name(tmp_path: Path) -> None:
    layouts.vqa_rad_parquet(tmp_path)
    with pytest.raises(VgError, match="'answer_type', which no row on disk has"):
        read("vqa-rad", tmp_path, protocol="paper")


def test_a_braced_word_in_a_question_is_not_expanded(tmp_path: Path) -> None:
    put(tmp_path, "a.png", picture(9, 9))
    put_lines(tmp_path, "q.jsonl", [{"image": "a.png", "question": "Is {options} {question}?", "choices": ["x", "y"]}])
    prompt = load(str(tmp_path / "q.jsonl")).samples[0].prompt
    assert prompt == lettered("Is {options} {question}?", "x", "y")


def test_mmmu_test_rows_take_answers_from_a_key_and_are_said_to_have_none_without(tmp_path: Path) -> None:
    layouts.mmmu_med(tmp_path)
    found = read("mmmu-med", tmp_path, split="test")
    assert found.samples[0].reference == ""
    assert "1 rows have no answer on disk: they can be probed, not scored." in found.notes
    put_json(tmp_path, "answers.json", {"test_Pharmacy_4": {"question_type": "multiple-choice", "ground_truth": "B"}})
    assert read("mmmu-med", tmp_path, split="test").samples[0].reference == "y"
    empty = {**layouts.MMMU_TEST[0], "answer": ""}
    columns = [f"image_{n}" for n in range(1, 8)]
    put_parquet(tmp_path, "Pharmacy/test-00000-of-00001.parquet", [empty], columns)
    assert read("mmmu-med", tmp_path, split="test").samples[0].reference == "y"


MODALITY_FILES = {
    "CT(Computed Tomography)": "CT",
    "X-Ray": "X-ray",
    "MR (Mag-netic Resonance Imaging)": "MRI",
    "ultrasound": "Ultrasound",
    "Dermoscopy": "Dermoscopy",
    "Fundus Photography": "Fundus",
    "Microscopy Images": "Microscopy",
    "OCT (Optical Coherence Tomography": "OCT",
}


@pytest.mark.parametrize("top", ["", "OmniMedVQA/"])
def test_regrouped_files_are_found_where_they_are_published_and_their_names_say_the_modality(
    top: str, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        for name in MODALITY_FILES:
            asked = [{**layouts.REGROUPED[1], "image": f"Images/{name}.png"}]
            put_json(tmp_path, f"{top}Splits/modality/{split}/{name}_{split}.json", asked)
        put_json(tmp_path, f"{top}Splits/question_type/{split}/Disease Diagnosis_{split}.json", layouts.REGROUPED)
    put(tmp_path, f"{top}Images/X-Ray.png", picture(9, 9))
    for split in ("train", "test"):
        found = {s.image.name: s for s in read("omnimedvqa", tmp_path, split=f"regrouped-{split}").samples}
        assert {name: s.group for name, s in found.items()} == {f"Images/{k}.png": v for k, v in MODALITY_FILES.items()}
        assert open_image(found["Images/X-Ray.png"].image).size == (9, 9)


@pytest.mark.parametrize("file,group", [
    ("oct_test.json", "OCT"), ("ct_test.json", "CT"), ("XRay_test.json", "X-ray"), ("sample-mr_test.json", "MRI"),
    ("detection_test.json", ""),
])  # fmt: skip
def test_a_modality_is_a_word_of_a_regrouped_files_name(file: str, group: str, tmp_path: Path) -> None:
    put_json(tmp_path, file, layouts.REGROUPED[1:])
    assert read("omnimedvqa", tmp_path, split="regrouped-test").samples[0].group == group


def test_restricted_access_rows_have_questions_only(tmp_path: Path) -> None:
    layouts.omnimedvqa(tmp_path)
    found = read("omnimedvqa", tmp_path, split="restricted-access")
    assert [sample.reference for sample in found.samples] == [""] and not found.rejected


# ---- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", ["vgmed", "pmc-vqa", "med-eval", "vqa-rad", "omnimedvqa-regrouped"])
def test_shuffling_the_rows_changes_no_id_and_not_the_digest(copy: str, tmp_path: Path) -> None:
    before = read_copy(copy, tmp_path)
    for path in [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.jsonl"), *tmp_path.rglob("*.csv")]:
        if path.suffix == ".csv":
            put_csv(path.parent, path.name, list(read_rows(path))[::-1])  # type: ignore[arg-type]
        elif path.suffix == ".jsonl":
            path.write_text("\n".join(reversed(path.read_text().splitlines())))
        else:
            path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    after = read_copy_again(copy, tmp_path)
    assert [s.id for s in after.samples] == [s.id for s in before.samples][::-1]
    assert after.digest == before.digest


def read_copy_again(copy: str, root: Path) -> Benchmark:
    name, _, extra = COPIES[copy]
    return read(name, root, **{key[2:]: value for key, value in zip(extra[::2], extra[1::2], strict=True)})


def test_a_row_keeps_its_id_under_every_protocol_and_box_format(tmp_path: Path) -> None:
    layouts.vgmed(tmp_path)
    ids = [sample.id for sample in read("vgmed", tmp_path, box_format="xyxy-inclusive").samples]
    assert ids == [sample.id for sample in read("vgmed", tmp_path).samples]


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


@pytest.mark.parametrize("data", [b"{", b"[1]", b'"x"'])
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


# ---- bad input -------------------------------------------------------------------------------------------------------


def _bomb(side: int = 50_000) -> bytes:
    """A PNG of a few kB that declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
        + chunk(b"IEND", b"")
    )


def test_bad_rows_and_images_cost_only_themselves_and_are_counted_in_the_table(tmp_path: Path) -> None:
    home = tmp_path / "data"
    data = home / "omnimedvqa"
    put(tmp_path, "secret.png", picture(10, 10))
    good = picture(64, 64)
    put(data, "Images/good.png", good)
    put(data, "Images/cut.png", picture(640, 640)[:-300])
    put(data, "Images/bomb.png", _bomb())
    put(data, "Images/text.png", "not a picture")
    put(data, "Images/pointer.png", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (data / "Images" / "link.png").symlink_to(tmp_path / "secret.png")

    def asked(number: int, image: str = "Images/good.png", **changed: Any) -> dict[str, Any]:
        made = layouts._omni("X", number, image, ["yes", "no"], "no", "X-Ray")
        return {key: value for key, value in (made | changed).items() if value is not None}

    rows: list[Any] = [
        asked(0),
        asked(1, "Images/gone.png"),
        asked(2, "Images/cut.png"),
        asked(3, "Images/bomb.png"),
        asked(4, "Images/text.png"),
        asked(5, "Images/pointer.png"),
        asked(6, "../secret.png"),
        asked(7, str(tmp_path / "secret.png")),
        asked(8, "Images/link.png"),
        asked(9, gt_answer="maybe"),
        asked(10, gt_answer="NO!", option_C="No."),
        asked(11, question=None),
        asked(0),
        "no row",
    ]
    put_json(data, "QA_information/Open-access/X.json", rows)
    common = ["--benchmark", "omnimedvqa", "--data-root", home, "--model", "phantom-vlm"]
    done = vgtool("refine", *common, "--method", "no-image", "--out", tmp_path / "run", "--json")
    assert done.exit_code == 3, done.output
    assert json.loads(done.stdout)["failed"] == {
        "image_missing": 1,
        "image_truncated": 1,
        "image_too_large": 1,
        "image_unreadable": 1,
        "lfs_pointer": 1,
        "image_outside_root": 3,
        "answer_not_an_option": 1,
        "answer_ambiguous": 1,
        "malformed_row": 2,
        "duplicate_id": 1,
    }
    scored = json.loads(vgtool("score", tmp_path / "run", "--json").stdout)
    first = {row["metric"]: row for row in scored if row["table"] == "accuracy" and row["method"] == "baseline"}
    assert first["failed"]["value"] == 13 and first["accuracy"]["n"] == 1
    checked = vgtool("benchmarks", "--check", "omnimedvqa", "--data-root", home, "--json")
    found = json.loads(checked.stdout)
    assert checked.exit_code == 3
    assert found["rejected"] == {
        "image_outside_root": 2,
        "malformed_row": 2,
        "answer_not_an_option": 1,
        "answer_ambiguous": 1,
        "duplicate_id": 1,
    }
    assert found["images"] == {"found": 6, "missing": 1}


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/passwd", "~/a.png", "C:/a.png", "http://x/a.png", "file:///a", "a\0.png",
     "..\\a", "data:image/png;base64,AAAA", "", None, 5],
)  # fmt: skip
def test_hostile_image_paths_are_refused_before_anything_is_opened(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("opened"))
    with pytest.raises(SampleError, match=r"image_outside_root|image_missing"):
        safe_name(name)


@pytest.mark.parametrize("name", ["a b (1) [x] 50%.png", "ü/é.png", "a..b.png", "2:1.png"])
def test_odd_but_honest_paths_work_in_folders_and_archives(name: str, tmp_path: Path) -> None:
    put(tmp_path / "folder", unicodedata.normalize("NFD", name), picture(9, 8))
    assert open_image(Files([tmp_path / "folder"]).source(name)).size == (9, 8)
    put_zip(tmp_path / "zip", "images.zip", {f"images/{unicodedata.normalize('NFD', name)}": picture(9, 8)})
    files = Files([tmp_path / "zip"], ["", "images"], ["*.zip"])
    assert open_image(files.source(f"images/{name}")).size == open_image(files.source(name)).size == (9, 8)


def test_archives_are_read_without_their_traps(tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (
            "../out.png",
            "/abs.png",
            "a/../../b.png",
            "C:/d.png",
            "fine.png",
            "__MACOSX/._fine.png",
            "._fine.png",
        ):
            archive.writestr(name, b"x")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", b"\0" * 30_000_000)
    archive_read = Archive(path)
    assert set(archive_read.names()) == {"fine.png", "bomb.png"}
    with pytest.raises(SampleError, match="archive_member_refused"):
        archive_read.read("bomb.png")
    data = bytearray(path.read_bytes())
    at = data.index(b"fine.png") + len("fine.png")
    data[at : at + 3] = b"\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(SampleError, match="archive_member_unreadable"):
        Archive(path).read("fine.png")


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("test.json", '[{"qid": 1', "is not JSON"),
    ("test.json", '{"qid": 1}', "does not hold a list"),
    ("test.json", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("test.json", "", "is empty"),
    ("test.json", b"\xff\xfe[", "is not UTF-8"),
    ("test.json", "[" * 100_000, "nested too deeply|is not JSON"),
    ("imgs.zip", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
    ("imgs.zip", "PK\x03\x04 cut", "cannot be read as a zip archive"),
]


@pytest.mark.parametrize("name,content,said", BROKEN)
def test_a_broken_file_is_one_sentence(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    layouts.slake(tmp_path)
    put(tmp_path, name, content)
    with pytest.raises(VgError, match=said):
        read("slake", tmp_path)


@pytest.mark.parametrize("name", ["vgmed", "coco"])
def test_an_unreadable_archive_that_a_pattern_finds_is_skipped_and_named(name: str, tmp_path: Path) -> None:
    whole = read_copy(name, tmp_path)
    put(tmp_path, "PolypDB.zip", b"PK\x03\x04 cut short")
    put(tmp_path, "SA-Med2D-20M.zip", b"the last part")
    put(tmp_path, "SA-Med2D-20M.z01", b"the first part")
    found = read(name, tmp_path, split="attribute+localization")
    assert read(name, tmp_path).digest == whole.digest and not found.rejected
    skipped = [note for note in found.notes if note.startswith("Skipped: ")]
    assert len(skipped) == 2 and skipped[0].startswith("Skipped: 'PolypDB.zip' cannot be read as a zip archive")
    assert "'SA-Med2D-20M.zip'" in skipped[1] and "zip -s 0 SA-Med2D-20M.zip --out full.zip" in skipped[1]
    checked = vgtool("benchmarks", "--check", name, "--data-root", tmp_path)
    assert checked.exit_code == 0 and "'PolypDB.zip'" in checked.output


def test_a_broken_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    layouts.path_vqa(tmp_path)
    path = tmp_path / "data" / "test-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VgError, match=r"'test-00001-of-00002\.parquet' is not readable as Parquet"):
        read("path-vqa", tmp_path)


def test_a_csv_row_with_too_few_or_too_many_fields_fails_alone(tmp_path: Path) -> None:
    layouts.pmc_vqa(tmp_path)
    with (tmp_path / "test_clean.csv").open("a") as file:
        file.write("PMC1_Fig1.jpg,short\r\nPMC1_Fig1.jpg,Q,CT,A,B,C,D,A,one,too,many\r\n")
    found = read("pmc-vqa", tmp_path)
    assert len(found.samples) == 2
    assert [row.reason.split(" (")[0] for row in found.rejected] == [
        "malformed_row: not as many fields as the header names"
    ] * 2


@pytest.mark.parametrize(
    "change,code",
    [
        ({"Answer_label": "E"}, "answer_not_an_option"),
        ({"Answer_label": "A", "Answer": "PET"}, "answer_ambiguous"),
        ({"Choice D": " "}, "malformed_row"),
        ({"Question": ""}, "malformed_row"),
        ({"Figure_path": "../x.jpg"}, "image_outside_root"),
    ],
)
def test_a_pmc_row_without_one_right_option_fails(change: dict[str, str], code: str, tmp_path: Path) -> None:
    put_csv(tmp_path, "test_clean.csv", [layouts.PMC_1[1] | change, layouts.PMC_1[0]])
    found = read("pmc-vqa", tmp_path)
    assert [row.reason.split(":")[0] for row in found.rejected] == [code] and len(found.samples) == 1


def test_options_are_literals_and_never_evaluated(tmp_path: Path) -> None:
    target = tmp_path / "made"
    attack = f"[__import__('pathlib').Path({str(target)!r}).touch()]"
    put_json(tmp_path, "medical_multimodel_evaluation_data.json", [layouts._combined("OmniMedVQA", "", attack, "x")])
    found = read("med-eval", tmp_path)
    assert [row.reason.split(":")[0] for row in found.rejected] == ["malformed_row"] and not target.exists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["A", "[1]", "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
FUZZED: dict[str, tuple[str, str, Callable[[Path], None], dict[str, Any]]] = {
    "vgmed": ("VGMED_localization.jsonl", "localization", layouts.vgmed, layouts.VGMED_ROWS[0]),
    "vqa-rad": ("VQA_RAD Dataset Public.json", "test", layouts.vqa_rad, layouts.RAD_ROWS[0]),
    "slake": ("test.json", "test", layouts.slake, layouts.SLAKE_ROWS[0]),
    "omnimedvqa": ("t_test.json", "regrouped-test", layouts.omnimedvqa_regrouped, layouts.REGROUPED[0]),
    "med-eval": ("medical_multimodel_evaluation_data.json", "all", layouts.med_eval, layouts.MED_EVAL_ROWS[1]),
}


@pytest.mark.parametrize("name", FUZZED)
@settings(max_examples=60, deadline=None)
@given(changes=st.data())
def test_whatever_a_row_holds_it_is_a_sample_or_a_reason(
    name: str, changes: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file, split, write, whole = FUZZED[name]
    root = tmp_path_factory.mktemp("fuzz")
    write(root)
    field = changes.draw(st.sampled_from(sorted(whole)))
    broken = {**whole, field: changes.draw(VALUES)}
    # A file of both splits holds rows of both, whatever becomes of the broken one.
    beside = [{**whole, "phrase_type": kind} for kind in ("freeform", "test_freeform")] if name == "vqa-rad" else []
    put(root, file, json.dumps(broken) if file.endswith("l") else json.dumps([broken, *beside]))
    spec = registry.benchmarks()[name]
    rows = list(reader(spec.reader)(Request(spec, split, spec.protocols["default"], root)))
    assert all(isinstance(one, Sample | Rejected) and one.id for one in rows)


# ---- our own format --------------------------------------------------------------------------------------------------


def own(root: Path, *rows: dict[str, Any], **settings: Any) -> Benchmark:
    put(root, "a.png", picture(30, 20))
    put_lines(root, "mine.jsonl", [{"image": "a.png", "question": "Is it?"} | row for row in rows])
    return load(str(root / "mine.jsonl"), **settings)


def test_blank_options_at_the_end_are_no_options(tmp_path: Path) -> None:
    given = (["x", "y", " ", None], {"b": "y", "a": "x", "c": ""}, "['x', 'y', '']")
    found = own(tmp_path, *({"id": str(n), "choices": one, "answer": "B"} for n, one in enumerate(given)))
    assert [(sample.choices, sample.reference) for sample in found.samples] == [(("x", "y"), "y")] * 3


def test_own_rows_need_an_image_and_a_question_only(tmp_path: Path) -> None:
    found = own(tmp_path, {}, {"answer": "Yes"}, {"choices": ["x", "y"], "answer": "b"}, {"id": 7, "reference": "a"})
    assert [(s.question_type, s.reference) for s in found.samples] == [
        ("open", ""),
        ("closed", "Yes"),
        ("choice", "y"),
        ("open", "a"),
    ]
    assert found.samples[3].id == "7" and len({s.id for s in found.samples}) == 4


@pytest.mark.parametrize(
    "form,box", [(None, [2, 3, 5, 7]), ("xyxy", [2, 3, 5, 7]), ("xywh", [2, 3, 7, 10]), ("inclusive", [2, 3, 6, 8]),
                 ("xyxy-inclusive", [2, 3, 6, 8])]
)  # fmt: skip
def test_own_boxes_say_their_format(form: str | None, box: list[int], tmp_path: Path) -> None:
    found = own(tmp_path, {"boxes": [[2, 3, 5, 7]]} | ({"box_format": form} if form else {}))
    assert [b.as_list() for b in found.samples[0].boxes] == [box]
    forced = own(tmp_path, {"boxes": [[2, 3, 5, 7]], "box_format": form}, box_format="xywh")
    assert forced.samples[0].boxes[0].as_list() == [2, 3, 7, 10]


@pytest.mark.parametrize(
    "change,said",
    [
        ({"boxs": []}, "Did you mean 'boxes'"),
        ({"box_format": "xyhw", "boxes": [[1, 2, 3, 4]]}, "Did you mean 'xywh'"),
        ({"question": None}, "'question' is missing"),
        ({"question_type": "choice"}, "without choices"),
        ({"question_type": "opn"}, "question_type 'opn'"),
        ({"choices": ["x", "y"], "answer": "c"}, "no letter of 2 options"),
        ({"choices": ["x", "X!"], "answer": "x."}, "answer_ambiguous"),
        ({"choices": ["", "x", "y"], "answer": "B"}, "option A of 3 is blank"),
        ({"choices": {"A": "x", "B": None, "C": "y"}, "answer": "B"}, "option B of 3 is blank"),
        ({"choices": {"B": "x", "C": "y"}, "answer": "B"}, "lettered B, C, not from A on"),
        ({"mask": "../m.png"}, "image_outside_root"),
    ],
)
def test_a_bad_own_row_says_what_is_wrong(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    found = own(tmp_path, change, {})
    assert len(found.samples) == 1 and said in found.rejected[0].reason


def test_the_documented_own_rows_and_entry_load(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "benchmarks.md").read_text()
    blocks = re.findall(r"(?:^    .*\n)+", text, re.M)
    rows = next(block for block in blocks if '"scans/a.png"' in block).replace(",\n", ",")
    entry = next(block for block in blocks if "ward7:" in block)
    put(tmp_path, "scans/a.png", picture(50, 60))
    put(tmp_path, "test.jsonl", rows)
    put(tmp_path, "benchmarks.yaml", entry.replace("\n    ", "\n").removeprefix("    "))
    found = load("ward7", data_root=tmp_path, registry=tmp_path, protocol="terse")
    assert [sample.prompt for sample in found.samples] == [
        "Is the heart enlarged? Yes or no?",
        lettered("Which organ is marked?", "liver", "spleen"),
    ]
    assert found.samples[1].reference == "spleen" and found.samples[1].boxes[0].as_list() == [10, 20, 40, 60]
    assert found.notes == ("2 rows, where 120 are published.",)


def test_own_parquet_holds_images_or_their_paths(tmp_path: Path) -> None:
    put(tmp_path, "b.png", picture(12, 13))
    stored = [
        {"image": {"bytes": picture(10, 11), "path": None}, "question": "A?", "boxes": [[1.0, 2.0, 3.0, 4.0]]},
        {"image": {"bytes": None, "path": "b.png"}, "question": "B?", "boxes": None},
    ]
    schema = pa.schema(
        [("image", layouts.IMAGE), ("question", pa.string()), ("boxes", pa.list_(pa.list_(pa.float64())))]
    )
    pq.write_table(pa.Table.from_pylist(stored, schema), tmp_path / "mine [1].parquet")
    samples = load(str(tmp_path / "mine [1].parquet")).samples
    assert [open_image(s.image).size for s in samples] == [(10, 11), (12, 13)]
    assert samples[0].boxes[0].as_list() == [1, 2, 3, 4] and samples[1].boxes == ()


def test_a_missing_own_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VgError, match=r"No file 'none.jsonl'"):
        load("none.jsonl", data_root=tmp_path)


# ---- checking, listing, fetching -------------------------------------------------------------------------------------


def test_check_counts_rows_types_groups_boxes_and_images(tmp_path: Path) -> None:
    layouts.slake(tmp_path / "slake")
    done = vgtool("benchmarks", "--check", "slake", "--data-root", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {key: found[key] for key in ("rows", "published", "usable", "rejected", "splits")} == {
        "rows": 7, "published": 1061, "usable": 7, "rejected": {}, "splits": {"test": 7}
    }  # fmt: skip
    assert found["question_types"] == {"closed": 4, "open": 3} and found["groups"] == {"X-ray": 5, "MRI": 2}
    assert found["boxes"] == {"rows": 5, "boxes": 6, "partly or wholly outside": 0}
    assert found["images"] == {"found": 2, "missing": 0}
    assert found["notes"] == ["7 rows, where 1,061 are published."]


def test_check_says_what_lies_outside_and_what_is_missing(tmp_path: Path) -> None:
    found = own(tmp_path, {"boxes": [[2, 3, 31, 7], [0, 0, 30, 20]]}, {"image": "gone.png"})
    done = vgtool("benchmarks", "--check", tmp_path / "mine.jsonl", "--rows", tmp_path / "rows.parquet")
    assert done.exit_code == 3 and "image_missing: 'gone.png'" in done.output
    assert re.search(r"partly or wholly outside +1\b", done.output) and re.search(r"images +missing +1\b", done.output)
    frame = pl.read_parquet(tmp_path / "rows.parquet")
    assert frame["id"].to_list() == [s.id for s in found.samples]
    assert frame["boxes"].to_list() == [[[2, 3, 31, 7], [0, 0, 30, 20]], []]
    assert frame["prompt"].to_list() == ["Is it?" + SHORT] * 2 and frame["error"].null_count() == 2


def test_rejected_rows_are_written_with_their_reason(tmp_path: Path) -> None:
    own(tmp_path, {}, {"boxs": []})
    vgtool("benchmarks", "--check", tmp_path / "mine.jsonl", "--rows", tmp_path / "rows.parquet")
    assert (
        pl.read_parquet(tmp_path / "rows.parquet")["error"].to_list()[1].startswith("malformed_row: unknown key 'boxs'")
    )


def test_the_list_says_what_is_on_disk(tmp_path: Path) -> None:
    layouts.slake(tmp_path / "slake")
    layouts.path_vqa(tmp_path / "path-vqa")
    layouts.omnimedvqa_zip(tmp_path / "omnimedvqa")
    listed = json.loads(vgtool("benchmarks", "--data-root", tmp_path, "--json").stdout)
    on_disk = {one["benchmark"]: one["rows on disk"] for one in listed}
    assert (on_disk["slake"], on_disk["path-vqa"], on_disk["omnimedvqa"], on_disk["pmc-vqa"]) == (10, 4, 5, None)
    assert all(one["license"] and one["splits"] and one["protocols"] for one in listed)
    assert "path-vqa" in vgtool("benchmarks").stdout


def test_nothing_on_disk_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vgtool.benchmarks.fetch._cached", lambda spec: None)
    with pytest.raises(VgError, match="vgtool benchmarks --fetch slake"):
        load("slake")
    with pytest.raises(VgError, match=r"No 'train.json' .* for split 'train'"):
        read("slake", tmp_path, split="train")


class Hub:
    """Stands in for huggingface_hub.snapshot_download."""

    def __init__(self, write: Callable[[Path], None], fault: Exception | None = None) -> None:
        self.write, self.fault, self.calls = write, fault, list[dict[str, Any]]()

    def __call__(self, repo: str, **asked: Any) -> str:
        self.calls.append({"repo": repo, **asked})
        if self.fault is not None:
            raise self.fault
        self.write(asked["local_dir"])
        return str(asked["local_dir"])


def test_fetch_takes_the_files_of_the_split_only_and_then_they_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(layouts.pmc_vqa)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    done = vgtool("benchmarks", "--fetch", "pmc-vqa", "--split", "test_2", "--data-root", tmp_path)
    assert done.exit_code == 0, done.output
    assert hub.calls == [
        {
            "repo": "RadGenome/PMC-VQA",
            "repo_type": "dataset",
            "revision": "main",
            "allow_patterns": ["test_2.csv", "images_2.zip"],
            "local_dir": tmp_path / "pmc-vqa",
            "local_files_only": False,
        }
    ]
    assert read("pmc-vqa", tmp_path, split="test_2").rows == 1


def test_fetch_offline_asks_the_disk_only_and_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(lambda folder: put(folder, "test_clean.csv", "x") and None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    done = vgtool("benchmarks", "--fetch", "pmc-vqa", "--data-root", tmp_path, "--offline")
    assert isinstance(done.exception, VgError) and hub.calls[0]["local_files_only"] is True
    assert "'images.zip' of RadGenome/PMC-VQA is not on disk" in str(done.exception)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    vgtool("benchmarks", "--fetch", "pmc-vqa", "--data-root", tmp_path)
    assert hub.calls[1]["local_files_only"] is True


@pytest.mark.parametrize(
    "fault,said",
    [(OSError(28, "full"), "No room on disk"), (ConnectionError("no route"), "could not be fetched: no route.")],
)
def test_a_failed_fetch_is_one_sentence(
    fault: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", Hub(layouts.slake, fault))
    done = vgtool("benchmarks", "--fetch", "slake", "--data-root", tmp_path)
    assert isinstance(done.exception, VgError) and said in str(done.exception)


def test_generated_benchmarks_have_nothing_to_fetch() -> None:
    done = vgtool("benchmarks", "--fetch", "phantom")
    assert isinstance(done.exception, VgError) and "nothing to fetch" in str(done.exception)


def test_what_a_hub_snapshot_links_to_is_read(tmp_path: Path) -> None:
    blob = put(tmp_path, "datasets--x/blobs/abc", picture(5, 6))
    folder = tmp_path / "datasets--x" / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "a.png").symlink_to(os.path.relpath(blob, folder))
    assert open_image(Files([folder]).source("a.png")).size == (5, 6)


@pytest.mark.parametrize(
    "text,said",
    [
        ("  data: {tset: [a]}\n", "benchmarks.yaml:2: entry 'x': 'data' names split 'tset'"),
        ("  protocols: {p: {prompts: {closed: hello}}}\n", "the prompt for 'closed' has no {question}"),
        ("  protocols: {p: {rule: loose}}\n", "'protocols.p.rule' is 'loose'"),
        ("  protocols: {p: {max_new_tokens: 0}}\n", "'protocols.p.max_new_tokens' is 0"),
    ],
)
def test_a_bad_entry_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    head = "# mine\nx:\n  title: t\n  reader: own\n  domain: medical\n  splits: {all: null}\n  default_split: all\n"
    put(tmp_path, "benchmarks.yaml", head + text)
    with pytest.raises(VgError, match=re.escape(said)):
        registry.benchmarks(tmp_path)


# ---- size ------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_rows_load_in_seconds_and_open_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        json.dumps(
            {"image": f"{n % 5000}.png", "question": f"Is it {n}?", "choices": ["a", "b", "c", "d"], "answer": "B"}
        )
        for n in range(100_000)
    ]
    put(tmp_path, "big.jsonl", "\n".join(lines))
    monkeypatch.setattr("vgtool.images.read_bytes", lambda source: pytest.fail("opened an image"))
    start = time.process_time()
    found = load(str(tmp_path / "big.jsonl"))
    assert time.process_time() - start < 30 and found.rows == 100_000 and not found.rejected
    start = time.process_time()
    assert load(str(tmp_path / "big.jsonl"), limit=10).rows == 10
    assert time.process_time() - start < 1


def test_a_parquet_file_of_one_large_row_group_is_walked_not_held(tmp_path: Path) -> None:
    noise = random.Random(0)
    rows = [
        {"image": {"bytes": noise.randbytes(400_000), "path": None}, "question": f"Is it {n}?", "answer": "yes"}
        for n in range(200)
    ]
    put_parquet(tmp_path, "data/test-00000-of-00001.parquet", rows, write_batch_size=4)
    assert pq.ParquetFile(tmp_path / "data/test-00000-of-00001.parquet").num_row_groups == 1
    whole = sum(len(row["image"]["bytes"]) for row in rows)
    del rows
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    samples = read("path-vqa", tmp_path).samples
    assert pa.total_allocated_bytes() - before < whole / 10
    peak = 0
    for n in [*range(200), 3, 150, 2]:
        assert len(samples[n].image.read()) == 400_000
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < whole / 3, (peak, whole)
    noise = random.Random(0)
    assert all(samples[n].image.read() == noise.randbytes(400_000) for n in range(40))


def test_a_palette_mask_and_a_deep_one_keep_their_values(tmp_path: Path) -> None:
    from vgtool.images import open_mask

    buffer = io.BytesIO()
    image = Image.new("P", (4, 3))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.putpixel((1, 2), 2)
    image.save(buffer, "PNG")
    put(tmp_path, "m.png", buffer.getvalue())
    values = open_mask(Files([tmp_path]).source("m.png"))
    assert values[2, 1] == 2 and values.sum() == 2
