"""What the tests give a report's processes to do: a module that imports next to nothing, for they import it too."""

import os
import signal
from pathlib import Path
from typing import NoReturn


def waiting(pipe: Path) -> int:
    """Ends when someone has written."""
    pipe.read_bytes()
    return os.getpid()


def noted(done: list[int], at: int, pipe: Path | None) -> int:
    """Says that it was done, and lets `waiting` go on."""
    done.append(at)
    if pipe:
        pipe.write_bytes(b"x")
    return os.getpid()


class Twofold(ValueError):
    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def twofold() -> NoReturn:
    raise Twofold("a figure", "no font")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
