"""Study files and several runs at once: the steps they make, their mistakes, and a study that is killed and goes on."""

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from forked import until

from vgtool.commands import app
from vgtool.errors import VgError
from vgtool.runs import children, steps
from vgtool.runs.study import read
from vgtool.runs.study import steps as steps_of

TWIN = "twin:\n  title: The embedded model, by another name\n  adapter: llava\n  embedded: models/phantom/weights\n"
STUDY = """models: [phantom-vlm, twin]
benchmarks: [phantom, {benchmark: scenes, split: test}]
methods: [vgrefine, "vgrefine:percentile=80"]
heads: {benchmark: scenes, k: 4}
limit: 70
registry: extra
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def lines(path: Path, text: str) -> dict[str, str]:
    return {step.name: step.line for step in steps_of(read(written(path / "study.yaml", text)))}


def test_a_study_is_the_commands_one_would_type(tmp_path: Path) -> None:
    text = (
        "models: [a, {model: ckpt/step-500, name: b, cards: 2, dtype: float16, heads: mine.json}]\n"
        "benchmarks: [x, {benchmark: y.jsonl, split: test, limit: 5}]\n"
        'methods: [vgrefine, "pai:alpha=0.5"]\nheads: {benchmark: coco, k: 9}\nprobe: [vgmed]\n'
        "protocol: paper\nlimit: 7\ndata_root: my data\nout: o\n"
    )
    found = lines(tmp_path, text)
    assert list(found) == [
        *("probe-a-coco", "probe-a-vgmed", "heads-a", "refine-a-x", "refine-a-y"),
        *("probe-b-vgmed", "refine-b-x", "refine-b-y", "score", "report"),
    ]
    common = "--seed 0 --data-root 'my data'"
    assert found["probe-a-coco"] == (
        f"vgtool probe --model a {common} --benchmark coco --limit 7 --maps layers --out o/probe-a-coco"
    )
    assert found["heads-a"] == "vgtool heads o/probe-a-coco -k 9 --metric kl --out o/heads-a.json"
    assert found["refine-b-y"] == (
        f"vgtool refine --model ckpt/step-500 --dtype float16 --device-map auto {common} --benchmark y.jsonl "
        "--split test --protocol paper --limit 5 --heads mine.json --method vgrefine --method pai:alpha=0.5 "
        "--out o/refine-b-y"
    )
    runs = " ".join(f"o/{name}" for name in found if "-" in name and not name.startswith("heads"))
    assert found["report"] == f"vgtool report {runs} --out o/report --seed 0"


def test_heads_that_are_ranked_where_one_probes_anyway_are_probed_once(tmp_path: Path) -> None:
    text = "models: [a]\nbenchmarks: [x]\nheads: {benchmark: coco, k: 9}\nprobe: [coco, vgmed]\n"
    assert [name for name in lines(tmp_path, text) if name.startswith("probe")] == ["probe-a-coco", "probe-a-vgmed"]
    with pytest.raises(VgError, match="probes 'coco' in two ways"):
        lines(tmp_path, text.replace("[coco, vgmed]", "[{benchmark: coco, limit: 5}]"))


@pytest.mark.parametrize(
    "text,said",
    [
        ("modls: [a]\n", "study.yaml:1: unknown key 'modls'. Did you mean 'models'?"),
        ("models: [a]\nmodels: [b]\n", "key 'models' appears twice"),
        ("benchmarks: [x]\n", "key 'models' is missing"),
        ("models:\n  - a\n  - {model: b, card: 2}\n", "yaml:3: unknown key 'models.1.card'. Did you mean 'cards'?"),
        ("models: [a]\nheads: {benchmark: coco, k: 0}\n", "study.yaml:2: 'heads.k' is 0"),
        ("models: [a]\nheads: {benchmark: coco, metric: kll}\n", "'heads.metric' is 'kll'"),
        ("models: [x/checkpoint-500, y/checkpoint-500]\n", "two entries are called 'checkpoint-500'"),
        ("models: ['my model']\n", "'my model' holds a space"),
        ("models: [a]\nmethods: [pai, pai]\n", "'pai' is named twice"),
        ("models: a\n", "'models' is 'a'"),
    ],
)
def test_a_mistake_in_a_study_is_told_with_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(VgError) as error:
        lines(tmp_path, text)
    assert said in str(error.value)


def test_a_step_that_fails_costs_what_needs_it_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = {"a": 2, "b": 3, "c": 0, "e": -9}
    ran = []

    def watch(words: Sequence[str], *args: Any, **more: Any) -> tuple[None, int]:
        ran.append(words[-1])
        return None, codes[words[-1]]

    monkeypatch.setattr(children, "watch", watch)
    some = [steps.Step("a", ("a",)), steps.Step("b", ("b",)), steps.Step("c", ("c",), ("b",))]
    assert steps.run(some[1:], "auto") == 3
    some += [steps.Step("d", ("d",), ("a",)), steps.Step("e", ("e",))]
    assert steps.run(some, "auto") == 2
    assert ran == ["b", "c", "a", "b", "c", "e"]
    assert "d: left out, for a did not end well." in capsys.readouterr().err
    assert steps.run([some[4]], "auto") == 137
    with pytest.raises(VgError, match="Step 'c' cannot be shared"):
        steps.run(some[1:3], "1/2")


def test_options_are_typed_as_they_are_read() -> None:
    several = {"data_root": Path("x y"), "offline": True, "json": False, "split": None, "m": ["a", "b"]}
    typed = steps.words({"k": 4, **several})
    assert typed == ["-k", "4", "--data-root", "x y", "--offline", "-m", "a", "-m", "b"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Steps run in this process, which has torch already; what was run."""
    ran: list[list[str]] = []

    def watch(words: Sequence[str], env: Any = None, stdout: Any = None) -> tuple[None, int]:
        ran.append(list(words[3:]))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = int(app(list(words[3:]), standalone_mode=False) or 0)
        if stdout is not None:
            stdout.write(printed.getvalue().encode())
        return None, code

    monkeypatch.setattr(children, "watch", watch)
    return ran


