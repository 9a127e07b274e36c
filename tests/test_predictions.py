"""Other tools' answers: every form their files take is read as it is meant, or the row says why it cannot be."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import vgtool
from vgtool.benchmarks.references import reference_of
from vgtool.errors import SampleError, VgError
from vgtool.scoring.inputs import judged, read_run
from vgtool.scoring.score import score

R, W, F = "right", "wrong", "failed"
PREDICTIONS: list[dict[str, Any]] = [
    {"question_type": "closed", "reference": "yes", "answer": "Yes", "method": "baseline", "sample_id": "1"},
    {"question_type": "closed", "reference": "yes", "answer": "no", "method": "mine", "sample_id": "1"},
    {"question_type": "choice", "reference": "liver", "answer": "A", "choices": ["liver", "heart"], "sample_id": "2"},
    {"question_type": "riddle", "reference": "x", "answer": "x", "sample_id": "3"},
]


def outcomes(path: Path) -> list[str]:
    return judged(read_run(path, []), "strict")["outcome"].to_list()


def lines(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "theirs.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def row(reference: Any, answer: Any, kind: str = "open", **more: Any) -> dict[str, Any]:
    return {"question_type": kind, "reference": reference, "answer": answer, **more}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_another_tools_answers_are_scored_by_the_same_rules(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"theirs{suffix}"
    flat = [one | {"choices": json.dumps(one["choices"]) if "choices" in one else None} for one in PREDICTIONS]
    if suffix == ".jsonl":
        lines(tmp_path, *PREDICTIONS)
    elif suffix == ".json":
        path.write_text(json.dumps(PREDICTIONS))
    elif suffix == ".csv":
        pl.DataFrame(flat).write_csv(path, include_bom=True)
    else:
        pl.DataFrame(flat).write_parquet(path)
    assert outcomes(path) == [R, W, R, F]
    assert read_run(path, []).rows["method"].to_list() == ["baseline", "mine", "answers", "answers"]


@pytest.mark.parametrize(
    "text,complaint",
    [
        ("{", "its rows are not JSON"),
        ('{"answer": "x"}', "no column question_type, reference"),
        ('{"question_type": "open", "reference": "a", "answer": "a", "sample_id": "1"}\n' * 2, "'1' twice"),
        ("[1, 2]", "no column"),
        ("", "is empty"),
    ],
)
def test_a_file_that_holds_no_predictions_is_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(VgError, match=complaint):
        read_run(path, [])


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_a_line_feed_ends_a_line(sign: str, tmp_path: Path) -> None:
    assert outcomes(lines(tmp_path, row("left lung", f"left{sign}lung"), row("a", "b"))) == [R, W]


def test_a_broken_line_costs_its_own_row(tmp_path: Path) -> None:
    path = lines(tmp_path, row("a", "a"))
    good = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + good + b'\n{"question_type": \n' + good)
    found = read_run(path, []).rows
    assert found["error"].is_null().to_list() == [True, False, True] and "not JSON" in found["error"][1]


def test_half_a_character_costs_its_own_row(tmp_path: Path) -> None:
    text = json.dumps(["\ud800", "x"])
    path = lines(tmp_path, row("x", "x"), row(text, "x"), row("x", "B", "choice", choices=text))
    path.write_bytes(path.read_bytes() + b'\n{"question_type": "open", "reference": "x", "answer": "\\ud800"}')
    assert outcomes(path) == [R, F, F, F]


def test_a_line_that_cannot_be_read_is_a_failure_of_each_method_and_no_method_of_its_own(tmp_path: Path) -> None:
    path = lines(tmp_path, *(row("a", "a") | {"sample_id": "1", "method": name} for name in ("mine", "baseline")))
    path.write_bytes(path.read_bytes() + b'\n{"question_type": \n')
    frame = vgtool.score(path)
    counted = frame.filter(table="accuracy", metric="failed").select("method", "value").sort("method").rows()
    assert counted == [("baseline", 1), ("mine", 1)]


@pytest.mark.parametrize(
    "given,outcome",
    [
        (row("yes", "Yes", "CLOSED"), R),
        (row("spleen", "spleen", "Open"), R),
        (row("B", "B", "Choice", choices=["liver", "spleen"]), R),
        (row("B", "spleen", "choice", choices=["liver", "spleen"]), R),
        (row("B. spleen", "A", "choice", choices=["liver", "spleen"]), W),
        (row("spleen.", "B", "choice", choices=["liver", "spleen"]), R),
        (row("B", "B", "choice", choices={"A": "liver", "B": "spleen"}), R),
        (row("B", "B", "choice", choices="['liver', 'spleen']"), R),
        (row("B", "B", "choice", choices="['liver' 'spleen']"), R),
        (row("1.0", "A", "choice", choices=["1", "5", "10"]), R),
        (row("kidney", "B", "choice", choices=["liver", "spleen"]), F),
        (row("A. spleen", "B", "choice", choices=["liver", "spleen"]), F),
        (row("B", "B", "choice"), F),
        (row("B", "B", "choice", choices="liver, spleen"), F),
        (row(3.0, "3"), R),
        (row(3, "3.0"), R),
        (row(True, "Yes", "closed"), R),
        (row(False, "Yes", "closed"), W),
        (row(True, True, "closed"), R),
        (row(["spleen", "lien"], "Lien"), R),
        (row('["spleen", "lien"]', "spleen"), R),
        (row(["B", "liver"], "A", "choice", choices=["liver", "spleen", "heart"]), R),
        (row(["B", "liver"], "C", "choice", choices=["liver", "spleen", "heart"]), W),
        (row({"text": "spleen"}, "spleen"), F),
        (row([["spleen"]], "spleen"), F),
        (row("a", ["b"], unused={"x": 1}), W),
        (row("a", None), "undecided"),
    ],
)
def test_a_row_is_read_as_it_is_meant_or_fails_with_a_reason(given: Any, outcome: str, tmp_path: Path) -> None:
    path = lines(tmp_path, given, row("x", "x", unused=5), row("x", "x", unused=["a", "b"]))
    assert outcomes(path) == [outcome, R, R]
    assert (read_run(path, []).rows["error"][0] is not None) == (outcome == F)


@pytest.mark.parametrize("nothing", [None, float("nan"), "", " ", "NaN", []])
def test_what_is_no_reference_is_not_scored_and_counted(nothing: Any, tmp_path: Path) -> None:
    results = score([lines(tmp_path, row(nothing, "x"), row("x", "x"))])
    assert results.runs[0].unanswered == 1 and results.runs[0].rows["outcome"].to_list() == [R]


def test_zero_is_an_id_and_a_missing_one_is_the_rows_place(tmp_path: Path) -> None:
    path = lines(tmp_path, row("x", "x", sample_id=0, image_id=0), row("x", "x", sample_id=1.0), row("x", "x"))
    found = read_run(path, []).rows
    assert found["sample_id"].to_list() == ["0", "1", "row-3"] and found["image_id"].to_list() == ["0", "1", "row-3"]


def test_without_image_ids_by_image_is_said_to_mean_by_row(tmp_path: Path) -> None:
    both = [row("x", "x", method=name, sample_id=i) for name in ("a", "b") for i in range(3)]
    results = score([lines(tmp_path, *both)])
    notes = " ".join(note for table in results.tables for note in table.notes)
    assert "No image_id" in notes and "No method is called baseline" in notes and "--against" in notes
    with_ids = score([lines(tmp_path, *(one | {"image_id": "i"} for one in both))])
    assert "No image_id" not in " ".join(note for table in with_ids.tables for note in table.notes)


def test_when_every_row_failed_there_is_no_accuracy_and_no_interval(tmp_path: Path) -> None:
    results = score([lines(tmp_path, row("x", "x", "riddle"), row("x", "x", "riddle"))])
    (accuracy,) = [one for one in results.frame.iter_rows(named=True) if one["metric"] == "accuracy"]
    assert (accuracy["value"], accuracy["low"], accuracy["high"]) == (None, None, None) and results.failed


@pytest.mark.parametrize("value", [{"a": 1}, b"x", float("inf"), [["a"]], ["a", {"b": 1}]])
def test_what_cannot_be_a_reference_is_never_none(value: Any) -> None:
    with pytest.raises(SampleError, match="malformed_row: the reference"):
        reference_of(value)
