"""The page's data: bytes in numbered, deflated chunks, as text inside the page or as script files beside it.

A page opened from disk may not fetch files, but it may load scripts: a chunk file is one call that hands over base64.
Base64 holds no character that could end a string, a script or a tag, so no text of a sample can become markup.
"""

import base64
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

TEXT, RUNS, PACKED = (1, zlib.Z_DEFAULT_STRATEGY), (1, zlib.Z_RLE), (0, zlib.Z_DEFAULT_STRATEGY)
"""How bytes are deflated, level and strategy: text repeats itself; maps hold runs and few values and repeat nothing, so
that looking for repeats takes longer and makes them larger; pictures are packed as they are."""
CHUNK = 2_000_000
"""Bytes of a chunk before it is deflated: what is read to show one sample."""
INLINE = 6_000_000
"""Characters of all chunks together that still go into the page itself."""
THREADS = 2


How = tuple[int, int]


class Chunks:
    """Bytes put one after the other into chunks; `end` gets each that is full."""

    def __init__(self, end: Callable[[bytes, How], None]) -> None:
        self.chunks = 0
        self._end = end
        self._open = bytearray()
        self._how = TEXT

    def add(self, data: bytes, how: How = TEXT) -> tuple[int, int]:
        """Store bytes; returns their chunk and offset. All of a chunk is deflated in one way."""
        if how != self._how or len(self._open) + len(data) > CHUNK:
            self.cut()
            self._how = how
        at = (self.chunks, len(self._open))
        self._open += data
        return at

    def cut(self) -> None:
        """End the chunk: what comes next is read at another time."""
        if not self._open:
            return
        data, self._open = bytes(self._open), bytearray()
        self.chunks += 1
        self._end(data, self._how)


class Pack(Chunks):
    """A page's chunks, deflated in threads; `done` ends them. `folder` is made only when they outgrow the page."""

    def __init__(self, folder: Path, inline: int = INLINE) -> None:
        super().__init__(lambda data, how: self._keep(self._threads.submit(encoded, data, how)))
        self.folder, self.inline = folder, inline
        self.kept: list[str] = []
        """Chunks that go into the page; empty once they are files."""
        self._threads = ThreadPoolExecutor(THREADS)
        self._waiting: deque[Future[str]] = deque()
        self._written = 0

    def put(self, texts: Sequence[str]) -> int:
        """Store chunks that are deflated; returns the number of the first."""
        self.cut()
        first = self.chunks
        for text in texts:
            done: Future[str] = Future()
            done.set_result(text)
            self.chunks += 1
            self._keep(done)
        return first

    def done(self) -> None:
        """End the last chunk and wait for all."""
        self.cut()
        while self._waiting:
            self._take()
        self._threads.shutdown()

    def _keep(self, chunk: Future[str]) -> None:
        self._waiting.append(chunk)
        while len(self._waiting) > 2 * THREADS:
            self._take()

    def _take(self) -> None:
        """The oldest chunk that is being deflated: kept, or written as a file with all before it."""
        self.kept.append(self._waiting.popleft().result())
        if self._written or sum(map(len, self.kept)) > self.inline:
            self.folder.mkdir(exist_ok=True)
            for text in self.kept:
                name = chunk_file(self.folder, self._written)
                name.write_text(f'vgtoolChunk({self._written},"{text}");\n', encoding="ascii")
                self._written += 1
            self.kept.clear()


def chunk_file(folder: Path, number: int) -> Path:
    """The file of a chunk."""
    return folder / f"chunk-{number:05d}.js"


def encoded(data: bytes, how: How = TEXT) -> str:
    """Deflated base64."""
    level, strategy = how
    packer = zlib.compressobj(level, strategy=strategy)
    return base64.b64encode(packer.compress(data) + packer.flush()).decode("ascii")