def test_models_and_benchmarks_may_be_repeated_and_each_pair_is_a_run(
    here: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "extra").mkdir()
    written(tmp_path / "extra" / "models.yaml", TWIN)
    typed = "probe --model phantom-vlm --model twin --benchmark scenes --benchmark phantom --limit 2 --registry extra"
    assert app([*typed.split(), "--out", "several", "--maps", "none"], standalone_mode=False) == 0
    names = [f"probe-{model}-{rows}" for model in ("phantom-vlm", "twin") for rows in ("scenes", "phantom")]
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == sorted(names)
    assert all("--maps none" in shlex.join(words) for words in here)
    with pytest.raises(VgError, match="Did you mean 'twin'"):
        app([*typed.replace("--model twin", "--model twn").split()], standalone_mode=False)
    assert len(here) == 4, "a mistyped name is told before the first run"


def tables(root: Path) -> tuple[list[pl.DataFrame], bytes]:
    """Rows of every run, and the table."""
    found = []
    for run in sorted((root / "runs").glob("*-*-*")):
        if run.is_dir():
            rows = pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")])
            keys = ["sample_id", *(["method"] if "method" in rows.columns else [])]
            found.append(rows.unique(keys).sort(keys))
    return found, (root / "runs" / "tables.md").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("VGTOOL_TEST_STUDY") != "1", reason="opt-in: minutes long")
def test_a_study_of_two_models_and_two_benchmarks_killed_twice_ends_in_the_same_results(
    here: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name / "extra").mkdir(parents=True)
        written(tmp_path / name / "extra" / "models.yaml", TWIN)
        written(tmp_path / name / "study.yaml", STUDY)
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "vgtool", "study", "study.yaml"]
    for run in ("refine-phantom-vlm-phantom", "refine-twin-scenes"):
        running = subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        parts = killed / "runs" / run / "parts"
        until(lambda parts=parts, running=running: running.poll() is not None or list(parts.glob("*.parquet")))
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait()
    done = subprocess.run(command, cwd=killed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 samples run, 70 already there" in done.stderr
    monkeypatch.chdir(tmp_path / "whole")
    assert app(["study", "study.yaml"], standalone_mode=False) == 0
    (some, table), (others, again) = tables(killed), tables(tmp_path / "whole")
    assert len(some) == len(others) == 6
    assert all(one.equals(other) for one, other in zip(some, others, strict=True))
    assert table == again and table.decode() in done.stdout
    assert (killed / "runs" / "report" / "index.html").is_file()
