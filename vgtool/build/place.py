"""The folder a benchmark is built in: done, or marked as unfinished and made anew by the same command."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vgtool.errors import VgError
from vgtool.runs.process import alive, me

UNFINISHED = ".unfinished"
"""In the folder until all of it is there; holds the name of the process."""
OURS = (UNFINISHED, "images", "masks", "benchmarks.yaml", "counts.json")


def refuse_taken(out: Path) -> None:
    """VgError where a folder holds anything but what a killed build left, or is being built."""
    names = [path.name for path in out.iterdir()] if out.is_dir() else []
    half = UNFINISHED in names and all(name in OURS or name.endswith(".jsonl") for name in names)
    if (out.exists() and not out.is_dir()) or (names and not half):
        raise VgError(f"'{out}' is not an empty folder.", "Choose a new --out.")
    if half and alive((out / UNFINISHED).read_text(encoding="utf-8")):
        raise VgError(f"'{out}' is being built by another process.", "Wait for it, or choose a new --out.")


@contextmanager
def unfinished(out: Path) -> Iterator[None]:
    """`out`, which is not taken, as an empty folder to build in. When the block does not end well, nothing of it is
    left; what a killed process left goes when the next one begins. OSError when the folder cannot be made."""
    absent = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    _empty(out)
    (out / UNFINISHED).write_text(me(), encoding="utf-8")
    try:
        yield
    except BaseException:
        _empty(out)
        for folder in absent:
            with suppress(OSError):  # in use by now
                folder.rmdir()
        raise
    (out / UNFINISHED).unlink()


def _empty(out: Path) -> None:
    """Remove what is in a folder, the mark last."""
    for path in sorted(out.iterdir(), key=lambda path: path.name == UNFINISHED):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
