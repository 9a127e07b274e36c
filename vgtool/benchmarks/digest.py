"""The digest of a benchmark's rows: what tells that a run goes on with the same ones, in whatever order they come."""

import hashlib
import heapq
import json
import zlib
from collections.abc import Iterable, Iterator

from vgtool.records import Rejected, Sample

SORTED = 50_000
"""Lines that are sorted at once."""
BLOCK = 256
"""Lines that are compressed together."""


class Digest:
    """sha256 of a line for each row, sorted: so many at a time, which are compressed until they are merged."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._runs: list[list[bytes]] = []

    def add(self, sample: Sample) -> None:
        boxes = [box.as_list() for box in sample.boxes]
        texts = [sample.id, sample.image_id, sample.prompt, sample.reference, sample.choices]
        self._add(json.dumps([*texts, boxes]))

    def of(self, rejected: Iterable[Rejected] = ()) -> str:
        """The digest of the samples that were added, and of rows that are none."""
        for row in rejected:
            self._add(json.dumps([row.id, row.reason]))
        self._cut()
        found, between = hashlib.sha256(), b""
        for line in heapq.merge(*map(_lines, self._runs)):
            found.update(between + line.encode())
            between = b"\n"
        return found.hexdigest()

    def _add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) == SORTED:
            self._cut()

    def _cut(self) -> None:
        some = sorted(self._lines)
        blocks = ("\n".join(some[at : at + BLOCK]) for at in range(0, len(some), BLOCK))
        self._runs.append([zlib.compress(block.encode(), 1) for block in blocks])
        self._lines = []


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    for block in blocks:
        yield from zlib.decompress(block).decode().split("\n")


def digest(samples: Iterable[Sample], rejected: Iterable[Rejected] = ()) -> str:
    """The digest of rows that are at hand."""
    lines = Digest()
    for sample in samples:
        lines.add(sample)
    return lines.of(rejected)
