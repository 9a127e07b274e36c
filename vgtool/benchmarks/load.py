"""From a benchmark name, split and protocol to samples: the one way every command gets its rows.

A reader turns one published layout into `Sample`s, and rows it cannot use into `Rejected`; it holds no image in memory.
Here the rows are collected, checked for duplicate ids, counted against the published figures and digested.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import islice
from pathlib import Path

from vgtool.benchmarks import kept
from vgtool.benchmarks.collect import Collected, Collector
from vgtool.benchmarks.packed import Packed
from vgtool.benchmarks.request import Reader, Request
from vgtool.benchmarks.tables import is_data, refuse
from vgtool.errors import VgError, did_you_mean
from vgtool.records import Decoding, Rejected, Sample
from vgtool.registry import BenchmarkSpec, ProtocolSpec, benchmarks, pick

READERS: dict[str, str] = {
    "phantom": "vgtool.benchmarks.phantom:read",
    "own": "vgtool.benchmarks.own:read",
    "vgmed": "vgtool.benchmarks.vgmed:read",
    "vqa-rad": "vgtool.benchmarks.vqa_rad:read",
    "slake": "vgtool.benchmarks.slake:read",
    "pairs": "vgtool.benchmarks.pairs:read",
    "pmc-vqa": "vgtool.benchmarks.pmc_vqa:read",
    "omnimedvqa": "vgtool.benchmarks.omnimedvqa:read",
    "mmmu": "vgtool.benchmarks.mmmu:read",
    "med-eval": "vgtool.benchmarks.med_eval:read",
    "lettered": "vgtool.benchmarks.lettered:read",
    "medthinkvqa": "vgtool.benchmarks.medthinkvqa:read",
    "medbookvqa": "vgtool.benchmarks.medbookvqa:read",
    "radimagenet-vqa": "vgtool.benchmarks.radimagenet:read",
    "vqa-med": "vgtool.benchmarks.vqa_med:read",
}
"""Reader key -> `module:function`. Outside packages add readers through the entry point group `vgtool.readers`."""
JOIN = "+"
"""Between the names of splits that are read together: train+test."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """All rows of one benchmark under one split and protocol."""

    name: str
    """Of the entry; a file's own name, without its folders."""
    split: str
    """One split, or several joined by `+`."""
    protocol: str
    domain: str
    samples: Sequence[Sample]
    rejected: Sequence[Rejected]
    digest: str
    """sha256 over every row's id, image id, prompt, reference, choices and boxes, sorted by id, so order is free."""
    decoding: Decoding
    rule: str
    notes: tuple[str, ...]
    """What a reader of the numbers must know: count differences, training rows selected, archives skipped."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Split -> rows read of it."""
    published: int | None = None
    """How many rows there should be; None where unknown, or where `limit` cut them off."""

    @property
    def image_ids(self) -> list[str]:
        """Each once, in the order of their first question."""
        if isinstance(self.samples, Packed):
            return self.samples.image_ids()
        return list(dict.fromkeys(sample.image_id for sample in self.samples))

    @property
    def is_file(self) -> bool:
        """A file in vgtool's own format, not an entry of the registry."""
        return is_data(self.name)

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
    box_format: str | None = None,
) -> Benchmark:
    """The rows of a benchmark, or of a file in vgtool's own format. `limit`: the first N rows.

    VgError for a name, split or protocol that is not there.
    """
    spec, root = find(name, data_root, registry)
    if protocol not in spec.protocols:
        raise VgError(f"Benchmark '{name}' has no protocol '{protocol}'.", did_you_mean(protocol, spec.protocols))
    chosen = spec.protocols[protocol]
    splits = split.split(JOIN) if split else list(chosen.splits or [spec.default_split])
    for one in splits:
        if one not in spec.splits or splits.count(one) > 1:
            raise VgError(f"Benchmark '{name}' has no split '{split}'.", did_you_mean(one, spec.splits))
    _check_box_format(box_format, spec)
    requests = [Request(spec, one, chosen, root, box_format, data_root) for one in splits]
    found = kept.collected(name, requests, limit, lambda: collect(name, requests, limit))
    published = None if limit is not None else expected(spec, chosen, splits, found.files)
    return Benchmark(
        Path(name).name if is_data(name) else name,
        JOIN.join(splits),
        protocol,
        spec.domain,
        found.samples,
        found.rejected,
        found.digest,
        Decoding(chosen.max_new_tokens, chosen.thinking_tokens),
        chosen.rule,
        (
            *_notes(spec, chosen, splits, len(found.samples), found.missing, found.rejected, published),
            *dict.fromkeys(found.notes),
        ),
        found.counts,
        published,
    )


