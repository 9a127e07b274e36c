"""Files that are there whole or not at all: written to a temporary sibling, synced, renamed."""

import os
import secrets
from pathlib import Path

from vgtool.runs.process import me

MAKE_ROOM = "What is written stays; make room and run the same command again."
GONE = "The folder was deleted or moved: put it back, or start over with the same command."


def remedy(error: OSError) -> str:
    """What to do about a file of a run folder that could not be written."""
    return GONE if isinstance(error, FileNotFoundError) else MAKE_ROOM


def save(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Write a file that is there whole or not at all. `exclusive`: leave alone one that is there already.

    OSError when the disk will not take it; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.of.{me()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        if temporary.stat().st_size != len(data):
            raise OSError(0, "the disk kept less than was written")
        if exclusive:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
            except OSError:  # a file system without hard links: the last of two that start at once wins, and both read
                os.replace(temporary, path)
        else:
            os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make a rename outlive a power cut, where folders can be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)
