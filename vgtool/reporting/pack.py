"""The page's data: bytes in numbered, deflated chunks, as text inside the page or as script files beside it.

A page opened from disk may not fetch files, but it may load scripts: a chunk file is one call that hands over base64.
Base64 holds no character that could end a string, a script or a tag, so no text of a sample can become markup.
"""

import base64
import zlib
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 2_000_000
"""Bytes of a chunk before it is deflated: what is read to show one sample."""
INLINE = 6_000_000
"""Characters of all chunks together that still go into the page itself."""


@dataclass
class Pack:
    """Chunks in the making. `folder` is made only when they outgrow the page."""

    folder: Path
    inline: int = INLINE
    chunks: int = 0
    kept: list[str] = field(default_factory=list)
    """Chunks that go into the page; empty once they are files."""
    _open: bytearray = field(default_factory=bytearray)
    _spilled: bool = False

    def add(self, data: bytes) -> tuple[int, int]:
        """Store bytes; returns their chunk and offset."""
        if self._open and len(self._open) + len(data) > CHUNK:
            self.cut()
        at = (self.chunks, len(self._open))
        self._open += data
        return at

    def cut(self) -> None:
        """End the chunk: what comes next is read at another time."""
        if not self._open:
            return
        text = encoded(bytes(self._open))
        self._open = bytearray()
        self.kept.append(text)
        self.chunks += 1
        if self._spilled or sum(map(len, self.kept)) > self.inline:
            self.folder.mkdir(exist_ok=True)
            for back, one in enumerate(reversed(self.kept), 1):
                number = self.chunks - back
                chunk_file(self.folder, number).write_text(f'vgtoolChunk({number},"{one}");\n', encoding="ascii")
            self.kept, self._spilled = [], True


def chunk_file(folder: Path, number: int) -> Path:
    """The file of a chunk."""
    return folder / f"chunk-{number:05d}.js"


def encoded(data: bytes) -> str:
    """Deflated base64."""
    return base64.b64encode(zlib.compress(data, 1)).decode("ascii")
