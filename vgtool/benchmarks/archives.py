"""Zip archives, read in place and never unpacked.

Indexed by member name, without macOS entries, links and names that lead out; a member that would unpack beyond a size
or ratio limit is refused.
"""

import io
import re
import threading
import unicodedata
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from zlib import error as zlib_error

from vgtool.errors import SampleError, VgError
from vgtool.images import LFS_MARK

MAX_MEMBER = 300_000_000
MAX_RATIO = 200
SMALL = 20_000_000
"""Below this size a high ratio is no danger (an empty scan stored as BMP)."""
DRIVE = re.compile(r"[A-Za-z]:")
"""How a Windows path begins."""
_LINK = 0o120000


class Archive:
    """A zip archive read in place; safe for threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            with path.open("rb") as file:
                if file.read(len(LFS_MARK)) == LFS_MARK:
                    raise VgError(f"'{path.name}' is a Git LFS pointer, not the archive.", "Run git lfs pull.")
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            spanned = "span multiple disks" in str(error) or path.with_suffix(".z01").exists()
            join = f"It is the last of several parts: `zip -s 0 {path.name} --out full.zip` joins them."
            hint = join if spanned else "Fetch it again."
            raise VgError(f"'{path.name}' cannot be read as a zip archive: {error}.", hint) from None
        self._members = {_member_name(info): info for info in self._zip.infolist() if _plain(info)}
        tops = {name.split("/", 1)[0] for name in self._members}
        if len(tops) == 1 and all("/" in name for name in self._members):
            self._members |= {name.split("/", 1)[1]: info for name, info in list(self._members.items())}

    def find(self, name: str) -> str | None:
        name = unicodedata.normalize("NFC", name)
        return name if name in self._members else None

    def names(self) -> Iterable[str]:
        return self._members

    def read(self, name: str) -> bytes:
        info = self._members[name]
        ratio = info.file_size / max(info.compress_size, 1)
        if info.file_size > MAX_MEMBER or (info.file_size > SMALL and ratio > MAX_RATIO):
            detail = f"'{name}' in {self.path.name} unpacks {info.compress_size:,} to {info.file_size:,} bytes"
            raise SampleError("archive_member_refused", detail)
        try:
            with self._lock, self._zip.open(info) as file:
                return file.read(info.file_size + 1)
        except (zipfile.BadZipFile, zlib_error, OSError, RuntimeError, NotImplementedError, EOFError) as error:
            raise SampleError("archive_member_unreadable", f"'{name}' in {self.path.name}: {error}") from None


def _member_name(info: zipfile.ZipInfo) -> str:
    """Archives made on a Mac hold UTF-8 names without saying so, which zipfile reads as cp437."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return unicodedata.normalize("NFC", name)


def _plain(info: zipfile.ZipInfo) -> bool:
    parts = info.filename.split("/")
    hidden = parts[0] == "__MACOSX" or parts[-1].startswith("._") or parts[-1] == ".DS_Store"
    leads_out = info.filename.startswith("/") or ".." in parts or "\0" in info.filename or DRIVE.match(info.filename)
    return not (info.is_dir() or hidden or leads_out or (info.external_attr >> 16) & 0o170000 == _LINK)


@dataclass(frozen=True, slots=True)
class Member:
    """A data file inside an archive, opened as a file on disk is."""

    archive: Archive
    path: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    def open(self, mode: str = "rb") -> BinaryIO:
        try:
            return io.BytesIO(self.archive.read(self.path))
        except SampleError as error:
            raise VgError(f"{error.detail}.", "Unpack the archive yourself, or fetch it again.") from None
