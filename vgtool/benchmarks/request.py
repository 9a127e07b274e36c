"""What a reader of one published layout is asked for, and what it is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vgtool.records import Rejected, Sample
from vgtool.registry import BenchmarkSpec, ProtocolSpec


@dataclass(frozen=True, slots=True)
class Request:
    """What a reader is asked for."""

    spec: BenchmarkSpec
    split: str
    protocol: ProtocolSpec
    root: Path | None
    """The folder with this benchmark's files; None for generated ones, and where nothing is on disk."""
    box_format: str | None = None
    """--box-format: read boxes this way whatever the entry or a row says."""
    data_root: Path | None = None
    """--data-root as given: images may lie there although the rows are elsewhere."""
    files: list[str] = field(default_factory=list)
    """Names of the data files whose rows were read; the reader adds to it."""
    shares: set[str] = field(default_factory=set)
    """Box formats in shares of the image that rows state for themselves; the reader adds to it."""
    notes: list[str] = field(default_factory=list)
    """What whoever reads the numbers must know about the files; the reader adds to it."""


Reader = Callable[[Request], Iterable[Sample | Rejected]]
