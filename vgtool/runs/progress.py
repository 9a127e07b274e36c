"""Progress that tells the truth, on stderr: a live line in a terminal, one line at growing intervals in a log file.

Rate and time left count what this process ran, never what an earlier one had finished.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn

from vgtool import console
from vgtool.runs.plan import duration

FIRST, MOST = 10.0, 60.0
"""Seconds to the first line of a log file, and between later ones at most."""

Report = Callable[[int, int, int, int], None]
"""(run by this process, failed among them, finished before, all)."""


def line(title: str, done: int, failed: int, before: int, total: int, seconds: float) -> str:
    """`probe 1of8: 1200 of 5000 done, 3 failed, 41.2/s, 1 min 32 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    left = duration((total - before - done) / rate) if rate > 0 else "unknown"
    speed = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
    return f"{title}: {before + done} of {total} done, {failed} failed, {speed}, {left} left"


class Log:
    """Lines for a log file: the first after FIRST seconds, then twice as long apart, up to MOST."""

    def __init__(self, title: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.say, self.clock = title, say, clock
        self.start, self.gap = clock(), FIRST
        self.next = self.start + self.gap

    def __call__(self, done: int, failed: int, before: int, total: int) -> None:
        now = self.clock()
        if now >= self.next:
            self.say(line(self.title, done, failed, before, total, now - self.start))
            self.gap = min(2 * self.gap, MOST)
            self.next = now + self.gap


@contextmanager
def reporting(title: str, speaks: bool = True) -> Iterator[Report]:
    """A report for the runner to call after every image. `speaks`: False keeps all but one process of a node quiet; -q
    keeps all."""
    if not speaks or console.talk is console.Talk.QUIET:
        yield lambda done, failed, before, total: None
        return
    if not sys.stderr.isatty():
        yield Log(title, console.say)
        return
    start = time.monotonic()
    with Progress(BarColumn(), TextColumn("{task.description}"), console=console.err, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def report(done: int, failed: int, before: int, total: int) -> None:
            text = line(title, done, failed, before, total, time.monotonic() - start)
            bar.update(task, description=text, completed=before + done, total=total)

        yield report
