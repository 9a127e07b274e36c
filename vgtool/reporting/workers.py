"""Processes that a large report gives work to: pictures and maps to be packed and figures to be written.

Python runs one of its threads at a time, so that another core is of use to another process only. Each is a fresh
interpreter (a fork of one with threads may hang) that gets what it needs through a pipe, and ends with the pipe: when
the report is done, and when it is killed. Those of `multiprocessing` would first run again the script that asked for
the report, and with it the report.
"""

import copy
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from vgtool.errors import VgError

LEAST = 1000
"""Samples from which on a process is worth its start, about a second."""
MOST = 4
MODULES = ("vgtool.reporting.packing", "vgtool.reporting.maps", "vgtool.reporting.figures.files")
"""What a process imports while the runs are read: the work that it will be given."""
THREADS = 4
"""Where there is no process."""
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from vgtool.reporting.workers import serve; serve(int(sys.argv[2]))"
)
T = TypeVar("T")


def processes(samples: int) -> int:
    """How many processes a report of so many samples is made with beside its own: one for each further core."""
    if os.name != "posix":
        return 0  # it cannot hand a pipe to a process of its own
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, cores - 1) if samples >= LEAST else 0


@dataclass(eq=False)
class Task(Generic[T]):
    """Work that was given to `Workers`."""

    work: Callable[..., T]
    given: Callable[[], tuple[Any, ...]]
    future: Future[T]
    others: "list[Task[Any]]"
    """All that are not asked for yet, the newest last."""

    def result(self) -> T:
        """What came of it. Rather than wait this process does what nobody has begun: this, or what was given last."""
        self._here()
        for other in reversed(self.others):
            if self.future.done():
                break
            other._here()
        self.others.remove(self)
        return self.future.result()

    def _here(self) -> None:
        if not self.future.cancel():
            return
        self.future = Future()
        try:
            self.future.set_result(self.work(*self.given()))
        except Exception as error:  # raised when this one is asked for
            self.future.set_exception(error)


class Workers:
    """Processes, or with none of them threads of this one, that do what they are given in its order."""

    def __init__(self, count: int) -> None:
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._links: list[Connection] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        for _ in range(count):
            mine, theirs = Pipe()
            command = [sys.executable, "-c", START, json.dumps(sys.path), str(theirs.fileno())]
            try:
                process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            except OSError:  # no more processes allowed: those that there are will do
                mine.close()
                break
            finally:
                theirs.close()  # else its end would not be seen
            self._processes.append(process)
            self._links.append(mine)
            self._idle.put(mine)
        self.count = len(self._processes)
        self._threads = ThreadPoolExecutor(self.count or THREADS)
        self._tasks: list[Task[Any]] = []

    def submit(self, work: Callable[..., T], given: Callable[[], tuple[Any, ...]]) -> Task[T]:
        """Have `work`, a module's function, done with what `given` returns when its turn comes, in a thread."""
        task = Task(work, given, self._threads.submit(self._done, work, given), self._tasks)
        self._tasks.append(task)
        return task

    def _done(self, work: Callable[..., T], given: Callable[[], tuple[Any, ...]]) -> T:
        if not self.count:
            return work(*given())
        link = self._idle.get()
        try:
            link.send((work, given()))
            found, error = link.recv()
        except (EOFError, ConnectionError):
            raise VgError(
                "A process that packs pictures and writes figures was ended from outside.",
                "If memory ran out, give the report fewer runs or leave --images out.",
            ) from None
        finally:
            self._idle.put(link)
        if error is not None:
            raise error
        return found  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what was given, or after an error give it up."""
        if kind is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            for process in self._processes:
                process.terminate()
        self._threads.shutdown()
        for link in self._links:
            link.close()
        for process in self._processes:
            process.wait()


def serve(handle: int) -> None:
    """Do what comes through a connection until it ends; errors go back, and Ctrl-C is the report's own matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = Connection(handle)
    with suppress(EOFError, ConnectionError):
        for name in MODULES:
            importlib.import_module(name)
        while True:
            work, given = link.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = (work(*given), None)
            except Exception as error:  # raised again where the report waits for it
                answer = (None, _sent(error))
            try:
                link.send(answer)
            except ConnectionError:
                raise
            except Exception as error:  # it cannot go through a pipe
                link.send((None, RuntimeError(f"{answer[1] or answer[0]!r}: {error}")))


def _sent(error: Exception) -> Exception:
    """An error that arrives as it is, where one of its kind can be made again, with its traceback as a note."""
    found = error
    try:
        copy.copy(error)
    except Exception:  # of more arguments than it keeps
        found = RuntimeError(f"{type(error).__name__}: {error}")
    found.add_note("".join(traceback.format_exception(error)))
    return found
