"""What lies in caches: whether the Hugging Face one holds anything of a repository, and vgtool's own folder.

The former is asked of the disk: listings ask it of every entry, and the hub's own client, which knows the rest, takes
longer to import than they take.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Literal


def holds(kind: Literal["models", "datasets"], repository: str) -> bool:
    """Whether there is a folder of this repository; False: nothing of it is cached."""
    from huggingface_hub import constants

    return (Path(constants.HF_HUB_CACHE) / f"{kind}--{repository.replace('/', '--')}").is_dir()


def folder(name: str) -> Path:
    """Where things of this name are kept for later runs: in the user's cache (XDG_CACHE_HOME, or ~/.cache)/vgtool."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "vgtool" / name
    except RuntimeError:  # a user without a home, as in some containers: nothing can be kept
        return Path(os.devnull) / name


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache, whole or not at all. A folder that cannot be written costs later runs their time."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(data)
                file.close()
                os.replace(file.name, path)
            except BaseException:
                Path(file.name).unlink()
                raise
