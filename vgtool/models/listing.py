"""What `vgtool models` shows: each entry, whether it is on disk, and what to know before running it. No torch here."""

from collections.abc import Iterable
from typing import Any

from vgtool.models import hub
from vgtool.registry import ModelSpec

SHOWN = ("model", "disk", "size", "license", "grid", "layers x heads")
"""What the table shows; JSON has every key."""


def rows(specs: Iterable[ModelSpec]) -> list[dict[str, Any]]:
    """One mapping per entry, in the registry's order."""
    return [_row(spec) for spec in specs]


def _row(spec: ModelSpec) -> dict[str, Any]:
    return {
        "model": spec.name,
        "title": spec.title,
        "disk": _disk(spec),
        "size": f"{spec.size_gb:g} GB" if spec.size_gb else "",
        "license": spec.license + (" (gated)" if spec.gated else ""),
        "grid": spec.grid or "",
        "layers x heads": f"{spec.layers} x {spec.heads}" if spec.layers and spec.heads else "",
        "parameters": spec.parameters,
        "adapter": spec.adapter,
        "hub": spec.hub,
        "revision": spec.revision if spec.hub else None,
        "fetch": hub.fetch_command(spec) if spec.hub else None,
        "knockout_layers": spec.knockout_layers,
        "published_heads": len(spec.heads_ranked or ()),
        "boxes": f"{spec.boxes.scale}, {spec.boxes.frame} image" if spec.boxes else "no training known",
        "notes": spec.notes,
        "unverified": spec.unverified,
    }


def _disk(spec: ModelSpec) -> str:
    if spec.embedded:
        return "inside vgtool" if hub.embedded_folder(spec).is_dir() else "no"
    if spec.hub is None:
        return "local only"
    return "yes" if hub.cached_folder(spec) else "no"


def notes(listed: Iterable[dict[str, Any]]) -> list[str]:
    """Lines to print below the table."""
    out = []
    for row in listed:
        out.append(f"{row['model']} ({row['title']})")
        out += [f"  {note}" for note in row["notes"]]
        out += [f"  Unverified: {note}" for note in row["unverified"]]
    return out
