"""Results to stdout, talk to stderr, control characters of data stripped from both."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

out = Console()
err = Console(stderr=True)


def clean(text: object) -> str:
    """Text without control characters: an answer or a file name must not drive the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in str(text))


def say(text: str) -> None:
    """One line of talk."""
    err.print(clean(text), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def counting(title: str) -> Iterator[Progress]:
    """A progress bar on a terminal, nothing in a log file."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not sys.stderr.isatty()) as bar:
        bar.add_task(title, total=None)
        yield bar
