"""Whether a command goes on with a run, adds to it, or is another one: more rows and more methods go on in the same
folder, each method at the settings it has there.

    rows, data_digest   may grow, when the first of the new rows are the old ones
    methods, settings   may grow; a method that is there already must have the settings it was run with
    heads, knockout_layers, seed   compared for the methods that use them, in their settings
    everything else     must be the same
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from vgtool.errors import VgError

Older = Callable[[int], str]
"""The digest of a benchmark's first N rows."""
OWN = ("heads", "knockout_layers", "seed")
"""Of a refine run: what its settings say method by method."""


def grown(
    root: Path,
    found: Mapping[str, Any],
    kind: str,
    wanted: Mapping[str, Any],
    older: Older | None = None,
    whole: bool = True,
) -> dict[str, Any]:
    """What a run (kind and identity `found` in `root`) must grow by to be `wanted` too; empty when it is already.
    VgError names what makes it another run. `whole`: False compares only what `wanted` says."""
    if found["kind"] != kind:
        raise VgError(f"'{root}' holds a {found['kind']} run, not a {kind} run.", "Choose another --out.")
    old = found["identity"]
    by_method = "settings" in old and "settings" in wanted
    apart = {"rows", "data_digest", *(("methods", "settings", *OWN) if by_method else ())}
    names = [*wanted, *sorted(old.keys() - wanted.keys())] if whole else [*wanted]
    for name in names:
        if name not in apart and old.get(name) != wanted.get(name):
            raise _differs(root, name, old.get(name), wanted.get(name))
    rows = _rows(root, old, wanted, older) if "rows" in wanted or whole else {}
    return {**rows, **(_methods(root, old, wanted) if by_method else {})}


def _rows(root: Path, old: Mapping[str, Any], wanted: Mapping[str, Any], older: Older | None) -> dict[str, Any]:
    rows, now, digest = old.get("rows"), wanted.get("rows"), wanted.get("data_digest")
    if rows == now:
        if old.get("data_digest") != digest:
            raise _differs(root, "data_digest", old.get("data_digest"), digest)
        return {}
    if not isinstance(rows, int) or not isinstance(now, int) or now < rows or older is None:
        raise _differs(root, "rows", rows, now, "rows (--limit, --split)")
    if older(rows) != old.get("data_digest"):
        raise VgError(
            f"'{root}' was made on {rows:,} rows, which are not the first of these {now:,}.",
            "Choose another --out; only rows that were added at the end go on in a run.",
        )
    return {"rows": now, "data_digest": digest}


def _methods(root: Path, old: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    more = [label for label in wanted["methods"] if label not in old["methods"]]
    for label, now in wanted["settings"].items():
        before = old["settings"].get(label, now)
        for name in [*now, *sorted(before.keys() - now.keys())]:
            if before.get(name) != now.get(name):
                raise _differs(root, f"{label}: {name}", before.get(name), now.get(name))
    if not more:
        return {}
    own = {name: wanted[name] for name in OWN if wanted.get(name) and not old.get(name)}
    settings = {label: now for label, now in wanted["settings"].items() if label in more}
    return {"methods": more, "settings": settings, **own}


def add(identity: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Lay one file of `grown/` over an identity."""
    if more.get("rows", 0) > identity.get("rows", 0):
        identity |= {"rows": more["rows"], "data_digest": more["data_digest"]}
    if "methods" in more:
        identity["methods"] = [*dict.fromkeys([*identity["methods"], *more["methods"]])]
        identity["settings"] = {**more["settings"], **identity["settings"]}
    for name in OWN:
        if more.get(name) and not identity.get(name):
            identity[name] = more[name]


def turns(
    labels: tuple[str, ...], held: Mapping[str, Mapping[str, str]], ids: Iterable[str]
) -> dict[tuple[str, ...], set[str]]:
    """The labels that samples lack -> those samples; a sample with all of them is in none."""
    found: dict[tuple[str, ...], set[str]] = {}
    for name in ids:
        lacking = tuple(label for label in labels if label not in held.get(name, {}))
        if lacking:
            found.setdefault(lacking, set()).add(name)
    return found


def _differs(root: Path, name: str, old: Any, new: Any, what: str = "setting") -> VgError:
    return VgError(
        f"'{root}' was made with {name} = {_short(old)}, now it is {_short(new)}.",
        f"Choose another --out, or run with the old {what} to complete it.",
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
