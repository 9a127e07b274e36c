"""From a benchmark name, split and protocol to samples: the one way every command gets its rows.

A reader turns one published layout into `Sample`s, and rows it cannot use into `Rejected`; it holds no image in memory.
Here the rows are collected, checked for duplicate ids, counted against the published figures and digested.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vgtool.records import Decoding, Rejected, Sample
from vgtool.registry import BenchmarkSpec, ProtocolSpec

READERS: dict[str, str] = {
    "phantom": "vgtool.benchmarks.phantom:read",
}
"""Reader key -> `module:function`. Outside packages add readers through the entry point group `vgtool.readers`."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a reader is asked for."""

    spec: BenchmarkSpec
    split: str
    protocol: ProtocolSpec
    root: Path | None
    """The folder with this benchmark's files (--data-root/NAME or --data-root itself); None for generated ones."""
    box_format: str | None = None
    """--box-format: read boxes this way whatever the entry says."""


Reader = Callable[[Request], Iterable[Sample | Rejected]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All rows of one benchmark under one split and protocol."""

    name: str
    split: str
    protocol: str
    domain: str
    samples: Sequence[Sample]
    rejected: Sequence[Rejected]
    digest: str
    """sha256 over every row's id, image id, prompt, reference, choices and boxes, sorted by id, so order is free."""
    decoding: Decoding
    rule: str
    notes: tuple[str, ...]
    """What a reader of the numbers must know: count differences, training rows selected."""

    @property
    def rows(self) -> int:
        return len(self.samples) + len(self.rejected)
