"""Models that reason first: how they are asked, how long they may write, where their answer is read."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests import checkpoints
from tests.library import vgtool
from tests.made_runs import accuracy, cells, one, refine_run
from vgtool.errors import VgError
from vgtool.registry import Thinking, models
from vgtool.scoring.accuracy import counts
from vgtool.scoring.graded import open_answers
from vgtool.scoring.inputs import ANSWERS, read_run
from vgtool.scoring.thinking import final
from vgtool.scoring.views import view

TAGS = {"opens": "<answer>", "closes": "</answer>"}
OPTIONAL = {"opens": "</think>", "closes": None, "begins": "<think>"}
BOX = {"opens": "\\boxed{", "closes": "}"}


@pytest.mark.parametrize("form,text,answer", [
    (TAGS, "<think> It is left. </think> <answer> B </answer>", "B"),
    (TAGS, "<think>as <answer> answer here </answer> asks</think><answer>No\nlesion</answer> ", "No\nlesion"),
    (TAGS, "<answer>A</answer> or rather <answer>B", "A"),
    (TAGS, "<think> It is", None),
    (TAGS, "<answer>B", None),
    (TAGS, "B", None),
    (TAGS, "", None),
    (TAGS, "<answer></answer>", ""),
    (BOX, r"so $\boxed{\text{left lung}}$.", r"\text{left lung}"),
    (BOX, r"\boxed{A} no: \boxed{B", "A"),
    (BOX, r"\boxed{a{b}", None),
    ({"opens": "</think>", "closes": None}, "<think>a</think>\n yes", "yes"),
    (OPTIONAL, "<think>a</think>\n yes", "yes"),
    (OPTIONAL, " yes ", "yes"),
    (OPTIONAL, "<think>a", None),
    ({"opens": "### The final answer is:", "closes": None}, "Step 1.\n### The final answer is: CT ", "CT"),
])  # fmt: skip
def test_the_last_whole_answer_is_read_where_its_format_puts_it(form: Any, text: str, answer: str | None) -> None:
    assert final(text, **form) == answer


def thought(root: Path, answers: dict[str, list[str]], **others: Any) -> Path:
    decoding = {"greedy": True, "max_new_tokens": 1024, "repetition_penalty": 1.0, "thinking": TAGS}
    return refine_run(root, answers, decoding=decoding, **others)


def test_an_answer_that_never_came_is_counted_as_unfinished_and_wrong(tmp_path: Path) -> None:
    answers = {
        "baseline": ["<think>yes</think><answer>no</answer>", "yes it is", "<answer>maybe</answer>", "failed"],
        "vgrefine": ["<answer>Yes</answer>", "<think> no", "<think>no</think> <answer>yes</answer>", ""],
    }
    run = thought(tmp_path / "r", answers)
    table = accuracy(run)
    assert cells(table, "right") == [0, 2] and cells(table, "unfinished") == [1, 2]
    assert cells(table, "undecided") == [1, 0] and cells(table, "failed") == [1, 0] and cells(table, "rows") == [3, 4]
    assert cells(table, "accuracy %") == ["0.0", "50.0"] and cells(table, "fixed") == [None, 2]
    assert any("between <answer> and </answer>" in note and "1024 tokens" in note for note in table.notes)
    totals = {k: sum(cells(view(counts(one(run))), k)) for k in ("right", "wrong", "undecided", "unfinished", "failed")}
    assert totals == {"right": 2, "wrong": 1, "undecided": 1, "unfinished": 3, "failed": 1}
    assert read_run(run, ANSWERS).rows["answer"].to_list()[5] == "<think> no"  # as it was written


def test_tables_of_models_that_answer_at_once_have_no_such_column(tmp_path: Path) -> None:
    table = accuracy(refine_run(tmp_path / "r", {"baseline": ["yes", "<answer>"]}))
    assert "unfinished" not in table.columns and cells(table, "right") == [1]


def test_open_answers_are_graded_by_what_was_answered(tmp_path: Path) -> None:
    path = thought(tmp_path / "r", {"baseline": ["<think>no no no</think><answer>yes</answer>", "<think>yes yes"]})
    part = next((path / "parts").glob("*.parquet"))
    pl.read_parquet(part).with_columns(question_type=pl.lit("open")).write_parquet(part)
    graded = view(open_answers(one(path), 0)[0])
    assert all(str(cell).startswith("50.0") for cell in graded.rows[0][2:4]), graded.rows  # one whole, one nothing


def test_a_thinking_model_writes_within_its_own_budget_and_its_run_says_how_it_is_read(tmp_path: Path) -> None:
    made = checkpoints.qwen2(tmp_path / "medvlm-r1")
    (tmp_path / "benchmarks.yaml").write_text(
        "phantom:\n  title: Short\n  reader: phantom\n  domain: medical\n  license: Apache-2.0\n"
        "  splits: {test: 2000}\n  default_split: test\n"
        "  protocols:\n    default: {max_new_tokens: 2, thinking_tokens: 7}\n"
    )
    out = tmp_path / "run"
    code = vgtool(
        "refine", "--model", made.folder, "--registry", tmp_path, "--benchmark", "phantom", "--limit", 2, "--device",
        "cpu", "--offline", "--method", "pai", "--out", out,
    )  # fmt: skip
    assert code == 0
    decoding = json.loads((out / "run.json").read_text())["identity"]["decoding"]
    assert decoding["thinking"] == {**TAGS, "begins": None} and decoding["max_new_tokens"] == 7
    table = accuracy(out)
    assert cells(table, "unfinished") == [2, 2] and cells(table, "accuracy %") == ["0.0", "0.0"]
    written = read_run(out, ANSWERS).rows["answer"].to_list()
    assert any(len(made.encode(text)) > 2 for text in written)


def test_entries_say_where_the_models_own_code_reads_the_answer() -> None:
    found = {name: spec.thinking for name, spec in models().items() if spec.thinking}
    tags = Thinking(**TAGS)
    assert found["medvlm-r1"] == found["med-r1"] == found["medvlthinker-7b"] == found["fleming-vl-8b"] == tags
    assert found["qoq-med-7b"] == found["qoq-med-32b"] == Thinking(**BOX)
    assert found["chiron-o1-8b"] == Thinking(opens="### The final answer is:")


@pytest.mark.parametrize("text,said", [
    ('question: "Why?"', "does not hold {question} once"),
    ('prompt: "<image> {question}"\n  system: Be brief.', "a prompt holds its system message itself"),
    ("thinking: {opens: ''}", "at least 1 character"),
    ("thinking: {shuts: x}", "unknown key 'thinking.shuts'"),
])  # fmt: skip
def test_an_entry_that_cannot_be_spoken_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(f"mine:\n  title: Mine\n  adapter: llava\n  {text}\n")
    with pytest.raises(VgError) as caught:
        models(tmp_path)
    assert said in str(caught.value)
