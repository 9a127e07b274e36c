"""Small parts are merged when a shard is done: no row is lost or doubled, whatever happens meanwhile."""

import errno
import os
import random
import signal
from pathlib import Path
from typing import Any

import faults
import polars as pl
import pyarrow.parquet as pq
import pytest
from faults import Answers, Toy, benchmark, ids, opened, row, table
from forked import SERVER, end

from vgtool.api import sample
from vgtool.errors import Exit
from vgtool.runs import compact as compaction
from vgtool.runs import parts as files
from vgtool.runs import runner, store
from vgtool.runs.compact import compact
from vgtool.runs.shard import Shard
from vgtool.runs.store import Store

SAMPLES = benchmark(images=40, per=2, rejected=0).samples


def written(root: Path, *, shard: Shard = Shard(), each: int = 2, start: int = 0) -> Store:  # noqa: B008
    """A run folder with parts of `each` samples, in the order of a shuffled benchmark."""
    folder = opened(root, benchmark(images=40, per=2, rejected=0))
    some = random.Random(0).sample(SAMPLES, len(SAMPLES))[start:]
    for number, at in enumerate(range(0, len(some), each)):
        rows = [row(sample, method) for sample in some[at : at + each] for method in faults.METHODS]
        folder.write(shard, number, rows, Answers.schema)
    return folder


def read(folder: Store) -> pl.DataFrame:
    """Every row as readers see it; one that is there twice is seen twice."""
    return pl.concat(folder.frames()[0]).sort("sample_id", "method")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "parts").glob("*.parquet"))


def test_merged_parts_hold_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    folder = written(tmp_path)
    before = pl.concat(folder.frames()[0])
    count = len(names(tmp_path))
    assert count > 16 and compact(tmp_path, Shard()) == count
    (one,) = (tmp_path / "parts").iterdir()
    assert pl.read_parquet(one).equals(before) and one.name.startswith("1of1-00000-")
    files.check_digest(one)
    assert compact(tmp_path, Shard()) == 0 and names(tmp_path) == [one.name]
    assert set(folder.finished(faults.METHODS, {sample.id for sample in SAMPLES})) == {s.id for s in SAMPLES}


def test_other_shards_large_parts_and_a_few_small_ones_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, shard=Shard(2, 3))
    written(tmp_path, shard=Shard(1, 3), each=8, start=1)
    there = {path: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert compact(tmp_path, Shard(1, 3)) == 0, "fewer than 16"
    assert compact(tmp_path, Shard(1, 1)) == 0
    monkeypatch.setattr(compaction, "SMALL", 10)
    assert compact(tmp_path, Shard(2, 3)) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "parts").iterdir()} == there


def test_a_merged_part_holds_no_more_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path)
    before, small = read(folder), names(tmp_path)
    table = pq.read_table(tmp_path / "parts" / small[0])
    monkeypatch.setattr(compaction, "LARGE", 5 * table.nbytes)
    assert compact(tmp_path, Shard()) >= len(small) - 1
    sizes = [pq.read_metadata(path).num_rows for path in (tmp_path / "parts").iterdir()]
    assert 5 < len(sizes) < len(small) / 2 and max(sizes) <= 6 * table.num_rows
    assert read(folder).equals(before)


def _killed(root: Path, point: str, n: int) -> None:
    at, unlink = faults.Killer(point, n), Path.unlink

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".parquet":
            at("unlink")
        unlink(self, missing_ok)

    faults.seams(at)
    Path.unlink = unlinked  # type: ignore[method-assign]
    compact(root, Shard())


@pytest.mark.parametrize(
    "point,n", [(p, 1) for p in ("open", "half", "fsync", "replace", "replaced", "unlink")] + [("unlink", 9)]
)
def test_a_kill_at_any_point_of_a_compaction_loses_no_row_and_doubles_none(point: str, n: int, tmp_path: Path) -> None:
    folder = written(tmp_path)
    before = read(folder)
    child = SERVER.Process(target=_killed, args=(tmp_path, point, n))
    child.start()
    assert end(child) == -signal.SIGKILL
    assert read(folder).equals(before), "as readers see it at once"
    compact(tmp_path, Shard())
    assert len(names(tmp_path)) == 1 and table(tmp_path).equals(before), "and as it lies there after the next"


