"""What `vgtool benchmarks` shows: each entry, and how many of its rows are on disk."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vgtool.benchmarks.fetch import rows_on_disk
from vgtool.registry import BenchmarkSpec

SHOWN = ("benchmark", "domain", "rows on disk", "splits", "protocols", "license")
"""What the table shows; JSON has every key."""
WIDTH = 34
"""Characters of a cell; the rest stands where one entry is shown in full."""


def rows(specs: Iterable[BenchmarkSpec], data_root: Path | None) -> list[dict[str, Any]]:
    """One mapping per entry, in the registry's order."""
    return [
        {
            "benchmark": spec.name,
            "domain": spec.domain,
            "rows on disk": "built in" if spec.reader == "phantom" else rows_on_disk(spec, data_root),
            "splits": dict(spec.splits),
            "protocols": {name: one.model_dump(exclude_defaults=True) for name, one in spec.protocols.items()},
            "license": spec.license,
            "title": spec.title,
            "hub": spec.hub,
            "notes": spec.notes,
            "unverified": spec.unverified,
        }
        for spec in specs
    ]


def shown(listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same for the terminal."""
    out = []
    for row in listed:
        cells = {key: row[key] for key in SHOWN}
        cells["splits"] = ", ".join(f"{name} {count:,}" if count else name for name, count in row["splits"].items())
        cells["protocols"] = ", ".join(row["protocols"])
        cells["rows on disk"] = "-" if row["rows on disk"] is None else row["rows on disk"]
        out.append({key: textwrap.shorten(str(cell), WIDTH, placeholder=" ...") for key, cell in cells.items()})
    return out
