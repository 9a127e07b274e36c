"""Where a benchmark's files lie on disk: folders and zip archives, read in place, never unpacked.

A row names its image by a relative path, or by an absolute one that lies below the folder. Other absolute paths, `..`,
URLs and NUL are refused when the row is read; a link that leads out of the folder is refused when the image is.
"""

import os
import posixpath
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path, PurePath

from vgtool.benchmarks.archives import DRIVE, Archive, Member
from vgtool.errors import SampleError, VgError
from vgtool.images import dicom, series
from vgtool.records import ImageSource


@dataclass(frozen=True, slots=True)
class LocatedImage(ImageSource):
    """An image that can be looked for without being read."""

    exists: Callable[[], bool]


_PLAIN = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
"""Names that are safe, and written as they stay: most, so that a million rows are read sooner."""


def safe_name(name: object) -> str:
    """A relative path as its row gives it, with forward slashes; SampleError when it is none or could lead out."""
    if not isinstance(name, str) or not name.strip():
        raise SampleError("image_missing", "the row names no image")
    if _PLAIN.fullmatch(name):
        return name
    name = name.strip().replace("\\", "/")
    parts = name.split("/")
    if (
        DRIVE.match(name)
        or name.startswith(("data:", "file:"))
        or "\0" in name
        or "://" in name
        or name[0] in "/~"
        or ".." in parts
    ):
        raise SampleError("image_outside_root", f"'{name[:120]}' is not a path below the data folder")
    return posixpath.normpath(name)


