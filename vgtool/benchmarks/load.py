"""From a benchmark name, split and protocol to samples: the one way every command gets its rows.

A reader turns one published layout into `Sample`s, and rows it cannot use into `Rejected`; it holds no image in memory.
Here the rows are collected, checked for duplicate ids, counted against the published figures and digested.
"""

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path

from vgtool.errors import VgError, did_you_mean
from vgtool.records import Decoding, Rejected, Sample
from vgtool.registry import BenchmarkSpec, ProtocolSpec, benchmarks, pick

READERS: dict[str, str] = {
    "phantom": "vgtool.benchmarks.phantom:read",
    "own": "vgtool.benchmarks.own:open_request",
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


def load(
    name: str,
    *,
    split: str | None = None,
    protocol: str = "default",
    data_root: Path | None = None,
    limit: int | None = None,
    registry: Path | None = None,
) -> Benchmark:
    """The rows of a benchmark. `limit`: the first N rows. VgError for a name, split or protocol that is not there."""
    spec = own_file(Path(name)) if name.endswith(".jsonl") else pick(benchmarks(registry), name, "benchmarks.yaml")
    if protocol not in spec.protocols:
        raise VgError(f"Benchmark '{name}' has no protocol '{protocol}'.", did_you_mean(protocol, spec.protocols))
    chosen = spec.protocols[protocol]
    split = split or spec.default_split
    if split not in spec.splits:
        raise VgError(f"Benchmark '{name}' has no split '{split}'.", did_you_mean(split, spec.splits))
    samples: list[Sample] = []
    rejected: list[Rejected] = []
    seen: set[str] = set()
    for row in islice(reader(spec.reader)(Request(spec, split, chosen, data_root)), limit):
        if row.id in seen:
            rejected.append(Rejected(f"{row.id}#{len(rejected)}", f"duplicate_id: '{row.id}' appears again"))
        elif isinstance(row, Sample):
            samples.append(row)
        else:
            rejected.append(row)
        seen.add(row.id)
    published = spec.splits[split]
    notes = []
    if limit is None and published is not None and published != len(samples) + len(rejected):
        notes.append(f"{len(samples) + len(rejected)} rows, where {published} are published.")
    return Benchmark(
        name,
        split,
        protocol,
        spec.domain,
        samples,
        rejected,
        digest(samples, rejected),
        Decoding(chosen.max_new_tokens),
        chosen.rule,
        tuple(notes),
    )


def own_file(path: Path) -> BenchmarkSpec:
    """The entry of a file in vgtool's own format: one split, no published count."""
    options = {"path": str(path)}
    return BenchmarkSpec(
        name=path.stem, title=path.name, reader="own", domain="medical", default_split="all", splits={"all": None},
        options=options,
    )  # fmt: skip


def reader(key: str) -> Reader:
    """The reader behind a registry key, built in or from an installed package."""
    outside = {point.name: point for point in entry_points(group="vgtool.readers")}
    if key in READERS:
        module, _, function = READERS[key].partition(":")
        return getattr(importlib.import_module(module), function)
    if key in outside:
        return outside[key].load()
    raise VgError(f"No benchmark reader '{key}'.", did_you_mean(key, [*READERS, *outside]))


def digest(samples: Iterable[Sample], rejected: Iterable[Rejected] = ()) -> str:
    """sha256 of every row, whatever their order."""
    lines = [
        json.dumps([s.id, s.image_id, s.prompt, s.reference, s.choices, [box.as_list() for box in s.boxes]])
        for s in samples
    ]
    lines += [json.dumps([r.id, r.reason]) for r in rejected]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
