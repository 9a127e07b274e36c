"""Run folders on disks that fill up or fail, parts that rot, and what a part is."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import Answers, Toy, benchmark, ids, opened, run, start, table
from forked import end, until

from vgtool.errors import Exit, StorageError, VgError
from vgtool.runs import parts, runner, store
from vgtool.runs import whole as files
from vgtool.runs.parts import DamagedPart, check_digest, read_part
from vgtool.runs.store import Shard, Store

SMALL = pa.schema([("sample_id", pa.string()), ("error", pa.string())])


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: pl.DataFrame
) -> None:
    rows, left = benchmark(), 3
    monkeypatch.setattr(runner, "PART_SAMPLES", 6)
    monkeypatch.setattr(runner, "PART_LEAST", 0.0)
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
    assert table(tmp_path).equals(undisturbed)


def test_a_disk_too_small_for_the_rows_to_come_is_refused_before_the_run(tmp_path: Path) -> None:
    folder = Store(tmp_path)
    folder.require_space(1000)
    with pytest.raises(StorageError, match="the rows to come take about 1,000,000,000"):
        folder.require_space(10**18)


class Disk:
    """A small file system of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.run = root, root / "run"

    def mount(self, options: str, *device: str) -> bool:
        command = ["mount", *(device or ("-t", "tmpfs")), "-o", options, *([] if device else ["tmpfs"]), self.root]
        return subprocess.run(command, capture_output=True).returncode == 0

    def remount(self, options: str) -> None:
        """Once nobody has a file of it open for writing, where that is asked."""
        until(lambda: self.mount(f"remount,{options}"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounting a small disk needs root")
    (tmp_path / "disk").mkdir()
    one = Disk(tmp_path / "disk")
    if not one.mount("size=512k"):
        pytest.skip("this machine allows no mounts")
    try:
        yield one
    finally:
        subprocess.run(["umount", one.root], check=True)


def whole_parts(run: Path) -> bool:
    """Whether everything in a run folder opens, with nothing half beside it."""
    good, bad = Store(run).parts()
    return bool(good) and not bad and not [path for path in run.rglob("*") if path.name.endswith((".tmp", ".bad"))]


LONG: dict[str, Any] = {"images": 300, "part": 2}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The table that the runs below must come to."""
    root = tmp_path_factory.mktemp("long") / "run"
    assert run(root, **LONG) == Exit.SOME_FAILED
    return table(root)


def test_a_real_disk_that_fills_up_ends_the_run_in_a_sentence_and_it_goes_on_with_room(
    disk: Disk, tmp_path: Path, long: pl.DataFrame
) -> None:
    said = tmp_path / "said"
    assert run(disk.run, said=said, **LONG) == Exit.BUG
    assert "No space left on device. What is written stays; make room" in said.read_text()
    assert whole_parts(disk.run)
    disk.remount("size=64m")
    assert run(disk.run, **LONG) == Exit.SOME_FAILED and table(disk.run).equals(long)


def test_a_disk_that_turns_read_only_ends_the_run_in_a_sentence_and_it_goes_on_when_it_is_not(
    disk: Disk, tmp_path: Path, long: pl.DataFrame
) -> None:
    disk.remount("size=64m")
    said = tmp_path / "said"
    child = start(disk.run, said=said, nap=0.02, **LONG)
    until(lambda: len(list((disk.run / "parts").glob("*.parquet"))) > 3, child)
    disk.remount("ro")
    assert end(child) == Exit.BUG and "Read-only file system. What is written stays" in said.read_text()
    assert run(disk.run, said=said, **LONG) == Exit.BUG and "Read-only file system" in said.read_text()
    disk.remount("rw")
    assert whole_parts(disk.run)
    assert run(disk.run, **LONG) == Exit.SOME_FAILED and table(disk.run).equals(long)


def test_a_folder_that_is_deleted_under_a_run_ends_it_in_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, long: pl.DataFrame
) -> None:
    root, kept, said = tmp_path / "run", tmp_path / "kept", tmp_path / "said"
    child = start(root, said=said, nap=0.02, **LONG)
    until(lambda: len(list((root / "parts").glob("*.parquet"))) > 3, child)
    root.rename(kept)
    assert end(child) == Exit.BUG and "No such file or directory" in said.read_text()
    assert files.GONE in said.read_text() and "stays" not in said.read_text()
    assert whole_parts(kept) and not root.exists(), "nothing is made again where it was"
    kept.rename(root)
    assert run(root, **LONG) == Exit.SOME_FAILED and table(root).equals(long)
    shutil.rmtree(root)
    assert run(root, **LONG) == Exit.SOME_FAILED and table(root).equals(long)


def test_a_real_small_disk_fills_up_and_every_part_on_it_opens(disk: Disk) -> None:
    folder = Store(disk.run)
    folder.open("probe", {}, [])
    schema = pa.schema([*SMALL, ("noise", pa.binary())])
    with pytest.raises(StorageError, match="No space left"):
        for n in range(100):
            folder.write(Shard(), n, [{"sample_id": str(n), "error": None, "noise": os.urandom(25_000)}], schema)
    good, bad = folder.parts()
    assert len(good) > 10 and not bad
    assert set(folder.finished(("",), {str(n) for n in range(100)})) == {str(n) for n in range(len(good))}
    assert whole_parts(disk.run)


# ---- rot ---------------------------------------------------------------------------------------------------------


def damage(data: bytes, how: str) -> bytes:
    if how == "bit":  # inside the values of a column that no resume needs; the footer does not notice
        at = pq.read_metadata(io.BytesIO(data)).row_group(0).column(6).data_page_offset + 30
        return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]
    return {
        "one byte short": data[:-1],
        "half": data[: len(data) // 2],
        "zeros": bytes(len(data)),
        "empty": b"",
        "text": b"not a part at all",
    }[how]


@pytest.mark.parametrize("how", ["one byte short", "half", "zeros", "empty", "text", "bit"])
def test_a_damaged_part_is_set_aside_named_and_computed_again(
    how: str, tmp_path: Path, undisturbed: pl.DataFrame
) -> None:
    assert run(tmp_path / "run") == Exit.SOME_FAILED
    part = sorted((tmp_path / "run" / "parts").iterdir())[1]
    part.write_bytes(damage(part.read_bytes(), how))
    said: list[str] = []
    rows = benchmark()
    outcome = runner.run(Answers(), Toy(), rows, Store(tmp_path / "run"), shard=Shard(), say=said.append)  # type: ignore[arg-type]
    assert len(said) == 1 and part.name in said[0] and "set aside" in said[0]
    assert outcome.done > 0 and outcome.done + outcome.skipped == len(ids(rows))
    assert part.with_name(part.name + ".bad").exists()
    assert table(tmp_path / "run").equals(undisturbed)


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

    monkeypatch.setattr(parts.pq, "ParquetFile", fail)
    with pytest.raises(StorageError, match="Check the disk"):
        folder.finished(("",), {"a"})
    assert [p.suffix for p in (tmp_path / "parts").iterdir()] == [".parquet"], "nothing is set aside on a hiccup"


def test_what_this_user_may_not_open_is_neither_damaged_nor_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Store(tmp_path)
    folder.open("probe", {}, [])
    folder.write(Shard(), 0, [{"sample_id": "a", "error": None}], SMALL)

    def refused(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied. Detail: of Arrow")

    monkeypatch.setattr(parts.pq, "read_metadata", refused)
    with pytest.raises(StorageError, match=r"Cannot read '.*\.parquet': Permission denied\. Check"):
        folder.frames(["sample_id"])
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(VgError, match=r"Cannot read '.*run\.json': Permission denied"):
        folder.read()


# ---- parts -------------------------------------------------------------------------------------------------------


def test_a_part_is_written_after_64_samples_and_a_second_or_60_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (runner.PART_SAMPLES, runner.PART_LEAST, runner.PART_SECONDS) == (64, 1.0, 60.0)
    rows = benchmark(images=100, per=2, rejected=0)
    monkeypatch.setattr(runner, "PART_LEAST", 900.0)
    runner.run(Answers(), Toy(), rows, opened(tmp_path / "c", rows), shard=Shard())  # type: ignore[arg-type]
    assert len(list((tmp_path / "c" / "parts").iterdir())) == 1
    monkeypatch.setattr(runner, "PART_LEAST", 0.0)
    runner.run(Answers(), Toy(), rows, opened(tmp_path / "a", rows), shard=Shard())  # type: ignore[arg-type]
    sizes = [read_part(p)["sample_id"].n_unique() for p in sorted((tmp_path / "a" / "parts").iterdir())]
    assert all(64 <= size <= 65 for size in sizes[:-1]) and sum(sizes) == len(rows.samples)
    monkeypatch.setattr(runner, "PART_SECONDS", 0.0)
    monkeypatch.setattr(runner, "compact", lambda *given: 0)
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
