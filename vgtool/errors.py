"""What the user did wrong, what a sample did wrong, and the exit codes.

`VgError` is the one error a user is meant to read: a sentence that quotes the bad value, then what to do. It never
carries a traceback. `SampleError` costs one row: the runner records it and goes on. Anything else is a bug and keeps
its traceback.
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum

MOST_NAMED = 20
"""Known names that a hint lists."""


class Exit(IntEnum):
    """Exit codes of the `vgtool` command."""

    DONE = 0
    BUG = 1
    """A bug, or storage that failed under us (full disk, quota)."""
    USER = 2
    SOME_FAILED = 3
    """Everything ran; some samples have no result, and the run names them."""
    INTERRUPTED = 130
    TERMINATED = 143


class VgError(Exception):
    """A mistake of the user's: `message` says what, with the value quoted; `hint` says what to do next."""

    exit_code = Exit.USER

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class StorageError(VgError):
    """The disk failed, not the user: what it still holds stays, and a rerun completes it."""

    exit_code = Exit.BUG


class SampleError(Exception):
    """One sample cannot be measured or answered. `code` is a stable word (`image_missing`), `detail` a sentence."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)  # both positional, so that it survives a trip between processes
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


def reason_of(error: BaseException) -> str:
    """The first line of the root of a chain of exceptions: why, where a library only says that it failed."""
    seen = {id(error)}
    while (below := error.__cause__ or error.__context__) is not None and id(below) not in seen and str(below).strip():
        error = below
        seen.add(id(error))
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def one_line(error: BaseException) -> str:
    """What an error says, for a sentence: on one line, no longer than one is read, without a full stop."""
    said = " ".join(str(error).split())[:300].rstrip(".")
    return f"no {said}" if isinstance(error, KeyError) else said or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest known one, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    more = f" and {len(known) - MOST_NAMED:,} more" if len(known) > MOST_NAMED else ""
    return f"Known: {', '.join(known[:MOST_NAMED])}{more}." if known else ""
