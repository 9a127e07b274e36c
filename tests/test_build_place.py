"""The folder a benchmark is built in: whole or made anew by the same command, and nothing of anyone else's lost."""

import os
import signal
from pathlib import Path

import pytest
from forked import end, start, until, vgtool
from masked import made, samed2d

from vgtool.build import make
from vgtool.errors import VgError

WAITS = """import time
from pathlib import Path
from vgtool.build import make
def late(*given):
    Path("measured").touch()
    time.sleep(3600)
make.write = late"""
"""A build that waits when its pictures and masks are there, and no row is."""


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_killed_is_made_anew_by_the_same_command(number: signal.Signals, tmp_path: Path) -> None:
    words = ("build", "--masks", samed2d(tmp_path / "in", 3), "--out", tmp_path / "out")
    child = start(*words, cwd=tmp_path, pretend=WAITS)
    until((tmp_path / "measured").exists, child)
    beside = vgtool(*words)
    os.kill(child.pid or 0, number)
    end(child)
    assert beside.returncode == 2 and "is being built by another process" in beside.stderr
    assert (tmp_path / "out").exists() == (number != signal.SIGINT), "Ctrl-C leaves nothing"
    assert vgtool(*words).returncode in (0, 3)
    undisturbed = vgtool(*words[:-1], tmp_path / "elsewhere" / "out")
    assert undisturbed.returncode in (0, 3) and contents(tmp_path / "out") == contents(tmp_path / "elsewhere" / "out")


def test_what_a_killed_build_left_is_kept_where_anything_else_lies_in_it(tmp_path: Path) -> None:
    root, out = samed2d(tmp_path / "in", 2), tmp_path / "out"
    out.mkdir()
    for name in (".unfinished", "mine.txt"):
        (out / name).write_text("")
    with pytest.raises(VgError, match="not an empty folder"):
        made(root, out)
    assert (out / "mine.txt").exists()
    (out / "mine.txt").unlink()
    made(root, out)
    assert (out / "test.jsonl").exists() and not (out / ".unfinished").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_build_that_fails_leaves_its_place_as_it_was(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    root, out = samed2d(tmp_path / "in", 2), tmp_path / "new" / "out"
    if there:
        out.mkdir(parents=True)
    monkeypatch.setattr(make, "write", full)
    with pytest.raises(VgError, match=r"Cannot write in '.*': No space left"):
        made(root, out)
    assert out.exists() == there and not contents(tmp_path / "new")
