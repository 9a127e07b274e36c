"""Processes that a large report gives work to: pictures to be packed and figures to be written.

Python runs one of its threads at a time, so that another core is of use to another process only. Each is a fresh
interpreter (a fork of one with threads may hang) that gets what it needs through a pipe, and ends with the pipe: when
the report is done, and when it is killed.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from vgtool.errors import VgError

LEAST = 1000
"""Samples from which on a process is worth its start, about a second."""
MOST = 4
THREADS = 4
"""Where there is no process."""
T = TypeVar("T")


def processes(samples: int) -> int:
    """How many processes a report of so many samples is made with beside its own: one for each further core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, cores - 1) if samples >= LEAST else 0


class Workers:
    """Processes, or with none of them threads of this one, that do what they are given in its order."""

    def __init__(self, count: int) -> None:
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._links: list[Connection] = []
        self._processes = []
        fresh = multiprocessing.get_context("spawn")
        for _ in range(count):
            mine, theirs = fresh.Pipe()
            process = fresh.Process(target=serve, args=(theirs,), daemon=True)
            try:
                process.start()
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

    def submit(self, work: Callable[..., T], given: Callable[[], tuple[Any, ...]]) -> Future[T]:
        """Have `work`, a module's function, done with what `given` returns when its turn comes, in a thread."""
        return self._threads.submit(self._done, work, given)

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
            process.join()


def serve(link: Connection) -> None:
    """Do what comes through `link` until it ends; errors go back, and Ctrl-C is the report's own matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, ConnectionError):
        while True:
            work, given = link.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = (work(*given), None)
            except Exception as error:  # raised again where the report waits for it
                error.add_note(traceback.format_exc())
                answer = (None, error)
            try:
                link.send(answer)
            except ConnectionError:
                raise
            except Exception as error:  # it cannot go through a pipe
                link.send((None, RuntimeError(f"{answer[1] or answer[0]!r}: {error}")))
