"""Every published layout reads as it stands on disk, by its protocols, with ids that stay."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import layouts
import polars as pl
import pytest
from checkpoints import in_cache
from copies import CONTENT_ID, EXPECTED, OMNI, SHORT, lettered, read, read_copy, told, vgtool
from layouts import COPIES, picture, put, put_csv, put_json, put_lines, put_parquet, put_zip

from vgtool import registry
from vgtool.benchmarks.load import Benchmark, load
from vgtool.benchmarks.tables import read_rows
from vgtool.errors import VgError
from vgtool.images import open_image
from vgtool.runs import launch

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


@pytest.fixture(scope="module")
def once() -> Callable[..., Any]:
    """Loads a model for all commands of this file."""
    return cache(launch.load)


@pytest.mark.parametrize("copy", COPIES)
def test_the_whole_pipeline_runs_on_a_copy(
    copy: str, tmp_path: Path, once: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "load", once)
    name, write, extra = COPIES[copy]
    write(tmp_path / "data" / name)
    common = ["--model", "phantom-vlm", "--benchmark", name, "--data-root", tmp_path / "data", *extra, "--limit", "2"]
    wanted = min(2, len(EXPECTED[copy]))
    asked, marked = registry.benchmarks()[name].has_answers, any(one["boxes"] for one in EXPECTED[copy])
    for command in [["probe"]] * (marked or not asked) + [["refine", "--method", "no-image"]] * asked:
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
