"""The pages are followed: the adding pages step by step, tables against real runs, names against the code."""

import csv
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import in_cache, llava_hf
from forked import vgtool
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
SCORED = "vgtool score runs/border"
FENCE = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.M | re.S)


def follow(page: str, home: Path, **more: str) -> dict[str, str]:
    """Write the page's files into `home`, then run its commands there in order; command -> what it printed."""
    text = (DOCS / page).read_text()
    assert len(text.splitlines()) <= 100, "a page is a page"
    for _, title, body in FENCE.findall(text):
        if title:
            (home / title).parent.mkdir(parents=True, exist_ok=True)
            (home / title).write_text(body)
    site = home / "site"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ["PYTHONPATH"]]), **more}
    printed = {}
    for command in (line for kind, _, body in FENCE.findall(text) if kind == "sh" for line in body.splitlines()):
        words = shlex.split(command)
        if words[0] == "pip":
            extra = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
            words = ["pip", *words[1:], *extra]
        elif words[1] in ("probe", "refine"):
            words += ["--limit", "4"]
        if words[0] == "vgtool":
            done = vgtool(*words[1:], cwd=home, env=env)
        else:
            done = subprocess.run([sys.executable, "-m", *words], cwd=home, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed[command] = done.stdout
    return printed


def rows(run: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")])


def test_adding_a_model_works_as_the_page_says(tmp_path: Path) -> None:
    in_cache(tmp_path / "hf" / "hub", "my-lab/ours", llava_hf)
    printed = follow("adding-a-model.md", tmp_path, HF_HOME=str(tmp_path / "hf"))
    assert any("ours is on disk" in text for text in printed.values())
    found = rows(tmp_path / "runs" / "ours")
    assert found.height == 4 and found["error"].null_count() == 4
    identity = json.loads((tmp_path / "runs" / "ours" / "run.json").read_text())["identity"]
    assert (identity["model"], identity["adapter"]) == ("ours", "my-squashed")
    wide = found.row(0, named=True)
    assert wide["grid_box"] == [0, 0, wide["width"], wide["height"]], "squashed: the grid covers exactly the image"


def test_adding_a_benchmark_works_as_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name in "ab":
        Image.new("RGB", (80, 90), (90, 90, 90)).save(tmp_path / "scans" / f"{name}.png")
    printed = follow("adding-a-benchmark.md", tmp_path)
    mine = rows(tmp_path / "runs" / "mine")
    assert sorted(mine["sample_id"].unique()) == ["q1", "q2", "q3"] and mine["error"].null_count() == 6
    assert sorted(mine["question_type"].unique()) == ["choice", "closed", "open"]
    assert rows(tmp_path / "runs" / "ward7")["layer_ratio"].null_count() == 2, "one of three has a box"
    with (tmp_path / "cases.csv").open() as file:
        cases = len(list(csv.DictReader(file)))
    checked = next(text for command, text in printed.items() if "ward7-cases" in command)
    assert re.search(rf"\b{cases}\b", checked) and "closed" in checked


def test_adding_a_method_works_as_the_page_says(tmp_path: Path) -> None:
    printed = follow("adding-a-method.md", tmp_path)
    assert "hides a frame of image tokens" in printed["vgtool methods"]
    found = rows(tmp_path / "runs" / "border")
    one = found.filter(pl.col("method") == "border:width=2").row(0, named=True)
    tall, wide = one["grid_rows"], one["grid_cols"]
    assert one["kept"] == [r * wide + c for r in range(2, tall - 2) for c in range(2, wide - 2)]
    assert found["method"].unique().sort().to_list() == ["baseline", "border", "border:width=2"]
    recorded = json.loads((tmp_path / "runs" / "border" / "run.json").read_text())["recorded"]
    assert recorded["roles"] == {"baseline": "baseline", "border": "control", "border:width=2": "control"}
    assert "border is a control and border:width=2 is a control: no claims." in " ".join(printed[SCORED].split())
    done = vgtool(*SCORED.split()[1:], "--json", cwd=tmp_path)
    gains = [row for row in json.loads(done.stdout) if row["metric"] == "gain"]
    assert [(row["method"], row["kind"], row["p_holm"]) for row in gains] == [
        ("border:width=2", "control", None),
        ("border", "control", None),
    ]


# ---- files and columns -------------------------------------------------------------------------------------------


def table(title: str) -> dict[str, list[str]]:
    """First cell (in backticks) -> the other cells, of the table under a heading of files.md."""
    section = (DOCS / "files.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"
    ]
    return {cells[0].strip("`"): cells[1:] for cells in lines}


def name_of(kind: pa.DataType) -> str:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {name_of(kind.value_type)}"
    return {"string": "text", "large_string": "text", "float": "float32", "double": "float64"}.get(str(kind), str(kind))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs")
    for command in (
        "probe --model phantom-vlm --benchmark scenes --limit 4 --out probe",
        "heads probe -k 3 -o heads.json",
        "refine --model phantom-vlm --benchmark phantom --limit 4 --heads heads.json --method vgrefine --out refine",
    ):
        done = vgtool(*command.split(), cwd=home)
        assert done.returncode == 0, done.stderr
    return home


@pytest.mark.parametrize("kind", ["probe", "refine"])
def test_columns_have_the_documented_names_and_types_in_order(kind: str, runs: Path) -> None:
    (part,) = (runs / kind / "parts").iterdir()
    real = {field.name: name_of(field.type) for field in pq.read_schema(part)}
    documented = {name: cells[0] for name, cells in table(f"{kind.capitalize()} rows").items()}
    assert list(documented.items()) == list(real.items())


@pytest.mark.parametrize("kind", ["probe", "refine"])
def test_the_identity_has_exactly_the_documented_keys(kind: str, runs: Path) -> None:
    record = json.loads((runs / kind / "run.json").read_text())
    assert set(record) == {"kind", "identity", "notes", "recorded"}
    documented = {name for name, cells in table("Identity").items() if cells[0] in ("both", kind)}
    assert set(record["identity"]) == documented


def test_the_frame_of_results_has_the_documented_columns_and_types_in_order(runs: Path) -> None:
    done = vgtool("score", "probe", "refine", "--out", "results.parquet", cwd=runs)
    assert done.returncode == 0, done.stderr
    real = {field.name: name_of(field.type) for field in pq.read_schema(runs / "results.parquet")}
    documented = {name: cells[0] for name, cells in table("Results").items()}
    assert list(documented.items())[: len(real)] == list(real.items())
    metrics = set(pl.read_parquet(runs / "results.parquet")["metric"])
    assert {"accuracy", "gain", "attention_ratio", "smallest_gain"} <= metrics & set(documented)


def test_a_run_folder_holds_what_is_documented(runs: Path) -> None:
    documented = {name.split("/")[0] for name in table("A run folder")}
    assert {path.name for path in (runs / "probe").iterdir()} == documented - {"starts"}, "starts: under Slurm only"


def test_the_head_file_has_exactly_the_documented_keys(runs: Path) -> None:
    assert set(json.loads((runs / "heads.json").read_text())) == set(table("Head file"))


# ---- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*DOCS.glob("*.md"), DOCS.parent / "README.md"], ids=lambda page: page.name)
def test_every_module_and_name_in_backticks_exists(page: Path) -> None:
    for name in re.findall(r"`(vgtool(?:\.\w+)+)`", page.read_text()):
        if name.split(".")[1] in ("adapters", "readers"):
            continue  # entry point groups
        module, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), last), name
