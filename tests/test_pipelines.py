"""check, refine (probe where nothing is answered), score and report, on a copy of each form of published file."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import layouts
import newer
import polars as pl
import pytest
from copies import vgtool
from layouts import picture, put, put_csv, put_json, put_lines
from reports import brief

Form = tuple[str, Callable[[Path], None], tuple[str, ...]]


def slake_questions(root: Path) -> None:
    row = {"image": "xmlab7", "question": "Is there a Liver?", "bbox": [[4, 6, 10, 12]], "gt_tokens": []}
    put_lines(root, "SLAKE_localization_questions.jsonl", [row])
    put(root, "imgs/xmlab7/source.jpg", picture(30, 40, "JPEG"))


def coco_control(root: Path) -> None:
    """annotations/ and val2017/ side by side."""
    row = {"image": "COCO_val2014_000000000042.jpg", "question": "Is there a dog?", "label": "dog"}
    put_lines(root, "COCO_localization.jsonl", [row | {"original_bboxes": [[1, 2, 13, 14]]}])
    put_json(root, "annotations/instances_val2017.json", {"images": []})
    put(root, "val2017/000000000042.jpg", picture(40, 30, "JPEG"))


def mmmu_with_key(root: Path) -> None:
    layouts.mmmu_med(root)
    put_json(root, "answer.json", {"test_Pharmacy_4": {"question_type": "multiple-choice", "ground_truth": "B"}})


PUBLISHED: dict[str, Form] = {
    "MEVF": ("vqa-rad", newer.mevf, ()),
    "SLAKE questions of VGMED": ("vgmed", slake_questions, ()),
    "COCO side by side": ("coco", coco_control, ()),
    "MMMU with answer.json": ("mmmu-med", mmmu_with_key, ("--split", "test")),
    "VQA-Med": ("vqa-med", newer.vqa_med, ("--split", "train")),
    "MedFrameQA": ("medframeqa", newer.medframeqa, ()),
}
"""Form -> benchmark, writer, further arguments."""

CHOICE = {"image": "a.png", "question": "Which organ is it?", "answer": "B"}
OWN: dict[str, list[dict[str, Any]]] = {
    "line and paragraph signs": [{"image": "a.png", "question": "Is it\u2028so\u0085then?", "answer": "yes"}],
    "types in any case": [{"image": "a.png", "question": "Is it?", "answer": "yes", "question_type": "closed"}],
    "letters to texts": [CHOICE | {"choices": {"A": "liver", "B": "spleen"}}],
    "a literal list": [CHOICE | {"choices": "['liver', 'spleen']"}],
    "as numpy prints": [CHOICE | {"choices": "['liver' 'spleen']", "answer": "B. spleen"}],
    "numbers and truth": [
        {"image": "a.png", "question": "How many?", "answer": 3.0, "id": 0},
        {"image": "a.png", "question": "Is it?", "answer": True, "id": 1},
    ],
    "several accepted": [{"image": "a.png", "question": "Which organ?", "answer": ["spleen", "lien"]}],
    "decimal options": [CHOICE | {"choices": ["1.0", "5", "10"], "answer": "1"}],
}
"""Form -> rows of a file in vgtool's own format."""