def collect(name: str, requests: Sequence[Request], limit: int | None) -> Collected:
    """The rows of some splits, read. VgError for boxes that must be shares of their images, and are not called so."""
    found = Collector(dict.fromkeys((request.split for request in requests), 0))
    spec = requests[0].spec
    read = reader(spec.reader)
    for origin, row in islice(((request.split, row) for request in requests for row in read(request)), limit):
        found.add(origin, row)
    if requests[0].box_format is None:
        found.refuse_shares(name, {spec.box_format}.union(*(request.shares for request in requests)))
    files, notes = ([one for request in requests for one in getattr(request, kind)] for kind in ("files", "notes"))
    return found.end(files, notes)


def find(name: str, data_root: Path | None, registry: Path | None) -> tuple[BenchmarkSpec, Path | None]:
    """A benchmark's entry and its folder. A name that ends like a data file is a file in vgtool's own format."""
    from vgtool.benchmarks import own
    from vgtool.benchmarks.fetch import has_data, locate

    if not is_data(name):
        known = benchmarks(registry)
        if name not in known and Path(name).is_file():
            refuse(Path(name).name)
        spec = pick(known, name, "benchmarks.yaml")
        root = locate(spec, data_root)
        if registry is not None and spec.reader == "own" and (root is None or not has_data(spec, root)):
            root = registry if has_data(spec, registry) else root  # a built benchmark: entry and rows in one folder
        return spec, root
    path = Path(name)
    if not path.is_file() and data_root is not None and (data_root / path).is_file():
        path = data_root / path
    return own.entry(path), path.parent


def expected(
    spec: BenchmarkSpec, protocol: ProtocolSpec, splits: Sequence[str], files: Sequence[str] = ()
) -> int | None:
    """The published row count of these splits under a protocol; None where one of them is not known."""
    if files and not protocol.filter and set(files) <= set(spec.published):
        return sum(spec.published[name] for name in files)
    if JOIN.join(splits) in protocol.rows:
        return protocol.rows[JOIN.join(splits)]
    whole = {} if protocol.filter else spec.splits
    known = [protocol.rows.get(one, whole.get(one)) for one in splits]
    return None if None in known else sum(count for count in known if count is not None)


def _check_box_format(box_format: str | None, spec: BenchmarkSpec) -> None:
    if box_format is None:
        return
    from vgtool.benchmarks.boxes import BOX_FORMATS

    if box_format not in BOX_FORMATS:
        raise VgError(f"--box-format '{box_format}' is not known.", did_you_mean(box_format, BOX_FORMATS))
    if spec.box_format is None and spec.reader in set(READERS) - {"own"}:
        raise VgError(f"Benchmark '{spec.name}' has no boxes on disk.", "Leave --box-format out.")


def _notes(
    spec: BenchmarkSpec,
    protocol: ProtocolSpec,
    splits: Sequence[str],
    samples: int,
    missing: int,
    rejected: Sequence[Rejected],
    published: int | None,
) -> Iterator[str]:
    rows = samples + len(rejected)
    if published is not None and published != rows:
        yield f"{rows:,} rows, where {published:,} are published."
    if trained := [split for split in splits if split.startswith("train")]:
        yield f"Rows of {' and '.join(trained)} are included: fine for a zero-shot model, wrong for one tuned on them."
    if not spec.has_answers:
        yield "This benchmark has no answers: it measures where a model looks, never accuracy."
    elif missing:
        yield f"{missing:,} rows have no answer on disk: they can be probed, not scored."
    impossible = sum("is impossible as" in row.reason for row in rejected)
    if impossible > rows / 100:
        yield f"{impossible:,} of {rows:,} rows have impossible boxes; --box-format reads them another way."
    if protocol.note:
        yield protocol.note


def reader(key: str) -> Reader:
    """The reader behind a registry key, built in or from an installed package."""
    outside = {point.name: point for point in entry_points(group="vgtool.readers")}
    if key in READERS:
        module, _, function = READERS[key].partition(":")
        return getattr(importlib.import_module(module), function)
    if key in outside:
        return outside[key].load()
    raise VgError(f"No benchmark reader '{key}'.", did_you_mean(key, [*READERS, *outside]))
