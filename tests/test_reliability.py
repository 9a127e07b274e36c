"""The six promises: killed anywhere, beside other processes, by its own samples, a run ends in the same table.

docs/reliability.md says which test holds which promise and answers which threat.
"""

import dataclasses
import os
import random
import signal
from pathlib import Path
from typing import Any

import faults
import polars as pl
import pyarrow as pa
import pytest
from faults import Answers, Toy, benchmark, ids, opened, run, start, table
from forked import end, until, vgtool

from vgtool.errors import Exit, VgError
from vgtool.runs import deal, process, runner, trial
from vgtool.runs.notes import image_key, key
from vgtool.runs.store import Shard, Store, save

SMALL = pa.schema([("sample_id", pa.string()), ("error", pa.string())])


# ---- killed anywhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n,batch", [(1, 1), (3, 1), (2, 5)])
@pytest.mark.parametrize("point", faults.POINTS)
def test_a_kill_at_any_point_costs_no_row_and_doubles_none(
    point: str, n: int, batch: int, tmp_path: Path, undisturbed: pl.DataFrame
) -> None:
    """With one image a pass and with five."""
    if n > 1 and point in ("touch", "touched"):
        return  # a shard is marked once
    code = run(tmp_path / "run", point=point, n=n, batch=batch)
    assert code == -signal.SIGKILL
    assert run(tmp_path / "run", batch=batch) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(undisturbed)
    assert not list((tmp_path / "run").rglob("*.tmp")), "a dead process left its temporary file"
    assert not list((tmp_path / "run" / "open").iterdir())


@pytest.mark.parametrize("batch", [1, 4])
def test_random_kills_end_in_the_uninterrupted_table(batch: int, tmp_path: Path) -> None:
    # A trial starts slower than these kills; small parts are merged now and then.
    settings: dict[str, Any] = {"images": 150, "part": 5, "merge": 17, "trials": False, "batch": batch}
    assert run(tmp_path / "whole", **settings) == Exit.SOME_FAILED
    rng, kills = random.Random(0), 0
    for _ in range(14):
        child = start(tmp_path / "run", nap=0.02 * batch, **settings)
        child.join(rng.uniform(0.02, 0.5))
        if child.exitcode is None:
            child.kill()
        kills += end(child) == -signal.SIGKILL
    code = run(tmp_path / "run", **settings)
    assert kills >= 7
    assert code == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))
    assert set(table(tmp_path / "run")["sample_id"]) == ids(benchmark(150))


@pytest.mark.parametrize("point,n", [("ran", 1), ("ran", 4), ("replaced", 2), ("half", 3), ("run", 9)])
def test_after_a_kill_every_sample_runs_beside_the_samples_it_runs_with_undisturbed(
    point: str, n: int, tmp_path: Path
) -> None:
    """Images of two forms, four a pass: numbers round by what goes through together, so that must not change."""
    settings: dict[str, Any] = {"images": 40, "part": 10, "batch": 4, "beside": True, "trials": False}
    assert run(tmp_path / "whole", **settings) == Exit.SOME_FAILED
    wanted = table(tmp_path / "whole")
    assert wanted["answer"].str.split(" ").list.len().max() > 4
    assert run(tmp_path / "run", point=point, n=n, **settings) == -signal.SIGKILL
    assert run(tmp_path / "run", point=point, n=2, **settings) == -signal.SIGKILL
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(wanted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_keeps_every_finished_image_and_the_rerun_completes(
    number: signal.Signals, tmp_path: Path, undisturbed: pl.DataFrame
) -> None:
    child = start(tmp_path / "run", part=1000, point="ran", n=4, held=tmp_path / "held")
    notes = tmp_path / "run" / "open"
    until((tmp_path / "held.0").exists, child)
    assert list(notes.iterdir())
    os.kill(child.pid or 0, number)
    assert end(child) == 128 + number
    assert not list(notes.iterdir()), "an orderly end leaves no note"
    assert not list((tmp_path / "run" / "done").iterdir()), "it is not done"
    kept = table(tmp_path / "run")
    assert 0 < kept.height < undisturbed.height
    assert kept.equals(undisturbed.filter(pl.col("sample_id").is_in(kept["sample_id"].unique().to_list())))
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(undisturbed)


def test_a_second_signal_ends_at_once_and_the_rerun_completes(tmp_path: Path, undisturbed: pl.DataFrame) -> None:
    child = start(tmp_path / "run", part=1000, point="ran", n=4, held=tmp_path / "held", signals=3)
    for handled in range(2):
        until((tmp_path / f"held.{handled}").exists, child)
        os.kill(child.pid or 0, signal.SIGINT)
    assert end(child) != 0 and not (tmp_path / "held.2").exists(), "it went on"
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(undisturbed)


# ---- several processes -------------------------------------------------------------------------------------------


def test_four_processes_on_one_shard_leave_every_row_once_after_reading(
    tmp_path: Path, undisturbed: pl.DataFrame
) -> None:
    children = [start(tmp_path / "run", nap=0.01) for _ in range(4)]
    assert [end(child) for child in children] == [Exit.SOME_FAILED] * 4
    assert table(tmp_path / "run").unique(["sample_id", "method"]).sort("sample_id", "method").equals(undisturbed)


def test_eight_shards_by_eight_processes_hold_every_row_once(tmp_path: Path, undisturbed: pl.DataFrame) -> None:
    children = [start(tmp_path / "run", shard=f"{i}/8") for i in range(1, 9)]
    assert {end(child) for child in children} <= {Exit.DONE, Exit.SOME_FAILED}
    assert table(tmp_path / "run").equals(undisturbed)
    assert len(list((tmp_path / "run" / "done").iterdir())) == 8


def test_another_number_of_shards_finishes_what_a_dead_one_left(tmp_path: Path, undisturbed: pl.DataFrame) -> None:
    assert run(tmp_path / "run", shard="1/2") in (Exit.DONE, Exit.SOME_FAILED)
    assert run(tmp_path / "run", shard="2/2", point="ran", n=2) == -signal.SIGKILL
    for shard in ("1/3", "2/3", "3/3"):
        assert run(tmp_path / "run", shard=shard) in (Exit.DONE, Exit.SOME_FAILED)
    assert table(tmp_path / "run").equals(undisturbed)


def test_more_shards_than_samples_all_come_to_an_end(tmp_path: Path) -> None:
    rows = benchmark(images=3, per=1, rejected=0)
    for index in range(1, 9):
        outcome = runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard(index, 8))  # type: ignore[arg-type]
        assert outcome.exit == Exit.DONE
    assert len(list((tmp_path / "done").iterdir())) == 8
    assert set(table(tmp_path)["sample_id"]) == ids(rows)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 50])
