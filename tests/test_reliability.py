"""The six promises, and the threats to the store and the runner: real children, real signals, full disks, rotten parts.

docs/reliability.md says which test holds which promise and answers which threat.
"""

import dataclasses
import errno
import gc
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faults
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from checkpoints import tiny_llava
from faults import Answers, Toy, benchmark, ids, run, start, table
from rich.console import Console

from vgtool import console
from vgtool.errors import Exit, SampleError, StorageError, VgError
from vgtool.grounding.geometry import Geometry
from vgtool.methods.probe import Probe
from vgtool.methods.task import ImageGroup, Row
from vgtool.models.load import load, resolve
from vgtool.records import Box, Grid
from vgtool.registry import ModelSpec, read_entries
from vgtool.runs import plan, process, runner, store, trial
from vgtool.runs import whole as files
from vgtool.runs.attempt import Limits, attempt
from vgtool.runs.store import DamagedPart, Shard, Store, check_digest, key, read_part, save

SMALL = pa.schema([("sample_id", pa.string()), ("error", pa.string())])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The table of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("whole") / "run"
    assert run(root) == Exit.SOME_FAILED  # the benchmark has two unusable rows
    rows = table(root)
    assert set(rows["sample_id"]) == ids(benchmark()) and rows.height == 2 * len(ids(benchmark()))
    return rows


def opened(root: Path, rows: Any) -> Store:
    folder = Store(root)
    folder.open("refine", {"rows": rows.rows}, [])
    return folder


# ---- killed anywhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("point", faults.POINTS)
def test_a_kill_at_any_point_costs_no_row_and_doubles_none(
    point: str, n: int, batch: int, tmp_path: Path, whole: pl.DataFrame
) -> None:
    """With one image a pass and with five."""
    if n > 1 and point in ("touch", "touched"):
        return  # a shard is marked once
    code = run(tmp_path / "run", point=point, n=n, batch=batch)
    assert code == -signal.SIGKILL
    assert run(tmp_path / "run", batch=batch) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(whole)
    assert not list((tmp_path / "run").rglob("*.tmp")), "a dead process left its temporary file"
    assert not list((tmp_path / "run" / "open").iterdir())


@pytest.mark.parametrize("batch", [1, 4])
def test_random_kills_end_in_the_uninterrupted_table(batch: int, tmp_path: Path) -> None:
    # without trials, which start slower than these kills
    settings: dict[str, Any] = {"images": 150, "part": 5, "trials": False, "batch": batch}
    assert run(tmp_path / "whole", **settings) == Exit.SOME_FAILED
    rng, kills = random.Random(0), 0
    for _ in range(25):
        child = start(tmp_path / "run", nap=0.02 * batch, **settings)
        child.join(rng.uniform(0.02, 0.5))
        if child.exitcode is None:
            child.kill()
            child.join(600)
        kills += child.exitcode == -signal.SIGKILL
    code = run(tmp_path / "run", **settings)
    assert kills >= 12
    assert code == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))
    assert set(table(tmp_path / "run")["sample_id"]) == ids(benchmark(150))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_keeps_every_finished_image_and_the_rerun_completes(
    number: signal.Signals, tmp_path: Path, whole: pl.DataFrame
) -> None:
    child = start(tmp_path / "run", nap=0.1, part=1000)
    notes = tmp_path / "run" / "open"
    wait_for(lambda: notes.is_dir() and len(list(notes.iterdir())) > 0)
    time.sleep(0.35)
    os.kill(child.pid or 0, number)
    child.join(600)
    assert child.exitcode == 128 + number
    assert not list(notes.iterdir()), "an orderly end leaves no note"
    assert not list((tmp_path / "run" / "done").iterdir()), "it is not done"
    kept = table(tmp_path / "run")
    assert 0 < kept.height < whole.height
    assert kept.equals(whole.filter(pl.col("sample_id").is_in(kept["sample_id"].unique().to_list())))
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(whole)


def test_a_second_signal_ends_at_once_and_the_rerun_completes(tmp_path: Path, whole: pl.DataFrame) -> None:
    child = start(tmp_path / "run", nap=900.0, part=1000)
    notes = tmp_path / "run" / "open"
    wait_for(lambda: notes.is_dir() and len(list(notes.iterdir())) > 0)
    time.sleep(0.3)
    for _ in range(2):
        os.kill(child.pid or 0, signal.SIGINT)
        time.sleep(0.2)
    child.join(600)
    assert child.exitcode not in (None, 0), "it slept on"
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(whole)


