"""Progress of a report on stderr: a live line in a terminal, in a log file a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vgtool import console

FIRST, MOST = 10.0, 60.0
"""Seconds to the first line of a log file, and between later ones at most."""


class Steps:
    """What is being done, and how far it is."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show = show

    def start(self, what: str) -> None:
        """A step that has no number."""
        self.show(what)

    def count(self, what: str, total: int) -> Callable[..., None]:
        """A step of so many parts; what it returns is called for each that is done, or with the number of several."""
        done = 0
        self.show(f"{what}, 0 of {total}")

        def tick(some: int = 1) -> None:
            nonlocal done
            before, done = done, done + some
            if done // 16 > before // 16 or done == total:
                self.show(f"{what}, {done} of {total}")

        return tick


class Log:
    """Lines for a log file: the first after FIRST seconds, then twice as long apart, up to MOST."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.say, self.clock, self.gap = say, clock, FIRST
        self.start = clock()
        self.next = self.start + FIRST

    def __call__(self, text: str) -> None:
        now = self.clock()
        if now >= self.next:
            self.say(f"report: {text} ({now - self.start:.0f} s)")
            self.gap = min(2 * self.gap, MOST)
            self.next = now + self.gap


@contextmanager
def shown() -> Iterator[Steps]:
    """Steps that are told to whoever started the report."""
    if not sys.stderr.isatty():
        yield Steps(Log(console.say))
        return
    from rich.text import Text

    with console.err.status("") as live:
        yield Steps(lambda text: live.update(Text(console.clean(f"report: {text}"))))
