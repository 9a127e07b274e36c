"""One content in every kind of file that people keep rows in: questions to run, and answers to score."""

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from vgtool.benchmarks.load import load
from vgtool.errors import VgError
from vgtool.records import Sample
from vgtool.scoring.score import score

FORMS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
QUESTIONS: list[dict[str, Any]] = [
    {"id": "1", "image": "scans/a.png", "question": "Is it?\nSay so.", "answer": "yes", "boxes": [[1, 2, 30, 40]]},
    {"id": "2", "image": "scans/a.png", "question": 'Which, "A" or B?', "answer": "left, lower"}
    | {"choices": ["left, lower", "right"]},
    {"id": "3", "image": "scans/a.png", "question": "\tWhat? é", "answer": "心脏", "group": "CT"},
]  # fmt: skip
ANSWERS: list[dict[str, Any]] = [
    {"sample_id": "1", "question_type": "closed", "reference": "yes", "answer": "Yes\nit is", "method": "a"},
    {"sample_id": "1", "question_type": "closed", "reference": "yes", "answer": "no", "method": "b"},
    {"sample_id": "2", "question_type": "choice", "reference": "liver", "answer": "A", "choices": ["liver", "x, y"]},
]


def written(folder: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    """Rows as a file; lists as JSON text where a format has none."""
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    elif suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif suffix == ".parquet":
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, names, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    Image.new("L", (64, 64), 90).save(tmp_path / "scans" / "a.png")
    return tmp_path


def seen(sample: Sample) -> tuple[Any, ...]:
    boxes = [box.as_list() for box in sample.boxes]
    return sample.id, sample.question, sample.reference, sample.choices, boxes, sample.group, sample.question_type


@pytest.mark.parametrize("suffix", [*FORMS, ".CSV"])
def test_questions_are_the_same_from_every_kind_of_file(suffix: str, folder: Path) -> None:
    path = written(folder, suffix.lower(), QUESTIONS).rename(folder / f"rows{suffix}")
    found = load(str(path))
    assert not found.rejected and found.is_file and found.name == f"rows{suffix}"
    assert [seen(sample) for sample in found.samples] == [
        ("1", "Is it?\nSay so.", "yes", None, [[1.0, 2.0, 30.0, 40.0]], "", "closed"),
        ("2", 'Which, "A" or B?', "left, lower", ("left, lower", "right"), [], "", "choice"),
        ("3", "What? é", "心脏", None, [], "CT", "open"),
    ]
    assert all(sample.image.read() for sample in found.samples)


@pytest.mark.parametrize("suffix", FORMS)
def test_answers_score_the_same_from_every_kind_of_file(suffix: str, folder: Path) -> None:
    frame = score([written(folder, suffix, ANSWERS)]).frame.filter(metric="accuracy", table="accuracy")
    assert frame.select("method", "n", "value").rows() == [("a", 1, 1.0), ("b", 1, 0.0), ("answers", 1, 1.0)]


def test_an_absolute_image_path_counts_inside_the_data_folder_and_nowhere_else(folder: Path) -> None:
    (folder / "data").mkdir()
    outside = folder.parent / f"{folder.name}-outside.png"
    Image.new("L", (8, 8)).save(outside)
    inside = str(folder / "scans" / "a.png")
    names = [inside, str(outside), f"{folder}/data/../../{outside.name}", f"{folder}x/a.png"]
    rows = [{"id": str(at), "image": name, "question": "?"} for at, name in enumerate(names)]
    found = load(str(written(folder / "data", ".csv", rows)), data_root=folder)
    assert [(sample.id, sample.image.name) for sample in found.samples] == [("0", "scans/a.png")]
    assert found.samples[0].image.read() == (folder / "scans" / "a.png").read_bytes()
    assert [row.reason.split(":")[0] for row in found.rejected] == ["image_outside_root"] * 3


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.txt", "rows.pkl"])
def test_a_kind_that_is_not_read_is_said_with_those_that_are(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"PK")
    for use in (lambda: load(str(folder / name)), lambda: score([folder / name])):
        with pytest.raises(VgError) as error:
            use()
        assert f"'{name}'" in str(error.value) and all(form in str(error.value) for form in FORMS)


def test_columns_of_other_names_are_told_with_what_is_missing(folder: Path) -> None:
    rows = [{"qid": "1", "question_type": "open", "gt": "x", "prediction": "x"}]
    with pytest.raises(VgError, match="no column reference, answer: its columns are qid, question_type, gt, pred"):
        score([written(folder, ".tsv", rows)])


def test_a_slice_and_a_window_are_read_from_a_csv_cell(folder: Path) -> None:
    rows = [{"id": "1", "image": "scans/a.png", "question": "?", "slice": 0, "window": [0, 80]}]
    (sample,) = load(str(written(folder, ".csv", rows))).samples
    assert sample.image.view is not None and (sample.image.view.slice, sample.image.view.window) == (0, (0.0, 80.0))
