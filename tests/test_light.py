"""What only lists or plans imports no framework, and says of the disk what the hub's client says; how much is said."""

import gc
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import huggingface_hub
import pytest
from forked import vgtool
from huggingface_hub.file_download import repo_folder_name
from typer.testing import CliRunner

from vgtool import cached, console
from vgtool.benchmarks import fetch
from vgtool.commands import app
from vgtool.errors import VgError, reason_of
from vgtool.models.listing import rows
from vgtool.registry import BenchmarkSpec, ModelSpec, benchmarks, models, read_entries
from vgtool.runs import imports, sizes

ROOT = Path(__file__).parent.parent
LISTINGS = [
    "--version",
    "--help",
    "score --help",
    "models",
    "models phantom-vlm",
    "models llava-med --json",
    "benchmarks",
    "benchmarks slake",
    "methods",
    "methods vgrefine",
    "methods --json",
    "plan --model phantom-vlm --benchmark phantom",
    "plan --model phantom-vlm --benchmark phantom --method vgrefine --method pai --shards 4",
    "score --table list",
    f"study {ROOT / 'scripts' / 'study.yaml'} --list",
]


def test_no_listing_imports_torch_or_transformers(tmp_path: Path) -> None:
    code = """import shlex, sys
from vgtool.commands import main
for line in sys.argv[1:]:
    sys.argv = ["vgtool", *shlex.split(line)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, line
    assert not {"torch", "transformers", "polars", "matplotlib", "scipy"} & set(sys.modules), line
"""
    done = subprocess.run([sys.executable, "-c", code, *LISTINGS], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(shown in done.stdout for shown in ("llava-med", "slake", "percentile", "2,000", "shard 4/4", "thirds"))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_imports_of_a_run_are_not_looked_through_for_garbage_and_a_callers_objects_stay_collectable(
    fails: bool, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if torch were not imported yet; a failed import leaves the collector on, too."""
    monkeypatch.setitem(sys.modules, "torch", object())
    monkeypatch.delitem(sys.modules, "torch")
    on: list[bool] = []

    def noted(name: str) -> None:
        on.append(gc.isenabled())
        if fails:
            raise ImportError(name)

    monkeypatch.setattr(imports.importlib, "import_module", noted)
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError) if fails else nullcontext():
        imports.engine(own)
    assert gc.isenabled() and on and not any(on)
    assert (gc.get_freeze_count() > frozen) == (own and not fails)
    on.clear()
    monkeypatch.setitem(sys.modules, "torch", object())
    imports.engine(own)
    assert not on, "there is nothing to import"


def test_what_is_cached_is_what_the_hubs_client_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    spec = ModelSpec(name="m", title="M", adapter="llava", hub="some/model")
    assert not cached.holds("models", "some/model") and rows([spec])[0]["disk"] == "no"
    folder = tmp_path / repo_folder_name(repo_id="some/model", repo_type="model")
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    assert cached.holds("models", "some/model") and rows([spec])[0]["disk"] == "no"
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"")
    assert huggingface_hub.try_to_load_from_cache("some/model", "config.json", cache_dir=tmp_path) == str(
        snapshot / "config.json"
    )
    assert rows([spec])[0]["disk"] == "yes"
    kind = repo_folder_name(repo_id="a/b", repo_type="dataset")
    (tmp_path / kind).mkdir()
    assert cached.holds("datasets", "a/b") and not cached.holds("models", "a/b")


def test_the_hub_is_asked_for_nothing_that_is_not_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    spec = benchmarks()["vqa-rad"].model_copy(update={"hub": "a/b", "revision": "abc"})
    (tmp_path / repo_folder_name(repo_id="a/b", repo_type="dataset")).mkdir()
    asked = dict[str, object]()

    def given(repo: str, **named: object) -> str:
        asked.update(named, repo=repo)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", given)
    assert fetch.locate(spec, None) == tmp_path
    assert asked == {"repo": "a/b", "repo_type": "dataset", "revision": "abc", "local_files_only": True}


def test_the_quick_reader_gives_the_entries_of_the_careful_one() -> None:
    for file, kind, found in (("models.yaml", ModelSpec, models()), ("benchmarks.yaml", BenchmarkSpec, benchmarks())):
        assert read_entries(ROOT / file, kind) == found


# ---- plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "grid,tokens,assumed",
    [
        ("24 x 24", 576, ""),
        ("14 x 14, column-major in the model", 196, ""),
        ("H/28 x W/28", 576, "H/28 x W/28"),
        ("16 x 16 per tile, 1 to 12 tiles and a thumbnail", 256, "16 x 16 per tile, 1 to 12 tiles and a thumbnail"),
        (None, 576, "not stated"),
    ],
)
def test_image_tokens_are_the_grids_or_said_to_be_assumed(grid: str | None, tokens: int, assumed: str) -> None:
    spec = ModelSpec(name="m", title="M", adapter="llava", parameters=7.0, layers=28, heads=28, grid=grid)
    shape = sizes.shape(spec, None)
    assert (shape.image_tokens, shape.assumed) == (tokens, assumed)


def test_a_plan_says_what_it_assumes_until_it_is_told() -> None:
    words = ["plan", "--model", "lingshu-7b", "--benchmark", "phantom"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "576 tokens an image are assumed: the grid follows it (H/28 x W/28)." in done.stderr
    told = CliRunner().invoke(app, [*words, "--image-tokens", "100", "--json"])
    found = json.loads(told.stdout)
    assert found["image_tokens"] == 400 * 100 and found["assumed"] == "" and "assumed" not in told.stderr
    assert "assumed" not in CliRunner().invoke(app, ["plan", "--model", "llava-med", "--benchmark", "phantom"]).stderr


# ---- how much is said --------------------------------------------------------------------------------------------


def test_quiet_leaves_results_and_warnings_and_verbose_adds_why(tmp_path: Path) -> None:
    assert "explains the parameters" in CliRunner().invoke(app, ["methods"]).stderr
    quiet = CliRunner().invoke(app, ["methods", "-q"])
    assert "vgrefine" in quiet.stdout and quiet.stderr == ""
    words = ["plan", "--model", "lingshu-7b", "--benchmark", "phantom", "-q"]
    assert "are assumed" in CliRunner().invoke(app, words).stderr
    with pytest.raises(VgError, match="-q and -v contradict"):
        app(["methods", "-q", "-v"], standalone_mode=False)
    done = [vgtool("score", "none", *talk, cwd=tmp_path).stderr.splitlines() for talk in ([], ["-q"], ["-v"])]
    assert done[0] == done[1] and len(done[0]) == 1, "an error is an error, however much is said"
    assert done[2] == [done[0][0], done[2][1]] and done[2][1].startswith("Because of FileNotFoundError")


def test_a_line_break_in_a_name_makes_no_second_line_of_talk(capsys: pytest.CaptureFixture[str]) -> None:
    console.warn("No sample 'a\nError: all is lost.\r\n'.")
    assert capsys.readouterr().err == "No sample 'a Error: all is lost.? '.\n"


def test_talk_is_usual_again_with_the_next_command() -> None:
    CliRunner().invoke(app, ["methods", "-v"])
    assert console.talk is console.Talk.VERBOSE
    CliRunner().invoke(app, ["methods"])
    assert console.talk is console.Talk.USUAL


def test_the_reason_of_a_failure_is_what_lies_at_its_root() -> None:
    try:
        try:
            raise ConnectionError("no route to host\nmore")
        except ConnectionError as error:
            raise OSError("it failed") from error
    except OSError as error:
        assert reason_of(error) == "no route to host"
    assert reason_of(ValueError("alone.")) == "alone"
    assert reason_of(TimeoutError()) == "TimeoutError"