def wait_for(true: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# ---- several processes -------------------------------------------------------------------------------------------


def test_four_processes_on_one_shard_leave_every_row_once_after_reading(tmp_path: Path, whole: pl.DataFrame) -> None:
    children = [start(tmp_path / "run", nap=0.01) for _ in range(4)]
    for child in children:
        child.join(600)
    assert [child.exitcode for child in children] == [Exit.SOME_FAILED] * 4
    assert table(tmp_path / "run").unique(["sample_id", "method"]).sort("sample_id", "method").equals(whole)


def test_eight_shards_by_eight_processes_hold_every_row_once(tmp_path: Path, whole: pl.DataFrame) -> None:
    children = [start(tmp_path / "run", shard=f"{i}/8") for i in range(1, 9)]
    for child in children:
        child.join(600)
    assert {child.exitcode for child in children} <= {Exit.DONE, Exit.SOME_FAILED}
    assert table(tmp_path / "run").equals(whole)
    assert len(list((tmp_path / "run" / "done").iterdir())) == 8


def test_another_number_of_shards_finishes_what_a_dead_one_left(tmp_path: Path, whole: pl.DataFrame) -> None:
    assert run(tmp_path / "run", shard="1/2") in (Exit.DONE, Exit.SOME_FAILED)
    assert run(tmp_path / "run", shard="2/2", point="ran", n=2) == -signal.SIGKILL
    for shard in ("1/3", "2/3", "3/3"):
        assert run(tmp_path / "run", shard=shard) in (Exit.DONE, Exit.SOME_FAILED)
    assert table(tmp_path / "run").equals(whole)


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
    dealt = plan.deal(rows.samples, count)
    names = [sample.id for shard in dealt for group in shard for sample in group]
    assert sorted(names) == sorted(sample.id for sample in rows.samples)
    of_image = [group[0].image_id for shard in dealt for group in shard]
    assert len(set(of_image)) == len(of_image) == 90
    loads = [sum(map(plan.work, shard)) for shard in dealt]
    assert max(loads) - min(loads) <= max(map(plan.work, plan.groups(rows.samples)))


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
    for child in children:
        child.join(600)
    codes = sorted(child.exitcode or 0 for child in children)
    assert codes == [1, 1, 3], "one goes on, the others end on VgError"


# ---- the disk ----------------------------------------------------------------------------------------------------


class Full(faults.Handle):
    """A file on a disk that takes so many bytes more."""

    def __init__(self, handle: Any, room: int) -> None:
        self.handle, self.room = handle, room

    def write(self, data: bytes) -> None:
        self.handle.write(data[: self.room])
        if len(data) > self.room:
            self.handle.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_full_at_any_byte_of_a_part_keeps_the_others_and_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Store(tmp_path)
    folder.open("probe", {}, [])
    rows = [{"sample_id": "b", "error": None}]
    folder.write(Shard(), 0, [{"sample_id": "a", "error": None}], SMALL)
    (first,) = (tmp_path / "parts").iterdir()
    size, room = first.stat().st_size, 0
    monkeypatch.setattr(files, "open", lambda path, mode: Full(open(path, mode), room), raising=False)  # noqa: SIM115
    for room in range(size):  # noqa: B007 (the writer reads it)
        with pytest.raises(StorageError, match="make room and run the same command again"):
            folder.write(Shard(), 1, rows, SMALL)
        assert list((tmp_path / "parts").iterdir()) == [first]
    assert size > 500 and folder.finished(("",), {"a", "b"}) == {"a": ""}
    monkeypatch.undo()
    folder.write(Shard(), 1, rows, SMALL)
    assert folder.finished(("",), {"a", "b"}) == {"a": "", "b": ""}


@pytest.mark.parametrize("step", ["fsync", "replace", "close"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_fails_late_keeps_the_parts_and_leaves_nothing_half(
    step: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Store(tmp_path)
    folder.open("probe", {}, [])

    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    class Closing(Full):
        def __exit__(self, *error: object) -> None:
            self.handle.close()
            fail()

    if step == "close":
        monkeypatch.setattr(files, "open", lambda path, mode: Closing(open(path, mode), 1 << 30), raising=False)  # noqa: SIM115
    else:
        monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(StorageError) as caught:
        folder.write(Shard(), 0, [{"sample_id": "a", "error": None}], SMALL)
    assert caught.value.exit_code == Exit.BUG and os.strerror(number) in str(caught.value)
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_run_on_a_full_disk_ends_in_one_sentence_and_completes_with_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: pl.DataFrame
) -> None:
    rows, left = benchmark(), 3
    monkeypatch.setattr(runner, "PART_SAMPLES", 6)
    genuine = store.save

    def scarce(path: Path, data: bytes, **settings: Any) -> None:
        nonlocal left
        left -= path.suffix == ".parquet"
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(path, data, **settings)

    monkeypatch.setattr(store, "save", scarce)
    with pytest.raises(StorageError, match="No space left on device"):
        runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
    assert len(list((tmp_path / "parts").iterdir())) == 3
    monkeypatch.setattr(store, "save", genuine)
    assert runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard()).exit == 3  # type: ignore[arg-type]
    assert table(tmp_path).equals(whole)


def test_a_disk_too_small_for_the_rows_to_come_is_refused_before_the_run(tmp_path: Path) -> None:
    folder = Store(tmp_path)
    folder.require_space(1000)
    with pytest.raises(StorageError, match="the rows to come take about 1,000,000,000"):
        folder.require_space(10**18)


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk needs root")
def test_a_real_two_megabyte_disk_fills_up_and_every_part_on_it_opens(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine allows no mounts")
    try:
        folder = Store(tmp_path / "run")
        folder.open("probe", {}, [])
        schema = pa.schema([*SMALL, ("noise", pa.binary())])
        with pytest.raises(StorageError, match="No space left"):
            for n in range(100):
                folder.write(Shard(), n, [{"sample_id": str(n), "error": None, "noise": os.urandom(100_000)}], schema)
        parts, bad = folder.parts()
        assert len(parts) > 10 and not bad
        assert set(folder.finished(("",), {str(n) for n in range(100)})) == {str(n) for n in range(len(parts))}
        assert not list((tmp_path / "run").rglob("*.tmp"))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# ---- rot ---------------------------------------------------------------------------------------------------------


def damage(data: bytes, how: str) -> bytes:
    if how == "bit":  # inside the values of a column that no resume needs; the footer does not notice
        at = store.pq.read_metadata(io.BytesIO(data)).row_group(0).column(6).data_page_offset + 30
        return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
    return {
        "one byte short": data[:-1],
        "half": data[: len(data) // 2],
        "zeros": bytes(len(data)),
        "empty": b"",
        "text": b"not a part at all",
    }[how]


@pytest.mark.parametrize("how", ["one byte short", "half", "zeros", "empty", "text", "bit"])
def test_a_damaged_part_is_set_aside_named_and_computed_again(how: str, tmp_path: Path, whole: pl.DataFrame) -> None:
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    part = sorted((tmp_path / "run" / "parts").iterdir())[1]
    part.write_bytes(damage(part.read_bytes(), how))
    said: list[str] = []
    rows = benchmark()
    outcome = runner.run(Answers(), Toy(), rows, Store(tmp_path / "run"), shard=Shard(), say=said.append)  # type: ignore[arg-type]
    assert len(said) == 1 and part.name in said[0] and "set aside" in said[0]
    assert outcome.done > 0 and outcome.done + outcome.skipped == len(ids(rows))
    assert part.with_name(part.name + ".bad").exists()
    assert table(tmp_path / "run").equals(whole)


def test_a_flipped_bit_anywhere_in_a_part_is_noticed(tmp_path: Path) -> None:
    folder = Store(tmp_path)
    folder.open("probe", {}, [])
    schema = pa.schema([*SMALL, ("numbers", pa.list_(pa.float32()))])
    folder.write(Shard(), 0, [{"sample_id": "a", "error": None, "numbers": [float(n) for n in range(64)]}], schema)
    (path,) = (tmp_path / "parts").iterdir()
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(DamagedPart):
            check_digest(path)
    path.write_bytes(data)
    check_digest(path)
    first = data.index(b"PAR1") + 40  # inside the pages, which a reader of some columns checks by itself
    path.write_bytes(data[:first] + bytes([data[first] ^ 4]) + data[first + 1 :])
    with pytest.raises(DamagedPart):
        read_part(path)


def test_a_broken_disk_is_no_damaged_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Store(tmp_path)
    folder.open("probe", {}, [])
    folder.write(Shard(), 0, [{"sample_id": "a", "error": None}], SMALL)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store.pq, "ParquetFile", fail)
    with pytest.raises(StorageError, match="Check the disk"):
        folder.finished(("",), {"a"})
    assert [p.suffix for p in (tmp_path / "parts").iterdir()] == [".parquet"], "nothing is set aside on a hiccup"


def test_a_rerun_still_reports_the_failures_of_the_first(tmp_path: Path) -> None:
    rows = benchmark()
    for _ in range(2):
        outcome = runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
        assert dict(outcome.failed) == {"malformed_row": 2} and outcome.exit == Exit.SOME_FAILED


def test_every_row_ends_as_a_result_or_a_failure_with_a_reason(whole: pl.DataFrame) -> None:
    failed = whole.filter(pl.col("error").is_not_null())
    assert set(failed["sample_id"]) == {"bad0", "bad1"} and failed["answer"].null_count() == failed.height
    assert whole.filter(pl.col("error").is_null())["answer"].null_count() == 0


# ---- samples that kill -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 5])
def test_a_sample_that_kills_its_process_twice_is_failed_and_the_rest_completes(
    batch: int, tmp_path: Path, whole: pl.DataFrame
) -> None:
    settings: dict[str, Any] = {"deadly": ("i5-q1",), "part": 4, "batch": batch}
    assert run(tmp_path / "run", **settings) == 9
    assert run(tmp_path / "run", **settings) == 9
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    rows = table(tmp_path / "run")
    lost = rows.filter(pl.col("error").is_not_null() & ~pl.col("sample_id").str.starts_with("bad"))
    assert lost["sample_id"].unique().to_list() == ["i5-q1"]
    assert set(lost["error"]) == {"kills_process: exit 9"}
    kept = pl.col("sample_id") != "i5-q1"
    assert rows.filter(kept).equals(whole.filter(kept)), "its neighbours on the same image have their rows"
    assert run(tmp_path / "run", **settings) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(rows)
    assert not list((tmp_path / "run" / "open").iterdir())


@pytest.mark.parametrize("batch", [1, 5])
def test_two_chance_kills_on_some_images_fail_nothing(batch: int, tmp_path: Path, whole: pl.DataFrame) -> None:
    names = [key(f"i{i}") for i in range(batch)]
    for _ in range(2):
        assert run(tmp_path / "run", point="run", n=1, batch=batch) == -signal.SIGKILL
    assert set(names) <= set(trial.suspects(Store(tmp_path / "run"), set(names))), "each image of the batch is noted"
    assert run(tmp_path / "run", batch=batch) == Exit.SOME_FAILED
    assert table(tmp_path / "run").equals(whole)


def test_a_process_at_work_is_told_from_a_dead_one() -> None:
    assert process.alive(process.me()) and not process.gone(process.me())
    host, number, born = process.split(process.me())
    assert process.gone(f"{host}-{number}-{int(born) + 1}"), "same number, born later: another process"
    assert process.gone(f"{host}-999999999-1")
    assert not process.gone("elsewhere-1-1"), "of another host nothing is known"


# ---- memory ------------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_pass_remembers_it_and_fails_only_what_never_fits(tmp_path: Path) -> None:
    rows = benchmark(images=6, per=8, rejected=0)
    huge = "i5-q3"
    task = Answers(most=2, huge=[huge])
    outcome = runner.run(task, Toy(), rows, opened(tmp_path / "a", rows), shard=Shard())  # type: ignore[arg-type]
    assert dict(outcome.failed) == {"out_of_memory": 1}
    small = runner.run(Answers(), Toy(), rows, opened(tmp_path / "b", rows), shard=Shard(), batch=2)  # type: ignore[arg-type]
    assert small.exit == Exit.DONE
    there, reference = (table(tmp_path / name).filter(pl.col("sample_id") != huge) for name in "ab")
    assert there.equals(reference)
    limits = [limit for names, limit in task.calls if names[0].startswith(("i2", "i3", "i4"))]
    first = next(i for i, limit in enumerate(limits) if limit == 2)
    assert None not in limits[first:] and max(limits[first:]) == 2, "the size that worked is kept"
    assert outcome.limits.questions[4] <= 2


def test_out_of_memory_is_tried_again_only_after_the_failed_pass_is_let_go() -> None:
    class Big(Answers):
        held: "weakref.ref[Any] | None" = None
        was_free: list[bool] = []  # noqa: RUF012

        def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
            if self.held is not None:
                gc.disable()
                self.was_free.append(self.held() is None)
                return super().run(groups, max_questions)
            tensor = torch.zeros(10)
            self.held = weakref.ref(tensor)
            raise torch.OutOfMemoryError(f"no room beside {tensor.shape}")

    rows = benchmark(images=1, per=8, rejected=0)
    group = ImageGroup(tuple(rows.samples) * 2, (), ())
    task = Big()
    try:
        attempt(task, [group], None, Limits())
    finally:
        gc.enable()
    assert task.was_free == [True]


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_way_a_device_says_that_memory_ran_out_is_taken_for_it(said: str) -> None:
    class Full(Answers):
        def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
            raise RuntimeError(said)

    rows = benchmark(images=1, per=1)
    group = ImageGroup(tuple(rows.samples), (), ())
    assert [row["error"].split(":")[0] for row in attempt(Full(), [group], None, Limits())] == ["out_of_memory"] * 2


def test_any_other_error_of_the_device_is_not_taken_for_memory() -> None:
    class Broken(Answers):
        def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
            raise RuntimeError("CUDA error: device-side assert triggered")

    group = ImageGroup(tuple(benchmark(images=1).samples), (), ())
    with pytest.raises(RuntimeError, match="device-side assert"):
        attempt(Broken(), [group], None, Limits())


def test_an_image_that_cannot_be_prepared_costs_its_own_samples(tmp_path: Path) -> None:
    class Picky(Toy):
        def prepare(self, image: Any) -> Any:
            raise SampleError("grid_mismatch", "12 tokens for a grid of 16")

    rows = benchmark(images=2, per=1, rejected=0)
    outcome = runner.run(Answers(), Picky(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
    assert dict(outcome.failed) == {"grid_mismatch": len(rows.samples)} and not list((tmp_path / "open").iterdir())


# ---- parts -------------------------------------------------------------------------------------------------------


def test_a_part_is_written_after_64_samples_or_60_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (runner.PART_SAMPLES, runner.PART_SECONDS) == (64, 60.0)
    rows = benchmark(images=100, per=2, rejected=0)
    runner.run(Answers(), Toy(), rows, opened(tmp_path / "a", rows), shard=Shard())  # type: ignore[arg-type]
    sizes = [read_part(p)["sample_id"].n_unique() for p in sorted((tmp_path / "a" / "parts").iterdir())]
    assert all(64 <= size <= 65 for size in sizes[:-1]) and sum(sizes) == len(rows.samples)
    monkeypatch.setattr(runner, "PART_SECONDS", 0.0)
    runner.run(Answers(), Toy(), rows, opened(tmp_path / "b", rows), shard=Shard())  # type: ignore[arg-type]
    assert len(list((tmp_path / "b" / "parts").iterdir())) == 100


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "null", '{"kind": "probe"}', '{"kind": 1, "identity": []}', "[" * 100_000]
)
def test_a_damaged_run_json_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(VgError, match="damaged"):
        Store(tmp_path).read()


def test_the_run_folder_names_no_absolute_path_and_keeps_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        rows = benchmark()
        runner.run(Answers(), Toy(), rows, opened(tmp_path / "run", rows), shard=Shard())  # type: ignore[arg-type]
    finally:
        os.umask(old)
    for path in (tmp_path / "run").rglob("*"):
        assert path.stat().st_mode & 0o027 == 0, path
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["identity"] == {"rows": rows.rows}


def test_a_done_mark_is_taken_back_while_its_shard_has_work_again(tmp_path: Path, whole: pl.DataFrame) -> None:
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    mark = tmp_path / "run" / "done" / "1of1"
    part = min((tmp_path / "run" / "parts").iterdir())
    part.write_bytes(b"")
    assert mark.exists() and run(tmp_path / "run", point="run") == -signal.SIGKILL
    assert not mark.exists()
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    assert mark.exists() and table(tmp_path / "run").equals(whole)


# ---- what comes in, and what a reader sees -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "edges,tokens",
    [
        ((0, 0, 10, 10), [0]),
        ((0, 0, 10.1, 10), [0, 1]),
        ((9.9, 9.9, 10.1, 10.1), [0, 1, 6, 7]),
        ((12, 3, 13, 4), [1]),  # smaller than a token: the token it lies in
        ((-5, -5, 5, 5), [0]),
        ((55, 35, 90, 90), [23]),
        ((0, 0, 60, 40), list(range(24))),
        ((20, 10, 40, 20), [8, 9]),
        ((30, 30, 30.5, 40), [21]),
        ((60, 0, 70, 10), []),
        ((-10, -10, 0, 0), []),
        ((0, 39.5, 60, 40), [18, 19, 20, 21, 22, 23]),
    ],
)
def test_twelve_boxes_on_a_grid_of_four_by_six_worked_by_hand(edges: tuple[float, ...], tokens: list[int]) -> None:
    geometry = Geometry.squash(60, 40, 60, 40, Grid(4, 6))
    assert geometry.region([Box(*edges)]) == tokens


@pytest.mark.parametrize(
    "edges", [(5, 5, 5, 9), (9, 5, 5, 9), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1), (0, 5, 5, 1)]
)
def test_a_box_that_is_inverted_empty_or_not_finite_is_no_box(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"no area|not finite"):
        Box(*edges)


@pytest.mark.parametrize(
    "text,said",
    [
        ("a: !!python/object/apply:os.system [echo]", r"models.yaml:1: not usable as YAML"),
        ("a:\n  title: x\n  title: y\n", r"models.yaml:3: .*key 'title' appears twice"),
        ("a:\n  title: x\n  adaptr: llava\n", r"models.yaml:3: .*Did you mean 'adapter'"),
        ("a: &x [1]\nb: [*x, *x]\n", r"models.yaml:2: .*aliases are not allowed"),
        ('a:\n  title: x\n  adapter: llava\n  layers: "16"\n', r"models.yaml:4: .*'layers' is '16'"),
        ("no:\n  title: x\n", r"models.yaml:1: .*is not text; quote it"),
        ("a: [" * 50_000, r"models.yaml"),
        ("a" * 1_000_001, r"larger than 1,000,000 bytes"),
    ],
)
def test_bad_yaml_is_one_sentence_with_file_and_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(VgError, match=said):
        read_entries(path, ModelSpec)


@pytest.mark.parametrize(
    "payload", ["\x1b]52;c;ZXZpbA==\x07", "\x1b[8mhidden", "\x9b31m", "a\u202eb", "[red]x[/red]\r"]
)
def test_no_control_character_of_data_reaches_the_terminal(payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=shown, force_terminal=True, width=200))
    console.say(f"answer {payload}")
    assert not set(shown.getvalue()) & {"\x1b", "\x9b", "\u202e", "\x07", "\r"}
    assert "[red]" in shown.getvalue() or "[red]" not in payload, "markup in data is text"