def commands(found: Path, benchmark: Any, *arguments: Any, answers: bool) -> Path:
    """The check and the run of one benchmark; the run's folder."""
    common = ["--benchmark", benchmark, *arguments]
    checked = vgtool("benchmarks", "--check", benchmark, *arguments, "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["usable"] > 0
    kind = ["refine", "--method", "no-image"] if answers else ["probe"]
    done = vgtool(*kind, "--model", "phantom-vlm", *common, "--limit", "2", "--offline", "--out", found)
    assert done.exit_code == 0, done.output
    return found


def scored(run: Path, answers: bool) -> None:
    done = vgtool("score", run, "--json")
    assert done.exit_code == 0, done.output
    rows = [row for row in json.loads(done.stdout) if row["table"] == ("accuracy" if answers else "grounding")]
    assert rows and all(row["n"] for row in rows if row["metric"] == "accuracy")
    parts = pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")])
    assert parts["error"].null_count() == parts.height


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Form -> its run, checked and scored, once."""
    root = tmp_path_factory.mktemp("runs")

    @cache
    def made(form: str) -> Path:
        run, data = root / form.replace(" ", "-"), root / f"data of {form}"
        data.mkdir()
        if form in PUBLISHED:
            name, write, more = PUBLISHED[form]
            write(data)
            answers = name not in ("vgmed", "coco")
            scored(commands(run, name, "--data-root", data, *more, answers=answers), answers)
        else:
            put(data, "a.png", picture(40, 30))
            path = written(data, ".csv" if form == "as numpy prints" else ".jsonl", OWN[form])
            scored(commands(run, path, answers=True), True)
        return run

    return made


@pytest.mark.parametrize("form", PUBLISHED)
def test_a_published_form_goes_from_check_to_score(form: str, run_of: Callable[[str], Path]) -> None:
    assert run_of(form).is_dir()


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("form", ["numbers and truth"])
def test_one_form_goes_from_check_to_score_in_every_kind_of_file(form: str, suffix: str, tmp_path: Path) -> None:
    put(tmp_path, "a.png", picture(40, 30))
    scored(commands(tmp_path / "run", written(tmp_path, suffix, OWN[form]), answers=True), True)


@pytest.mark.parametrize("form", [form for form in OWN if form != "numbers and truth"])
def test_a_form_of_our_own_format_goes_from_check_to_score(form: str, run_of: Callable[[str], Path]) -> None:
    assert run_of(form).is_dir()


def written(root: Path, suffix: str, rows: list[dict[str, Any]]) -> Path:
    if suffix == ".csv":
        return put_csv(root, "mine.csv", [{key: str(value) for key, value in row.items()} for row in rows])
    if suffix == ".json":
        return put_json(root, "mine.json", rows)
    if suffix == ".parquet":
        names = dict.fromkeys(key for row in rows for key in row)
        frame = pl.DataFrame({name: [str(row.get(name)) for row in rows] for name in names})
        frame.write_parquet(root / "mine.parquet")
        return root / "mine.parquet"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)  # U+2028 and U+0085 stand as they are
    return put(root, "mine.jsonl", text)


SHARED = {"question_type": "CLOSED", "reference": "yes", "answer": "Yes."}
PREDICTIONS: dict[str, list[dict[str, Any]]] = {
    "signs that end lines elsewhere": [SHARED | {"answer": "Yes,\u2028it\u0085is\x0b."}],
    "types in any case": [SHARED, {"question_type": "Open", "reference": "spleen", "answer": "Spleen"}],
    "letters to texts": [
        {"question_type": "choice", "choices": {"A": "liver", "B": "spleen"}, "reference": "B", "answer": "B. spleen"}
    ],
    "a literal list": [
        {"question_type": "choice", "choices": "['liver', 'spleen']", "reference": "spleen.", "answer": "(B)"}
    ],
    "a method that is no baseline": [SHARED | {"sample_id": "1", "method": name} for name in ("a", "b")],
    "mixed types": [SHARED | {"note": 1}, SHARED | {"note": "x"}, SHARED | {"note": [2.5]}],
    "one list among texts": [SHARED | {"reference": ["yes", "true"]}, SHARED],
    "numbers": [
        {"question_type": "open", "reference": 3.0, "answer": "3"},
        SHARED | {"reference": True, "sample_id": 0},
    ],
}  # fmt: skip
"""Form -> rows of a file of answers, each of which is right."""


@pytest.mark.parametrize("form", PREDICTIONS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_form_of_predictions_is_scored_and_reported(form: str, mark: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, ".jsonl", PREDICTIONS[form])
    path.write_bytes(mark + path.read_bytes())
    done = vgtool("score", path, "--json")
    assert done.exit_code == 0, done.output
    levels = [row for row in json.loads(done.stdout) if row["table"] == "accuracy" and row["metric"] == "accuracy"]
    assert levels and all(row["value"] == 1 for row in levels)


def test_one_report_takes_the_runs_of_all_forms(
    run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief(monkeypatch)
    there = [run_of(form) for form in sorted([*PUBLISHED, *OWN])]
    done = vgtool("report", *there, "--out", tmp_path / "page")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert all(name in page for name in ("vqa-rad", "mmmu-med", "vqa-med", "medframeqa", "mine.jsonl"))
