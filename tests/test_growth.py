"""Runs that grow: rows and methods that are added are run, nothing else is, and the table is that of one run."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import vgtool
from vgtool.commands import app
from vgtool.errors import VgError
from vgtool.runs import launch, runner
from vgtool.runs.growth import turns
from vgtool.runs.store import Store

REFINE = "refine --model phantom-vlm --benchmark phantom"
HEADS = "--heads heads.json"
KEPT = ["sample_id", "method", "answer", "kept", "error"]


def run(command: str) -> int:
    return int(app(command.split(), standalone_mode=False) or 0)


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("heads")
    assert run(f"probe --model phantom-vlm --benchmark scenes --limit 30 --maps none --out {root}/scenes") == 0
    assert run(f"heads {root}/scenes -k 6 -o {root}/heads.json") == 0
    return root / "heads.json"


@pytest.fixture(scope="module")
def kept(heads: Path) -> Path:
    """A run of random-keep on twelve rows."""
    out = heads.parent / "kept"
    assert run(f"{REFINE} --limit 12 --method random-keep --heads {heads} --out {out}") == 0
    return out


@pytest.fixture(autouse=True)
def here(heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heads.json").write_bytes(heads.read_bytes())


def table(out: str) -> pl.DataFrame:
    return vgtool.read(out, maps=False).sort("sample_id", "method")


def parts(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (Path(out) / "parts").iterdir()}


def test_rows_and_methods_that_are_added_end_in_the_table_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(f"{REFINE} --limit 12 --method pai --out grown") == 0
    before = parts("grown")
    assert run(f"{REFINE} --limit 25 --method pai --out grown") == 0
    assert run(f"{REFINE} --limit 25 --method vgrefine --method no-image {HEADS} --out grown") == 0
    assert run(f"{REFINE} --limit 25 --method pai --method vgrefine --method no-image {HEADS} --out whole") == 0
    found, whole = table("grown"), table("whole")
    assert found.select(KEPT).equals(whole.select(KEPT)) and found.height == 100
    shares = (pl.concat([one.select("confidence")]).to_series() for one in (found, whole))
    assert (next(shares) - next(shares)).abs().max() < 1e-5
    assert all(parts("grown")[name] == data for name, data in before.items()), "nothing written is written again"
    every = pl.concat([pl.read_parquet(path) for path in Path("grown/parts").iterdir()])
    assert not every.select("sample_id", "method").is_duplicated().any(), "and nothing is answered twice"
    identity = Store(Path("grown")).read()["identity"]
    assert identity["methods"] == ["baseline", "pai", "vgrefine", "no-image"] and identity["rows"] == 25
    assert identity["data_digest"] == Store(Path("whole")).read()["identity"]["data_digest"]
    assert identity["settings"] == Store(Path("whole")).read()["identity"]["settings"]
    monkeypatch.setattr(launch, "load", lambda *args: pytest.fail("a finished run loads no model"))
    assert run(f"{REFINE} --limit 25 --method no-image --method vgrefine {HEADS} --out grown --json") == 0


def test_only_what_is_missing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, tuple[str, ...]]] = []
    genuine = runner.attempt

    def attempt(task: Any, group: Any, *rest: Any) -> Any:
        groups = group if isinstance(group, (list, tuple)) else [group]
        asked.extend((len(one.samples), task.labels) for one in groups)
        return genuine(task, group, *rest)

    monkeypatch.setattr(runner, "attempt", attempt)
    assert run(f"{REFINE} --limit 10 --method no-image --out run") == 0
    asked.clear()
    assert run(f"{REFINE} --limit 15 --method no-image --method blank --out run") == 0
    assert sorted(asked) == [(5, ("baseline", "no-image", "blank")), (5, ("blank",)), (5, ("blank",))]


def test_a_probe_grows_by_rows_alone() -> None:
    probe = "probe --model phantom-vlm --benchmark phantom --maps none"
    assert run(f"{probe} --limit 7 --out run") == 0 and run(f"{probe} --limit 20 --out run") == 0
    assert run(f"{probe} --limit 20 --out whole") == 0
    columns = ["sample_id", "region", "layer_kl"]
    some, whole = (vgtool.read(out).select(columns).sort("sample_id") for out in ("run", "whole"))
    assert some["sample_id"].equals(whole["sample_id"]) and some["region"].equals(whole["region"])
    assert (some["layer_kl"].to_numpy() - whole["layer_kl"].to_numpy()).__abs__().max() < 1e-4


@pytest.mark.parametrize(
    "command,said",
    [
        ("--limit 9 --method no-image", "rows = 12, now it is 9"),
        ("--limit 20 --method no-image --split validation", 'split = "test", now it is "validation"'),
        ("--limit 12 --method random-keep --heads heads.json --seed 1", "random-keep: seed = 0, now it is 1"),
        ("--limit 12 --method random-keep --heads other.json", "random-keep: heads = "),
        ("--limit 12 --method no-image --box-mapping stretch", 'box_mapping = "exact"'),
        ("--limit 12 --method no-image --dtype float16", 'dtype = "float32", now it is "float16"'),
        ("--limit 12 --method vgrefine", "needs ranked heads"),
    ],
)
def test_what_makes_it_another_run_is_told_before_a_model_is_loaded(
    command: str, said: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(kept, "run")
    ranked = json.loads(Path("heads.json").read_text())
    Path("other.json").write_text(json.dumps({**ranked, "ranked": ranked["ranked"][::-1][:3]}))
    monkeypatch.setattr(launch, "load", lambda *args: pytest.fail("loaded"))
    with pytest.raises(VgError) as error:
        run(f"{REFINE} {command} --out run")
    assert said in str(error.value)


def test_a_method_that_reads_no_heads_does_not_differ_in_them() -> None:
    assert run(f"{REFINE} --limit 5 --method no-image --out run") == 0
    assert run(f"{REFINE} --limit 5 --method no-image {HEADS} --seed 3 --out run") == 0
    assert run(f"{REFINE} --limit 5 --method vgrefine {HEADS} --seed 4 --out run") == 0
    assert Store(Path("run")).read()["identity"]["heads"], "those that the first method that reads any was given"


def test_rows_that_are_not_the_first_of_the_new_ones_are_another_run() -> None:
    from PIL import Image

    Image.new("RGB", (90, 60), (120, 60, 60)).save("a.png")
    row = {"image": "a.png", "question": "Is it red?", "answer": "yes"}
    lines = [json.dumps({**row, "id": f"s{at}"}) for at in range(4)]
    own = "refine --model phantom-vlm --benchmark own.jsonl --method no-image --out run"
    Path("own.jsonl").write_text("\n".join(lines[:2]))
    assert run(own) == 0
    Path("own.jsonl").write_text("\n".join(lines[:3]))
    assert run(own) == 0 and table("run").height == 6
    Path("own.jsonl").write_text("\n".join(reversed(lines)))
    with pytest.raises(VgError, match="not the first of these 4"):
        run(own)


def test_a_run_that_lacks_a_method_on_some_rows_is_not_scored_as_whole() -> None:
    assert run(f"{REFINE} --limit 5 --method no-image --method blank --out run") == 0
    assert run(f"{REFINE} --limit 9 --method no-image --out run") == 0
    with pytest.raises(VgError, match="lacks 'blank' on 4 of 9 samples"):
        run("score run")
    assert run(f"{REFINE} --limit 9 --method blank --out run") == 0 and run("score run --json") == 0


def test_turns_are_the_labels_that_samples_lack() -> None:
    held = {"a": {"x": "", "y": ""}, "b": {"x": "failed"}, "c": {"y": ""}}
    assert turns(("x", "y"), held, "abcd") == {("y",): {"b"}, ("x",): {"c"}, ("x", "y"): {"d"}}