def test_a_run_that_is_killed_in_its_compaction_is_done_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PART_SAMPLES", 2)
    monkeypatch.setattr(runner, "PART_LEAST", 0.0)
    rows = benchmark(images=40)

    def interrupted(*given: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner, "compact", interrupted)
        with pytest.raises(KeyboardInterrupt):
            runner.run(Answers(), Toy(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
    folder, task = opened(tmp_path, rows), Answers()
    small = names(tmp_path)
    assert len(small) > 16 and not folder.marked(Shard())
    assert runner.run(task, Toy(), rows, folder, shard=Shard()).exit == Exit.SOME_FAILED  # type: ignore[arg-type]
    assert task.calls == [] and folder.marked(Shard()) and len(names(tmp_path)) == 1
    assert set(table(tmp_path)["sample_id"]) == ids(rows)


def test_a_long_run_merges_its_parts_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PART_SAMPLES", 1)
    monkeypatch.setattr(runner, "PART_LEAST", 0.0)
    monkeypatch.setattr(runner, "PARTS", 20)
    rows, counts = benchmark(images=40, rejected=0), list[int]()

    class Counting(Answers):
        def run(self, groups: Any, max_questions: int | None) -> Any:
            counts.append(len(names(tmp_path)))
            return super().run(groups, max_questions)

    assert runner.run(Counting(), Toy(), rows, opened(tmp_path, rows), shard=Shard()).exit == Exit.DONE  # type: ignore[arg-type]
    assert max(counts) < 30 and set(table(tmp_path)["sample_id"]) == ids(rows)


def test_a_disk_without_room_for_a_merged_part_keeps_the_small_ones_and_the_run_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, said = benchmark(images=40, rejected=0), list[str]()
    monkeypatch.setattr(runner, "PART_SAMPLES", 2)
    monkeypatch.setattr(runner, "PART_LEAST", 0.0)

    def full(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(compaction, "save", full)
    folder = opened(tmp_path, rows)
    assert runner.run(Answers(), Toy(), rows, folder, shard=Shard(), say=said.append).exit == Exit.DONE  # type: ignore[arg-type]
    assert said == ["Small parts stay as they are (No space left on device): no row is missing."]
    assert folder.marked(Shard()) and len(names(tmp_path)) > 16
    assert set(table(tmp_path)["sample_id"]) == ids(rows)


def test_a_damaged_part_is_not_merged_and_one_that_lies_rotten_deletes_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path)
    small = [tmp_path / "parts" / name for name in names(tmp_path)]
    kept = {path: path.read_bytes() for path in small}
    small[3].write_bytes(kept[small[3]][:-1])
    assert compact(tmp_path, Shard()) == len(small) - 1
    (merged,) = [path for path in (tmp_path / "parts").iterdir() if path != small[3]]
    for path, data in kept.items():  # killed before anything was deleted, and then a bit of the merged part flipped
        path.write_bytes(data)
    whole = merged.read_bytes()
    merged.write_bytes(whole[:40] + bytes([whole[40] ^ 4]) + whole[41:])
    assert compact(tmp_path, Shard()) == len(small), "merged anew from the small ones"
    folder.held({sample.id for sample in SAMPLES})
    assert merged.with_name(f"{merged.name}.bad").exists()
    assert set(read(folder)["sample_id"]) == {sample.id for sample in SAMPLES}


def test_a_part_that_is_merged_while_it_is_read_is_read_in_its_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path)
    before, genuine = read(folder), store.read_part
    read_part = iter([True])

    def meanwhile(path: Path, columns: Any = None) -> pl.DataFrame:
        if next(read_part, False):
            compact(tmp_path, Shard())
        return genuine(path, columns)

    monkeypatch.setattr(store, "read_part", meanwhile)
    assert read(folder).equals(before)


def test_a_sample_whose_part_is_merged_while_it_is_looked_for_is_found_in_its_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(tmp_path)
    wanted, genuine, first = SAMPLES[0].id, sample.read_part, iter([True])

    def meanwhile(path: Path, columns: Any = None) -> pl.DataFrame:
        if next(first, False):
            compact(tmp_path, Shard())
        return genuine(path, columns)

    monkeypatch.setattr(sample, "read_part", meanwhile)
    rows = sample._rows_of(folder, wanted)
    assert [(row["sample_id"], row["method"]) for row in rows] == [(wanted, method) for method in faults.METHODS]


def test_a_part_that_is_merged_while_a_resume_looks_is_found_in_its_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, genuine, first = written(tmp_path), files.check_digest, iter([True])

    def meanwhile(path: Path) -> None:
        if next(first, False):
            compact(tmp_path, Shard())
        genuine(path)

    monkeypatch.setattr(files, "check_digest", meanwhile)
    said: list[str] = []
    assert len(folder.held({sample.id for sample in SAMPLES}, said.append)) == len(SAMPLES) and said == []
