"""Notes in a run folder of what is under way and what became of it: small files, one an image or sample.

    open/<image>-<sample>-<process>   an image that was begun; what is left behind tells of a death
    tried/<sample>, <image>-all       empty: did not end the process in which it was tried alone
    killed/<sample>                   a sample that did, and is never tried again
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from vgtool.errors import StorageError
from vgtool.records import Sample
from vgtool.runs.process import me
from vgtool.runs.whole import remedy, save

_STARTS = count()
"""Tells apart what one process starts twice."""


@dataclass(frozen=True, slots=True)
class Open:
    """An image that was begun and has not come to an end."""

    image: str
    sample: str
    """`all`, or the key of the one sample that was tried by itself."""
    process: str


@dataclass(frozen=True, slots=True)
class Notes:
    """Those of one run folder."""

    root: Path

    def begin(self, image: str, sample: str = "all") -> Path:
        """Note that this process starts on an image (or on one sample of it)."""
        path = self.root / "open" / f"{image}-{sample}-{me()}-{next(_STARTS)}"
        try:
            path.touch(exist_ok=False)
        except OSError as error:
            raise StorageError(f"Cannot write '{path}': {error.strerror or error}.", remedy(error)) from None
        return path

    def under_way(self) -> list[Open]:
        """Every note of `begin` that is still there."""
        notes = []
        for path in (self.root / "open").glob("*-*-*"):
            image, sample, rest = path.name.split("-", 2)
            notes.append(Open(image, sample, rest.rpartition("-")[0]))
        return notes

    def settle(self, image: str) -> None:
        """Forget every start on an image: it has come to an end."""
        for path in (self.root / "open").glob(f"{image}-*"):
            forget(path)

    def condemn(self, sample: str, why: str) -> None:
        """Never try a sample again."""
        try:
            save(self.root / "killed" / sample, why.encode())
        except OSError as error:
            raise StorageError(f"Cannot write in '{self.root}': {error.strerror or error}.", remedy(error)) from None

    def survived(self, name: str) -> None:
        """Note that a sample, or an image with all of its samples, did not end the process that tried it alone."""
        try:
            (self.root / "tried" / name).touch()
        except OSError as error:
            raise StorageError(f"Cannot write in '{self.root}': {error.strerror or error}.", remedy(error)) from None

    def tried(self, name: str) -> bool:
        """Whether `survived` was noted."""
        return (self.root / "tried" / name).exists()

    def condemned(self) -> dict[str, str]:
        """Key of each sample that is not tried again -> why."""
        return {p.name: p.read_text("utf-8") for p in (self.root / "killed").glob("*") if not p.name.startswith(".")}


def key(*names: str) -> str:
    """A short name of an image or sample that is safe in a file name."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def forget(note: Path) -> None:
    """Remove a note of what is under way."""
    with suppress(OSError):  # on a disk that has failed it stays, and the next part to be written says why
        note.unlink(missing_ok=True)


def image_key(group: Sequence[Sample]) -> str:
    """The name of a group's images in notes of what is under way."""
    return key(group[0].image_id, *(source.name for source in group[0].extra_images))
