"""Processes beside a large report's own: they change nothing of it, and end with it whatever happens."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from itertools import islice
from pathlib import Path
from typing import NoReturn

import pytest
from reports import build, own_benchmark, pair

from vgtool.errors import VgError
from vgtool.records import View
from vgtool.reporting import page
from vgtool.reporting.album import Album, Pictures
from vgtool.reporting.workers import LEAST, MOST, Workers, processes


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
        build(runs, tmp_path / str(count), pictures=Pictures())
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


def test_where_no_process_may_start_the_report_does_its_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", refused)
    with Workers(2) as workers:
        assert workers.count == 0 and workers.submit(int, lambda: ("7",)).result() == 7


def test_what_cannot_go_through_a_pipe_is_an_error_and_ends_no_process() -> None:
    with Workers(1) as workers:
        with pytest.raises(RuntimeError, match="pickle"):
            workers.submit(threading.Lock, tuple).result()
        assert workers.submit(int, lambda: ("7",)).result() == 7


@pytest.mark.parametrize("size,most", [(1_000, 8), (5_000_000, 3), (50_000_000, 1)])
def test_a_lot_of_large_files_is_a_small_one(size: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = object.__new__(Album)
    monkeypatch.setattr(made, "_read", lambda row: (b"0" * size, "a", View(), 1, 1))
    assert made._together({"sample_id": "a"}) == most and made._together(None) == 8


def test_a_process_that_is_ended_from_outside_is_said() -> None:
    with Workers(1) as workers, pytest.raises(VgError, match="was ended from outside"):
        workers.submit(os._exit, lambda: (9,)).result()


def test_an_interrupted_report_waits_for_no_process() -> None:
    with pytest.raises(KeyboardInterrupt), Workers(1) as workers:
        for _ in range(3):
            workers.submit(time.sleep, lambda: (3600,))
        raise KeyboardInterrupt


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_the_processes_of_a_killed_report_end() -> None:
    code = "import os, signal\nfrom vgtool.reporting.workers import Workers\nworkers = Workers(1)\n"
    code += "print(workers.submit(os.getpid, tuple).result(), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    # Its pipe to this test closes only when the worker, which has it too, is gone: `run` waited for that.
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(done.stdout), 0)
            time.sleep(0.05)  # until its new parent has reaped it
