"""The oracle has nothing to look at where a sample has no box: such samples are left out of its rows, by design."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from layouts import picture, put, put_lines
from typer.testing import CliRunner

from vgtool.commands import app
from vgtool.grounding import heads

HEADS = heads.HeadFile("phantom-vlm", "any", 6, 6, {}, [(2, 0, 0.0), (2, 1, 0.0)], [2])


def vgtool(*args: Any) -> Any:
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left-out")
    put(folder, "a.png", picture(90, 90))
    rows = [
        {"id": "there", "question": "Is there a liver?", "answer": "yes", "boxes": [[10, 10, 50, 50]]},
        {"id": "absent", "question": "Is there a tumour?", "answer": "no"},
        {"id": "outside", "question": "Is it?", "answer": "no", "boxes": [[500, 500, 520, 520]]},
    ]
    rows = [{"image": "a.png"} | row for row in rows]
    put_lines(folder, "mine.jsonl", rows[:2])
    put_lines(folder, "odd.jsonl", rows)
    put_lines(folder, "none.jsonl", rows[1:2])
    heads.write(folder / "heads.json", HEADS)
    return folder


def refined(root: Path, name: str) -> Any:
    common = ("--model", "phantom-vlm", "--benchmark", root / f"{name}.jsonl", "--offline")
    return vgtool("refine", *common, "--method", "oracle", "--heads", root / "heads.json", "--out", root / name)


@pytest.fixture(scope="module")
def run(root: Path) -> Path:
    done = refined(root, "mine")
    assert done.exit_code == 0, done.output
    return root / "mine"


def test_samples_without_a_box_are_neither_answered_nor_failed(run: Path) -> None:
    rows = pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")])
    found = {(row["sample_id"], row["method"]): row for row in rows.iter_rows(named=True)}
    assert len(found) == 4 and rows["error"].null_count() == 4
    assert [name for name, row in found.items() if row["answer"] is None] == [("absent", "oracle")]


def test_a_run_with_samples_left_out_is_complete_and_starts_nothing_again(root: Path, run: Path) -> None:
    again = refined(root, "mine")
    assert again.exit_code == 0 and "0 samples run, 2 already there" in again.output


def test_the_table_counts_what_the_oracle_leaves_out(run: Path) -> None:
    done = vgtool("score", run, "--json")
    assert done.exit_code == 0, done.output
    levels = {row["method"]: row for row in json.loads(done.stdout) if row["metric"] == "accuracy"}
    assert {name: row["n"] for name, row in levels.items()} == {"baseline": 2, "oracle": 1}
    failed = [row["value"] for row in json.loads(done.stdout) if row["metric"] == "failed"]
    assert failed and not any(failed)
    assert "oracle leaves out 1 samples, which have no box." in vgtool("score", run).output
    page = vgtool("report", run, "--out", run.parent / "report")
    assert page.exit_code == 0, page.output


def test_a_box_that_touches_no_token_fails_its_sample_still(root: Path) -> None:
    done = refined(root, "odd")
    assert done.exit_code == 3 and "no_region" in done.output


def test_a_benchmark_without_any_box_is_refused_before_anything_is_loaded(root: Path) -> None:
    done = refined(root, "none")
    assert "--method oracle needs boxes, and no sample of 'none.jsonl' has one" in str(done.exception)
    assert not (root / "none").exists()


def test_a_probe_without_boxes_beside_answers_is_a_note_and_not_an_error(root: Path, run: Path) -> None:
    common = ("--model", "phantom-vlm", "--benchmark", root / "none.jsonl", "--offline")
    assert vgtool("probe", *common, "--out", root / "probe").exit_code == 0
    done = vgtool("score", run, root / "probe")
    assert done.exit_code == 0, done.output
    assert "Accuracy" in done.output
    said = " ".join(done.output.split())
    assert "has no grounding metric: 0 samples; 0 whose boxes the model cannot see, 0 failed, 1 without boxes." in said
    for alone in (vgtool("score", root / "probe"), vgtool("heads", root / "probe", "-o", root / "heads.json")):
        assert "has no sample with a grounding metric" in str(alone.exception)
