"""The rows that a reader gave: each id once, counted and digested."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vgtool.benchmarks.boxes import SHARES, all_shares
from vgtool.benchmarks.digest import Digest
from vgtool.benchmarks.packed import Packed
from vgtool.errors import VgError
from vgtool.records import Box, Rejected, Sample


@dataclass(frozen=True, slots=True)
class Collected:
    """All rows of a reading."""

    samples: Packed
    rejected: Sequence[Rejected]
    digest: str
    counts: Mapping[str, int]
    """Split -> rows."""
    missing: int
    """Samples without an answer."""
    files: Sequence[str]
    """Names of the data files."""
    notes: Sequence[str]
    """What the reader has to say of them."""


@dataclass
class Collector:
    """Takes rows one by one."""

    counts: dict[str, int]
    samples: Packed = field(default_factory=Packed)
    rejected: list[Rejected] = field(default_factory=list)
    lines: Digest = field(default_factory=Digest)
    boxes: list[Box] = field(default_factory=list)
    """While they are small."""
    small: bool = True
    """No box so far reaches further than shares of an image do."""
    missing: int = 0
    seen: set[str] = field(default_factory=set)

    def add(self, origin: str, row: Sample | Rejected) -> None:
        self.counts[origin] += 1
        if row.id in self.seen:
            name = f"{row.id}#{len(self.rejected)}"
            self.rejected.append(Rejected(name, f"duplicate_id: '{row.id}' appears again"))
        elif isinstance(row, Sample):
            self.samples.append(row)
            self.lines.add(row)
            self.missing += not row.reference
            self.small = self.small and all(0 <= edge <= 2 for box in row.boxes for edge in box.as_list())
            self.boxes += row.boxes if self.small else ()
        else:
            self.rejected.append(row)
        self.seen.add(row.id)

    def refuse_shares(self, name: str, stated: set[str | None]) -> None:
        """VgError where boxes that nobody calls shares of their images can be nothing else."""
        if self.small and not stated & {*SHARES} and all_shares(self.boxes):
            raise VgError(
                f"All {len(self.boxes):,} boxes of '{name}' lie within 0 to 1: they are shares of the image, not "
                "pixels.",
                "Read them with --box-format normalised; if they are pixels after all, name their own format so.",
            )

    def end(self, files: Sequence[str], notes: Sequence[str]) -> Collected:
        digest = self.lines.of(self.rejected)
        return Collected(self.samples, self.rejected, digest, self.counts, self.missing, files, notes)