class Files:
    """The files of a benchmark: rows in data files, images that rows name; in folders first, then in archives."""

    def __init__(self, roots: Sequence[Path], folders: Sequence[str] = ("",), archives: Sequence[str] = ()) -> None:
        """`roots`: the benchmark's own folder first. `folders`: where image paths start, below each root.

        An archive that cannot be read is a VgError where `archives` names it, and skipped where a pattern finds it.
        """
        self.roots = [root.resolve() for root in roots]
        self._named = [place for root in roots for place in (root.absolute(), root.resolve())]
        self._allowed = self.roots + [
            root.parent.parent / "blobs" for root in self.roots if root.parent.name == "snapshots"
        ]  # the Hugging Face cache: a snapshot is links to blobs
        self._prefixes = [f"{folder}/" if folder else "" for folder in folders]
        self._lock = threading.Lock()
        self._series: dict[str, list[str] | SampleError] = {}
        """Folder -> its DICOM files by position."""
        self.skipped: list[str] = []
        """A sentence for each archive that was skipped."""
        self._archives = [archive for root in self.roots for name in archives for archive in self._opened(root, name)]

    @property
    def archives(self) -> list[str]:
        """Names of the archives that are read."""
        return [archive.path.name for archive in self._archives]

    def _opened(self, root: Path, pattern: str) -> Iterator[Archive]:
        for path in sorted(root.glob(pattern)):
            try:
                yield Archive(path)
            except VgError as error:
                if escape(pattern) == pattern:
                    raise
                self.skipped.append(f"Skipped: {error}")

    def data(self, patterns: Sequence[str]) -> list[Path | Member]:
        """The data files of the first pattern that finds any, by name."""
        for pattern in patterns:
            for root in self.roots[:1]:
                if found := [path for path in sorted(root.glob(pattern)) if path.is_file()]:
                    return list(found)
            for archive in self._archives:
                if names := sorted(name for name in archive.names() if _matches(name, pattern)):
                    return [Member(archive, name) for name in names]
        return []

    def source(self, *names: object) -> LocatedImage:
        """The image under the first of `names` that exists when it is read. The first one is what reports show."""
        safe = [self._safe(name) for name in names]
        return LocatedImage(safe[0], lambda: self._read(safe), lambda: self._find(safe) is not None)

    def _safe(self, name: object) -> str:
        """A path below a root, as `safe_name` reads it; absolute ones are cut down to what lies below."""
        if isinstance(name, str) and os.path.isabs(name.strip()):
            path = PurePath(name.strip())
            for root in self._named:
                if path.is_relative_to(root):
                    return safe_name(path.relative_to(root).as_posix())
        return safe_name(name)

    def has_folder(self, name: str) -> bool:
        """Whether a folder has this name."""
        return bool(self._listed(self._safe(name)))

    def series(self, name: str, at: int) -> LocatedImage:
        """Slice `at` of the DICOM series in a folder, by position."""
        folder = self._safe(name)
        return LocatedImage(folder, lambda: self._slice(folder, at), lambda: self.has_folder(folder))

    def _slice(self, folder: str, at: int) -> bytes:
        with self._lock:
            if folder not in self._series:
                self._series[folder] = self._ordered(folder)
        names = self._series[folder]
        if isinstance(names, SampleError):
            raise names
        if at >= len(names):
            said = f"'{folder}' has {len(names)} slices; slice {at} is none of 0 to {len(names) - 1}"
            raise SampleError("image_slice", said)
        return self._read([names[at]])

    def _ordered(self, folder: str) -> list[str] | SampleError:
        """The files of a series by position, or why they are none."""
        try:
            found = []
            for name in self._listed(folder):
                data = self._read([name])
                if dicom.is_dicom(data):
                    found += series.slices(dicom.read(data, name, pixels=False), name)
            if any(one.frame is not None for one in found):
                raise SampleError("series_mixed", f"'{folder}' holds files of several frames; name one of them")
            return [one.name for one in series.ordered(found, folder)]
        except SampleError as error:
            return error

    def _listed(self, folder: str) -> list[str]:
        """The names of the files that lie in a folder itself, on disk or else in an archive."""
        for place in self._places([folder]):
            for root in self.roots:
                if (root / place).is_dir():
                    inside = sorted(path.name for path in (root / place).iterdir() if path.is_file())
                    return [f"{folder}/{name}" for name in inside if not name.startswith(".")]
            for archive in self._archives:
                start = f"{place}/"
                inside = sorted(one[len(start) :] for one in archive.names() if one.startswith(start))
                if inside := [name for name in inside if name and "/" not in name]:
                    return [f"{folder}/{name}" for name in inside]
        return []

    def on_disk(self, *names: object) -> Path | None:
        """The file itself under the first of `names` that exists, not in an archive; None where there is none."""
        found = self._find([self._safe(name) for name in names])
        return found if isinstance(found, Path) else None

    def read(self, *names: str) -> bytes | None:
        """A small side file, or None where there is none."""
        safe = [safe_name(name) for name in names]
        return self._read(safe) if self._find(safe) is not None else None

    def _places(self, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            forms = (
                {name} if name.isascii() else {name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))}
            )
            yield from (
                prefix + form for form in sorted(forms, key=lambda form: form != name) for prefix in self._prefixes
            )

    def _find(self, names: Sequence[str]) -> Path | tuple[Archive, str] | None:
        places = list(self._places(names))
        for place in places:
            for root in self.roots:
                try:
                    if (root / place).is_file():
                        return root / place
                except (OSError, ValueError):  # a name too long or not encodable is not there
                    continue
        for place in places:
            for archive in self._archives:
                if (member := archive.find(place)) is not None:
                    return archive, member
        return None

    def looked(self, *names: object) -> str:
        """Which further names a file was looked for under, and where."""
        others = f", nor {' or '.join(map(repr, names[1:]))}" if len(names) > 1 else ""
        folders = ", ".join(prefix.rstrip("/") or "the folder itself" for prefix in self._prefixes)
        archives = "".join(f", {archive.path.name}" for archive in self._archives)
        return f"{others} (looked in {folders}{archives})"

    def _read(self, names: Sequence[str]) -> bytes:
        found = self._find(names)
        if found is None:
            raise SampleError("image_missing", f"'{names[0]}' is not in the data folder{self.looked(*names)}")
        if isinstance(found, tuple):
            return found[0].read(found[1])
        if not any(found.resolve().is_relative_to(root) for root in self._allowed):
            away = "is a link that leads out of the data folder; take what it leads to for --data-root"
            raise SampleError("image_outside_root", f"'{names[0]}' {away}")
        try:
            return found.read_bytes()
        except OSError as error:
            raise SampleError("image_unreadable", f"'{names[0]}': {error.strerror}") from None


def _matches(name: str, pattern: str) -> bool:
    """As Path.glob: part by part, so that `*` does not cross a slash."""
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
