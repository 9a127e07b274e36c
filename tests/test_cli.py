"""The commands as a user runs them: the whole pipeline, resume after a kill, and every mistake in one sentence."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from forked import end, start, until, vgtool

from vgtool import commands
from vgtool.errors import VgError

AT_ITS_PARTS = """import time
from vgtool.runs import runner
from vgtool.runs.store import Store
write = Store.write
def slowly(*part):
    write(*part)
    time.sleep(1)
Store.write, runner.PART_SAMPLES, runner.PART_LEAST = slowly, 6, 0.0"""
"""A part every six samples, and time to be killed after it."""
PROBE = ["probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "30"]


def rows(run: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a probe run of scenes and a head file."""
    root = tmp_path_factory.mktemp("runs")
    done = vgtool(*PROBE, "--out", root / "scenes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 30
    assert vgtool("heads", root / "scenes", "-k", "4", "-o", root / "heads.json").returncode == 0
    return root


def test_probe_heads_refine_score_and_report_work_together(home: Path) -> None:
    refine = [
        "refine",
        "--model",
        "phantom-vlm",
        "--benchmark",
        "phantom",
        "--limit",
        "20",
        "--heads",
        home / "heads.json",
    ]
    done = vgtool(*refine, "--method", "vgrefine", "--method", "random-keep", "--out", home / "refined")
    assert done.returncode == 0, done.stderr
    frame = rows(home / "refined")
    assert frame.group_by("method").len().sort("method").rows() == [
        ("baseline", 20),
        ("random-keep", 20),
        ("vgrefine", 20),
    ]
    scored = vgtool("score", home / "refined", home / "scenes", "--json", "--by", "question_type")
    found = [row for row in json.loads(scored.stdout) if row["table"] == "accuracy" and row["metric"] == "accuracy"]
    assert [row["method"] for row in found if row["field"] is None] == ["baseline", "vgrefine", "random-keep"]
    assert sum(row["n"] for row in found if row["method"] == "baseline" and row["field"] == "question_type") == 20
    drawn = vgtool("report", home / "refined", home / "scenes", "--out", home / "report")
    assert drawn.returncode == 0, drawn.stderr
    page = (home / "report" / "index.html").read_text()
    assert "default-src 'none'" in page and str(home) not in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", ""), "the name of SVG, no address that is asked"
    assert {p.suffix for p in (home / "report").iterdir()} == {".html", ".pdf", ".svg", ".png", ".json", ".parquet"}


def test_shards_add_up_to_the_whole(home: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        assert vgtool(*PROBE, "--shard", shard, "--out", tmp_path / "run").returncode == 0
    columns = ["sample_id", "region", "layer_kl"]
    whole, parts = (rows(run).select(columns).sort("sample_id") for run in (home / "scenes", tmp_path / "run"))
    assert whole.equals(parts)


def test_a_killed_run_is_completed_by_the_same_command(tmp_path: Path) -> None:
    parts = tmp_path / "run" / "parts"
    command = [*PROBE, "--maps", "none", "--images", "1", "--out", tmp_path / "run"]
    for number, code in ((signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(list(parts.glob("*.parquet")))
        running = start(*command, pretend=AT_ITS_PARTS)
        until(lambda before=before, running=running: len(list(parts.glob("*.parquet"))) > before, running)
        os.kill(running.pid or 0, number)
        assert end(running) == code
    done = vgtool(*command)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "run")["sample_id"].n_unique() == 30


@pytest.mark.parametrize(
    "args,said",
    [
        (["probe", "--model", "phantom-vl", "--benchmark", "scenes"], "Did you mean 'phantom-vlm'?"),
        (["probe", "--model", "phantom-vlm", "--benchmark", "scene"], "Did you mean 'scenes'?"),
        ([*PROBE, "--split", "tset"], "Did you mean 'test'?"),
        ([*PROBE, "--shard", "3/2"], "--shard '3/2' is not I/N"),
        ([*PROBE, "--batch-size", "many"], "--batch-size 'many'"),
        ([*PROBE, "--images", "0"], "--images '0'"),
        ([*PROBE, "--dtype", "float23"], "Did you mean 'float32'?"),
        ([*PROBE, "--out", "/proc/nothing"], "Cannot write in '/proc/nothing'"),
        (["refine", "--model", "phantom-vlm", "--benchmark", "phantom"], "needs ranked heads"),
        (["refine", "--model", "phantom-vlm", "--benchmark", "phantom", "--heads", "none.json"], "Cannot read --heads"),
        (["score", "nowhere"], "is no run folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(args: list[str], said: str, tmp_path: Path) -> None:
    done = vgtool(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_changed_setting_on_resume_is_refused_by_name(home: Path) -> None:
    done = vgtool(*PROBE, "--out", home / "scenes", "--row", "text")
    assert done.returncode == 2
    assert 'row = "last", now it is "text"' in done.stderr


def test_heads_chosen_on_the_test_images_are_refused(home: Path, tmp_path: Path) -> None:
    args = ["refine", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "5", "--heads", home / "heads.json"]
    done = vgtool(*args, "--out", tmp_path / "x")
    assert done.returncode == 2 and "used to choose the heads" in done.stderr


def test_broken_yaml_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("mine:\n  title: x\n  adaptr: llava\n")
    done = vgtool("models", "--registry", tmp_path)
    assert done.returncode == 2
    assert "models.yaml:3" in done.stderr and "Did you mean 'adapter'?" in done.stderr


def test_score_and_report_do_not_import_torch(home: Path) -> None:
    code = """import sys
from vgtool.commands import main
run, out = sys.argv[1:]
for command in (["score", run], ["report", run, "--out", out]):
    sys.argv = ["vgtool", *command]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
assert "torch" not in sys.modules"""
    done = subprocess.run([sys.executable, "-c", code, home / "scenes", home / "r2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_bad_rows_and_images_cost_only_themselves(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (90, 60), (120, 60, 60)).save(tmp_path / "good.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    lines = [
        {"id": "good", "image": "good.png", "question": "Is it red?", "reference": "yes", "boxes": [[10, 10, 40, 40]]},
        {"id": "broken", "image": "broken.png", "question": "Is it red?"},
        {"id": "gone", "image": "gone.png", "question": "Is it red?"},
        {"id": "escape", "image": "../../etc/passwd", "question": "Is it red?"},
        {"id": "placeholder", "image": "good.png", "question": "Is <image> red?"},
        {"id": "outside", "image": "good.png", "question": "Is it red?", "boxes": [[200, 10, 240, 40]]},
        {"id": "upside", "image": "good.png", "question": "Is it red?", "boxes": [[40, 10, 20, 40]]},
        {"id": "good", "image": "good.png", "question": "Again?"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\nnot json\n"
    (tmp_path / "mine.jsonl").write_text(text)
    done = vgtool(
        "probe", "--model", "phantom-vlm", "--benchmark", "mine.jsonl", "--out", "run", "--json", cwd=tmp_path
    )
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["failed"] == {
        "image_truncated": 1,
        "image_missing": 1,
        "image_outside_root": 1,
        "placeholder_in_question": 1,
        "no_region": 1,
        "malformed_row": 2,
        "duplicate_id": 1,
    }
    told = ("'gone': image_missing: 'gone.png'", "'placeholder': placeholder_in_question", "'upside': malformed_row: ")
    for first in told:
        assert f"first {first}" in done.stderr, "each kind of failure is told by its first sample"
    assert done.stderr.count("malformed_row: ") == 1
    frame = rows(tmp_path / "run")
    assert frame.height == 9
    assert frame.filter(pl.col("error").is_null())["sample_id"].to_list() == ["good"]


@pytest.mark.parametrize("typed", ["mine.jsonl", "below/mine.jsonl", "/mine.jsonl"])
def test_a_file_of_questions_makes_a_run_that_is_read_again_however_its_path_was_typed(
    typed: str, tmp_path: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "below" if "below" in typed else tmp_path
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (90, 60), (120, 60, 60)).save(folder / "a.png")
    (folder / "mine.jsonl").write_text('{"image": "a.png", "question": "Is it red?", "answer": "yes"}\n')
    typed = f"{tmp_path}{typed}" if typed.startswith("/") else typed
    refine = ["refine", "--model", "phantom-vlm", "--method", "no-image", "--benchmark"]
    done = vgtool(*refine, typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [run.name for run in (tmp_path / "runs").iterdir()] == ["refine-phantom-vlm-mine"]
    assert str(tmp_path) not in (tmp_path / "runs" / "refine-phantom-vlm-mine" / "run.json").read_text()
    again = vgtool(*refine, folder / "mine.jsonl", cwd=tmp_path)
    assert again.returncode == 0 and "1 already there" in again.stderr
    scored = vgtool("score", "runs/refine-phantom-vlm-mine", cwd=tmp_path)
    assert scored.returncode == 0 and "phantom-vlm on mine.jsonl" in scored.stdout


def test_a_run_folder_that_is_named_like_a_file_is_read_as_a_folder(home: Path) -> None:
    shutil.copytree(home / "scenes", home / "odd.jsonl")
    assert vgtool("score", home / "odd.jsonl").returncode == 0


def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    command = f"{shlex.quote(sys.executable)} -m vgtool models --json | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE).returncode == 0


def test_what_a_user_may_not_open_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*args: object, **settings: object) -> None:
        raise PermissionError(13, "Permission denied", "secret/run.json")

    monkeypatch.setattr(commands, "app", refused)
    with pytest.raises(SystemExit) as end:
        commands.main()
    assert end.value.code == 2 and "'secret/run.json'" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--seed", "-1"], ["--limit", str(10**20)], ["--limit", "0"]])
def test_a_number_out_of_range_is_refused_by_its_option(args: list[str]) -> None:
    done = vgtool("probe", "--model", "phantom-vlm", "--benchmark", "scenes", *args)
    assert done.returncode == 2 and args[0] in done.stderr and "Traceback" not in done.stderr


def test_listings_are_short_and_one_entry_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(command: str) -> str:
        assert not commands.app(command.split(), standalone_mode=False)
        return capsys.readouterr().out

    for listing in ("models", "benchmarks", "methods"):
        assert all(len(line) < 140 for line in shown(listing).splitlines()) and "Unverified" not in shown(listing)
    assert "a test subject for the tool" in shown("models phantom-vlm")
    assert "paper: " in shown("benchmarks vqa-rad") and "1,297 of train and test" in shown("benchmarks vqa-rad")
    text = shown("methods vgrefine")
    assert "percentile" in text and "50.0" in text and "tokens below this percentile of the map are hidden" in text
    found = {one["name"]: one for one in json.loads(shown("methods vgrefine --json"))["parameters"]}
    assert found["percentile"]["default"] == 50.0 and found["percentile"]["type"] == "number"
    assert found["magnitude"]["default"] is None and found["rows"]["type"].startswith("last|question|text")
    listed = json.loads(shown("methods --json"))
    assert all(one["help"] for method in listed for one in method["parameters"]), "every parameter says what it does"
    mistyped = {"methods vgrefin": "vgrefine", "benchmarks phanto": "phantom", "models phantm-vlm": "phantom-vlm"}
    for command, near in mistyped.items():
        with pytest.raises(VgError, match=f"Did you mean '{near}'"):
            commands.app(command.split(), standalone_mode=False)
