"""The folder a report is put in: whole or absent, nothing else in it lost."""

import os
import signal
from pathlib import Path

import pytest
from forked import end, start, until, vgtool
from reports import build, own_benchmark, pair, plain, small_pack

from vgtool.errors import VgError
from vgtool.reporting import page
from vgtool.reporting.album import Pictures


@pytest.mark.parametrize("name", ["index.html", "mine.pdf", "data/mine.js", "run.json"])
def test_a_folder_that_holds_anything_else_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("<p>mine")
    (out / "layers.pdf").write_text("of an older report")
    with pytest.raises(VgError, match=f"'{out / Path(name).parts[0]}' is no part of a report"):
        plain(pair(tmp_path, 2), out)
    assert contents(out) == {Path(name): b"<p>mine", Path("layers.pdf"): b"of an older report"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "p", "r"}


def test_a_file_that_comes_while_the_report_is_made_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, (run, _) = tmp_path / "out", pair(tmp_path, 2)
    out.mkdir()
    monkeypatch.setattr(page, "draw", lambda *_: (out / "mine.txt").write_text("mine") and [])
    with pytest.raises(VgError, match=r"mine\.txt"):
        build([run], out)
    assert contents(out) == {Path("mine.txt"): b"mine"}


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run, _) = pair(tmp_path / "runs", 2)
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for out in (".", ".."):
        with pytest.raises(VgError, match=r"you are inside it.*--out .*report"):
            plain([run], Path(out))
    assert Path.cwd() == tmp_path / "here" / "below"


def test_a_report_keeps_its_folders_mode_and_a_link_to_it(tmp_path: Path) -> None:
    (run, _) = pair(tmp_path, 2)
    (tmp_path / "kept").mkdir(mode=0o750)
    (tmp_path / "out").symlink_to("kept")
    plain([run], tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "kept").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "kept" / "index.html").is_file()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_mistake_leaves_the_older_report_as_it_was_and_makes_nothing_new(tmp_path: Path) -> None:
    place = tmp_path / "place"
    plain(pair(tmp_path, 2), place / "out")
    before = contents(place)
    mistaken = tmp_path / "p.csv"
    mistaken.write_text("id,question_type,question,answer,reference\na,closed,q?,yes,yes\n")
    for out in (place / "out", place / "new" / "out"):
        done = vgtool("report", mistaken, "--images", "--out", out, cwd=tmp_path)
        assert done.returncode == 2 and "names no images" in done.stderr
    assert contents(place) == before and [path.name for path in place.iterdir()] == ["out"]


DRAWN = """import time
from pathlib import Path
from vgtool.reporting import page
def drawn(*given):
    Path("drawn").touch()
    time.sleep(3600)
page._page, page.drawings = drawn, lambda *given: iter(())"""
"""A report that waits when all its figures, here those of the examples alone, are drawn."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_report_that_is_killed_changes_nothing_and_leaves_no_picture_to_the_next(
    number: signal.Signals, tmp_path: Path
) -> None:
    data = own_benchmark(tmp_path / "data", 4)
    (run, _) = pair(tmp_path, 4, benchmark=str(data), split="all")
    place = tmp_path / "place"
    out = place / "out"
    plain([run], out)
    before = contents(place)
    child = start("report", run, "--images", "--out", out, cwd=tmp_path, pretend=DRAWN)
    until((tmp_path / "drawn").exists, child)
    assert len(list(place.rglob("examples-1.*"))) == 3
    os.kill(child.pid or 0, number)
    assert end(child) == (-number if number == signal.SIGKILL else 128 + number)
    assert {name: data for name, data in contents(place).items() if name.parts[0] == "out"} == before
    assert bool(list(place.rglob("examples*"))) == (number == signal.SIGKILL)
    plain([run], out)
    assert contents(place) == before and [path.name for path in place.iterdir()] == ["out"]


def test_pictures_that_a_killed_report_left_in_the_folder_itself_go(tmp_path: Path) -> None:
    out, (run, _) = tmp_path / "out", pair(tmp_path, 2)
    out.mkdir()
    (out / "examples-0.png").write_bytes(b"\x89PNG cut")
    plain([run], out)
    assert not list(out.glob("examples*"))


def test_a_kill_between_the_renames_loses_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, (run, _) = tmp_path / "place", pair(tmp_path, 2)
    out = place / "out"
    plain([run], out)
    before, rename = contents(place), Path.rename

    def killed(self: Path, to: Path) -> Path:
        if to == out and not self.name.endswith("-old"):
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        plain([run], out)
    assert contents(place) == before
    monkeypatch.undo()
    out.rename(place / ".out.vgtool-01234567-old")  # no time even to put it back
    (tmp_path / "p.csv").write_text("id,question_type,question,answer,reference\na,closed,q?,yes,yes\n")
    with pytest.raises(VgError, match="names no images"):
        plain([tmp_path / "p.csv"], out, pictures=Pictures())
    assert contents(place) == before


def test_a_smaller_report_leaves_nothing_of_the_old_one_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pack(monkeypatch)
    out = tmp_path / "out"
    build(pair(tmp_path), out)
    assert (out / "data" / "chunk-00000.js").exists() and (out / "gain-2-1.svg").exists()
    monkeypatch.undo()
    plain([tmp_path / "p"], out)
    assert not (out / "data").exists() and not (out / "gain-2-1.svg").exists() and (out / "index.html").exists()