def test_shards_are_disjoint_balanced_and_keep_an_images_questions_together(count: int) -> None:
    rows = benchmark(images=90)
    dealt = deal.deal(rows.samples, count)
    names = [sample.id for shard in dealt for group in shard for sample in group]
    assert sorted(names) == sorted(sample.id for sample in rows.samples)
    of_image = [group[0].image_id for shard in dealt for group in shard]
    assert len(set(of_image)) == len(of_image) == 90
    loads = [sum(group.work for group in shard) for shard in dealt]
    assert max(loads) - min(loads) <= max(group.work for group in deal.groups(rows.samples))


def test_shuffled_rows_resume_without_computing_anything_again(tmp_path: Path) -> None:
    rows = benchmark()
    runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
    mixed = dataclasses.replace(rows, samples=random.Random(1).sample(list(rows.samples), len(rows.samples)))
    task = Answers()
    outcome = runner.run(task, Toy(), mixed, opened(tmp_path, mixed), shard=Shard())  # type: ignore[arg-type]
    assert (outcome.done, outcome.skipped, task.calls) == (0, len(ids(rows)), [])


# ---- identity ----------------------------------------------------------------------------------------------------


def test_every_changed_identity_field_is_refused_by_its_name(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "model": "a",
        "revision": "1",
        "adapter": "llava",
        "dtype": "float32",
        "attention": "sdpa, shared prefix",
        "benchmark": "b",
        "split": "test",
        "protocol": "default",
        "rows": 4,
        "data_digest": "d",
        "box_mapping": "exact",
        "prompts": {"general": "g"},
        "methods": ["baseline"],
        "versions": {"torch": "2"},
    }
    Store(tmp_path).open("refine", fields, [])
    Store(tmp_path).open("refine", fields, ["another note is no other run"])
    for name in fields:
        with pytest.raises(VgError, match=f"was made with {name} ="):
            Store(tmp_path).open("refine", {**fields, name: "other"}, [])
    with pytest.raises(VgError, match="holds a refine run"):
        Store(tmp_path).open("probe", fields, [])


