"""Processes beside a large report's own: they change nothing of it, and end with it whatever happens."""

import base64
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pytest
from at_work import killed, noted, twofold, waiting
from forked import HANGS
from reports import build, identity, own_benchmark, pair, probed, schema

from vgtool.errors import VgError
from vgtool.records import View
from vgtool.reporting import page
from vgtool.reporting.album import Album, Pictures
from vgtool.reporting.figures.files import DATES
from vgtool.reporting.maps import heat
from vgtool.reporting.pack import Pack
from vgtool.reporting.workers import LEAST, MOST, Workers, processes
from vgtool.runs.compact import compact
from vgtool.runs.store import Shard, Store


def test_a_report_made_with_another_process_is_the_same_to_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = own_benchmark(tmp_path / "data", 40)
    (data.parent / "3.png").unlink()
    runs = pair(tmp_path, 40, benchmark=str(data), split="all")
    few = page.drawings  # one of a kind is enough
    monkeypatch.setattr(page, "drawings", lambda *given: islice(few(*given), 1))
    monkeypatch.setattr(page, "repairs", lambda *given: ())
    for count in (0, 1):
        monkeypatch.setattr(page, "processes", lambda samples, count=count: count)
        build(runs, tmp_path / str(count), DATES, pictures=Pictures())
    alone, helped = ({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
                     for root in (tmp_path / "0", tmp_path / "1"))  # fmt: skip
    assert alone.keys() == helped.keys() and [name for name in alone if alone[name] != helped[name]] == []


def test_small_reports_start_no_process_and_large_ones_leave_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 0), (2, 1), (4, 3), (64, MOST)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert processes(LEAST) == expected and processes(LEAST - 1) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_what_is_given_is_done_and_an_error_comes_back_as_itself(count: int) -> None:
    with Workers(count) as workers:
        done = [workers.submit(int, lambda text=text: (text,)) for text in ("1", "x", "3")]
        assert done[0].result() == 1 and done[2].result() == 3
        with pytest.raises(ValueError, match="'x'"):
            done[1].result()


def test_while_it_waits_a_report_does_what_no_process_has_begun_the_newest_first(tmp_path: Path) -> None:
    begin, here = tmp_path / "begin", os.getpid()
    os.mkfifo(begin)
    with Workers(1) as workers:
        first = workers.submit(waiting, lambda: (begin,))
        while not first.future.running():
            time.sleep(0.001)
        done = list[int]()
        later = [workers.submit(noted, lambda at=at: (done, at, begin if at == 1 else None)) for at in range(3)]
        assert first.result() != here, "begun by the process"
        assert done[:2] == [2, 1] and [one.result() for one in later[1:]] == [here, here]


def test_an_error_of_work_done_in_between_comes_where_it_is_asked_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with Workers(1) as workers:
        first = workers.submit(waiting, lambda: (pipe,))
        while not first.future.running():
            time.sleep(0.001)
        go, wrong = workers.submit(noted, lambda: ([], 0, pipe)), workers.submit(int, lambda: ("x",))
        assert isinstance(first.result(), int) and go.result() == os.getpid()
        with pytest.raises(ValueError, match="'x'"):
            wrong.result()


def test_where_no_process_may_start_the_report_does_its_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object, **named: object) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    with Workers(2) as workers:
        assert workers.count == 0 and workers.submit(int, lambda: ("7",)).result() == 7


def test_what_cannot_go_through_a_pipe_is_an_error_and_ends_no_process() -> None:
    with Workers(1) as workers:
        with pytest.raises(RuntimeError, match="pickle"):
            workers.submit(threading.Lock, tuple).future.result()
        assert workers.submit(int, lambda: ("7",)).result() == 7


def test_an_error_that_cannot_be_made_again_comes_back_in_words() -> None:
    with Workers(1) as workers:
        with pytest.raises(RuntimeError) as error:
            workers.submit(twofold, tuple).future.result()
        assert str(error.value) == "Twofold: a figure: no font" and "in twofold" in error.value.__notes__[0]
        assert workers.submit(int, lambda: ("7",)).future.result() == 7


SCRIPT = "import os\nfrom vgtool.reporting.workers import Workers\nprint('begun')\nwith Workers(1) as workers:\n"
SCRIPT += "    print(workers.submit(os.getpid, tuple).future.result() != os.getpid())"


def test_a_script_that_asks_for_a_report_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for given, text in ((tmp_path / "script.py", None), ("-", SCRIPT)):
        done = subprocess.run([sys.executable, given], input=text, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("begun\nTrue\n", "")


@pytest.mark.parametrize("count", [0, 1])
def test_maps_of_parts_that_are_merged_while_they_are_read_are_all_there(tmp_path: Path, count: int) -> None:
    """24 parts of one sample each become one when the first has been packed."""
    made = Store(tmp_path / "p")
    made.open("probe", identity("probe", 24), [])
    for i in range(24):
        made.write(Shard(), i, [probed(i)], schema("probe"))
    merged = list[int]()

    def tick(rows: int) -> None:
        if not merged:
            merged.append(compact(tmp_path / "p", Shard()))

    with Workers(count) as workers:
        pack = Pack(tmp_path / "data")
        found = heat(tmp_path / "p", pack, workers, tick)
        pack.done()
        whole = Pack(tmp_path / "whole")
        again = heat(tmp_path / "p", whole, workers, lambda rows: None)
        whole.done()
    assert merged == [24] and sorted(found) == sorted(f"s{i}" for i in range(24))
    assert {name: held(pack, one) for name, one in found.items()} == {
        name: held(whole, one) for name, one in again.items()
    }


def held(pack: Pack, place: dict[str, Any]) -> bytes:
    """A sample's bytes out of a page's chunks."""
    number, at = place["at"]
    chunk = zlib.decompress(base64.b64decode(pack.kept[number]))
    return chunk[at : at + 2 * place["layers"] * place["rows"] * place["cols"]]


@pytest.mark.parametrize("size,most", [(1_000, 8), (5_000_000, 3), (50_000_000, 1)])
def test_a_lot_of_large_files_is_a_small_one(size: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = object.__new__(Album)
    monkeypatch.setattr(made, "_read", lambda row: (b"0" * size, "a", View(), 1, 1))
    assert made._together({"sample_id": "a"}) == most and made._together(None) == 8


def test_a_process_that_is_ended_from_outside_is_said() -> None:
    with Workers(1) as workers, pytest.raises(VgError, match="was ended from outside"):
        workers.submit(killed, tuple).future.result()


def test_an_interrupted_report_waits_for_no_process() -> None:
    with pytest.raises(KeyboardInterrupt), Workers(1) as workers:
        for _ in range(3):
            workers.submit(time.sleep, lambda: (3600,))
        raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_processes_of_a_killed_report_end() -> None:
    code = "import os, signal\nfrom vgtool.reporting.workers import Workers\nworkers = Workers(1)\n"
    code += "print(workers.submit(os.getpid, tuple).future.result(), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    # Its pipe to this test closes only when the worker, which has it too, is gone: `run` waits for that.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == -signal.SIGKILL and int(done.stdout) != os.getpid()
