"""Results to stdout, talk to stderr, control characters of data stripped from both. -q and -v set how much talk."""

import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum

from rich.console import Console


class _Out(Console):
    """A reader that has seen enough (`vgtool score RUN | head`) is no failure of the command."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)


out = _Out()
err = Console(stderr=True)


def clean(text: object) -> str:
    """Text without control characters: an answer or a file name must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in str(text))


class Talk(IntEnum):
    """How much is said on stderr."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


talk = Talk.USUAL


def hush(level: Talk) -> None:
    """Say this much from now on."""
    global talk
    talk = level


def warn(text: str) -> None:
    """One line that is said under -q as well: an error, or what a reader of the results must know."""
    err.print(" ".join(clean(text).splitlines()), markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """One line of talk."""
    if talk >= Talk.USUAL:
        warn(text)


def detail(text: str) -> None:
    """One line that is said under -v only."""
    if talk >= Talk.VERBOSE:
        warn(text)


def show(text: object) -> None:
    """A result, on stdout."""
    out.print(clean(text), markup=False, highlight=False, soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their columns, each as wide as it must be; a dash where there is nothing, 0 for zero."""
    cells = [[*columns], *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else " ".join(str(value).split())