def test_attention_that_is_not_finite_is_null_with_its_layer_named_and_the_other_layers_count() -> None:
    probe = Probe.__new__(Probe)
    probe.maps, probe.adapter = "none", SimpleNamespace(without=())  # type: ignore[assignment]
    maps = np.random.default_rng(0).uniform(0.1, 1, (3, 2, 4))
    broken, masked = maps.copy(), maps.copy()
    broken[1, 0, 2] = np.nan
    masked[2] = 0.0  # a row that may attend to no image token
    whole, row, found = probe._measured(np.stack([maps, broken, masked]), np.ones((3, 3, 2, 4)), [[0]] * 3)
    assert row["warning"] == "not_finite: layers 1" and "warning" not in whole
    for name in ("layer_ratio", "layer_kl", "layer_js"):
        assert row[name][1] is None and row[name][0] == whole[name][0] and row[name][2] == whole[name][2]
    assert found["layer_kl"][2] is None and found["layer_kl"][:2] == whole["layer_kl"][:2]


def test_a_lost_attention_mask_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AttentionMaskInterface

    from vgtool.attention import engine

    tiny_llava(tmp_path / "tiny")
    spec, source = resolve(str(tmp_path / "tiny"))
    adapter = load(spec, source=source, device="cpu")
    engine.attach(adapter.model, adapter.text)
    monkeypatch.setattr(AttentionMaskInterface, "_global_mapping", dict(AttentionMaskInterface._global_mapping))
    del AttentionMaskInterface._global_mapping[engine.NAME]
    with pytest.raises(VgError, match="The attention mask is lost"):
        engine.attach(adapter.model, adapter.text)


def test_the_same_run_twice_gives_the_same_columns_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        command = [sys.executable, "-m", "vgtool", "probe", "--model", "phantom-vlm", "--benchmark", "scenes"]
        command += ["--limit", "20", "--out", str(tmp_path / name)]
        assert subprocess.run(command, capture_output=True).returncode == 0
    one, other = ([p.read_bytes() for p in sorted((tmp_path / name / "parts").iterdir())] for name in "ab")
    assert one == other