def test_of_two_processes_that_start_a_run_at_once_one_makes_it_and_both_read_it(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    save(path, b"first", exclusive=True)
    save(path, b"second", exclusive=True)
    assert path.read_bytes() == b"first" and [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_one_folder_refuses_two_experiments_that_start_at_once(tmp_path: Path) -> None:
    children = [start(tmp_path / "run", images=n) for n in (10, 11, 12)]
    codes = sorted(map(end, children))
    assert codes == [2, 2, 3], "one goes on, the others end on VgError"


def test_a_done_mark_is_taken_back_while_its_shard_has_work_again(tmp_path: Path, undisturbed: pl.DataFrame) -> None:
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    mark = tmp_path / "run" / "done" / "1of1"
    part = min((tmp_path / "run" / "parts").iterdir())
    part.write_bytes(b"")
    assert mark.exists() and run(tmp_path / "run", point="run") == -signal.SIGKILL
    assert not mark.exists()
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    assert mark.exists() and table(tmp_path / "run").equals(undisturbed)


# ---- rows that fail, samples that kill ---------------------------------------------------------------------------


def test_a_rerun_still_reports_the_failures_of_the_first(tmp_path: Path) -> None:
    rows = benchmark()
    for _ in range(2):
        outcome = runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
        assert dict(outcome.failed) == {"malformed_row": 2} and outcome.exit == Exit.SOME_FAILED


def test_every_row_ends_as_a_result_or_a_failure_with_a_reason(undisturbed: pl.DataFrame) -> None:
    failed = undisturbed.filter(pl.col("error").is_not_null())
    assert set(failed["sample_id"]) == {"bad0", "bad1"} and failed["answer"].null_count() == failed.height
    assert undisturbed.filter(pl.col("error").is_null())["answer"].null_count() == 0


@pytest.mark.parametrize("batch", [1, 5])
def test_a_sample_that_kills_its_process_twice_is_failed_and_the_rest_completes(
    batch: int, tmp_path: Path, undisturbed: pl.DataFrame
) -> None:
    settings: dict[str, Any] = {"deadly": ("i5-q1",), "part": 4, "batch": batch, "fresh": batch == 1}
    assert run(tmp_path / "run", **settings) == 9
    assert run(tmp_path / "run", **settings) == 9
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    rows = table(tmp_path / "run")
    lost = rows.filter(pl.col("error").is_not_null() & ~pl.col("sample_id").str.starts_with("bad"))
    assert lost["sample_id"].unique().to_list() == ["i5-q1"]
    assert set(lost["error"]) == {"kills_process: exit 9"}
    kept = pl.col("sample_id") != "i5-q1"
    assert rows.filter(kept).equals(undisturbed.filter(kept)), "its neighbours on the same image have their rows"
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(rows)
    assert not list((tmp_path / "run" / "open").iterdir())


@pytest.mark.parametrize("batch", [1, 5])
def test_two_chance_kills_on_some_images_fail_nothing(batch: int, tmp_path: Path, undisturbed: pl.DataFrame) -> None:
    names = [key(f"i{i}") for i in range(batch)]
    for _ in range(2):
        assert run(tmp_path / "run", point="run", n=1, batch=batch) == -signal.SIGKILL
    assert set(names) <= set(trial.suspects(Store(tmp_path / "run"), set(names))), "each image of the batch is noted"
    assert run(tmp_path / "run", batch=batch) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(undisturbed)


def test_what_survives_a_trial_runs_again_beside_the_samples_it_runs_with_undisturbed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"images": 24, "part": 10, "batch": 4, "beside": True}
    assert run(tmp_path / "whole", **settings) == Exit.SOME_FAILED
    for _ in range(2):
        assert run(tmp_path / "run", point="run", n=2, **settings) == -signal.SIGKILL
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))
    assert len(list((tmp_path / "run" / "tried").iterdir())) > 4, "there was a trial"


def test_a_trial_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    rows = benchmark(images=2, rejected=0)
    groups, folder = deal.groups(rows.samples), opened(tmp_path, rows)
    tries = trial.Trial(frozenset(map(image_key, groups)))
    assert [one.ids for one in tries.left(groups, folder)] == [(sample.id,) for sample in rows.samples]
    assert not tries.keeps([rows.samples[0]], folder), "it will run again"
    assert [one.ids for one in tries.left(groups, folder)] == [(sample.id,) for sample in rows.samples[1:]]
    tries.end(folder)
    assert len(tries.left(groups, folder)) == len(rows.samples) and tries.keeps([rows.samples[0]], folder)


def test_a_batch_that_kills_though_its_samples_do_not_ends_in_rows_of_samples_alone(tmp_path: Path) -> None:
    """The first trial finds nobody; after two more deaths the second one keeps what it has."""
    settings: dict[str, Any] = {"images": 3, "batch": 3, "beside": True}
    for death in range(4):
        assert run(tmp_path / "run", point="run", n=1, **settings) == -signal.SIGKILL, death
    tried = sorted(path.name for path in (tmp_path / "run" / "tried").iterdir())
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    rows = table(tmp_path / "run").filter(pl.col("error").is_null())
    assert rows["answer"].to_list() == rows["sample_id"].to_list() and rows.height == 2 * (len(tried) - 3)
    assert sorted(path.name for path in (tmp_path / "run" / "tried").iterdir()) == tried


def test_a_process_at_work_is_told_from_a_dead_one() -> None:
    assert process.alive(process.me()) and not process.gone(process.me())
    host, number, born = process.split(process.me())
    assert process.gone(f"{host}-{number}-{int(born) + 1}"), "same number, born later: another process"
    assert process.gone(f"{host}-999999999-1")
    assert not process.gone("elsewhere-1-1"), "of another host nothing is known"


def test_the_same_run_twice_gives_the_same_columns_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        command = ["probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "8"]
        assert vgtool(*command, "--out", tmp_path / name).returncode == 0
    one, other = ([p.read_bytes() for p in sorted((tmp_path / name / "parts").iterdir())] for name in "ab")
    assert one == other
