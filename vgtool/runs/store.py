"""A run folder: what run it is (run.json), immutable Parquet parts, and which shards are finished.

    run.json                            identity; a rerun with another one is refused by the name of the field
    parts/<shard>-<n>-<digest>.parquet  immutable; written to a temporary sibling, synced, then renamed
    done/<shard>                        empty, written last
    open/<image>-<sample>-<process>     empty: an image under way; what is left behind tells of a death
    tried/<sample>, <image>-all         empty: did not end the process in which it was tried alone
    killed/<sample>                     why a sample that ended its process twice is not tried again
    grown/<n>-<digest>.json             rows and methods that a later command added; immutable
Resume is the set of ids that whole parts hold. No lock is needed: two processes on one shard write two sets of parts
whose rows are equal, and readers take the first of each (sample_id, method). Nothing here looks at file times.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow as pa

from vgtool.errors import StorageError, VgError
from vgtool.runs.growth import Older, add, grown
from vgtool.runs.notes import Notes
from vgtool.runs.parts import DamagedPart, Rows, described, encoded, listed, named, read_part, rows_of
from vgtool.runs.process import gone
from vgtool.runs.shard import Shard
from vgtool.runs.whole import remedy, save

Read = TypeVar("Read")
FOLDERS = ("parts", "done", "open", "tried", "killed", "grown")


class Store(Notes):
    """One run folder."""

    __slots__ = ()

    # ---- identity ----------------------------------------------------------------------------------------------

    def open(
        self,
        kind: str,
        identity: Mapping[str, Any],
        notes: Sequence[str],
        recorded: Mapping[str, Any] | None = None,
        older: Older | None = None,
    ) -> None:
        """Create the folder, or check that it holds this very run or a part of it. VgError names what differs.

        `recorded`: settings that are kept for a reader but may change on resume. `older`: as for `grown`.
        """
        record = {"kind": kind, "identity": dict(identity), "notes": list(notes), "recorded": dict(recorded or {})}
        try:
            for folder in FOLDERS:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            if not (self.root / "run.json").exists():
                text = json.dumps(record, indent=1, sort_keys=True) + "\n"
                save(self.root / "run.json", text.encode(), exclusive=True)
            self._sweep()
            found = self.read()
            if more := grown(self.root, found, kind, json.loads(json.dumps(record["identity"])), older):
                roles = (recorded or {}).get("roles", {})
                more |= {"roles": {label: roles[label] for label in more.get("methods", ()) if label in roles}}
                text = json.dumps(more, indent=1, sort_keys=True) + "\n"
                number = sum(1 for _ in (self.root / "grown").glob("*.json"))
                name = f"{number:04d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
                save(self.root / "grown" / name, text.encode(), exclusive=True)
        except OSError as error:
            raise VgError(f"Cannot write in '{self.root}': {error.strerror}.", "Choose another --out.") from None

    def compare(self, kind: str, known: Mapping[str, Any], older: Older | None = None) -> None:
        """Refuse what `open` would, from what is known of an identity before a model is loaded."""
        if (self.root / "run.json").exists():
            grown(self.root, self.read(), kind, json.loads(json.dumps(dict(known))), older, whole=False)

    def read(self) -> dict[str, Any]:
        """run.json, and what the run has grown by since. VgError when this is no run folder."""
        path = self.root / "run.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kind, identity, notes = found["kind"], found["identity"], found.get("notes", [])
            recorded = found.get("recorded", {})
            if not isinstance(identity, dict) or not isinstance(notes, list) or not isinstance(recorded, dict):
                raise ValueError("identity or notes are not what vgtool writes")
            for path in sorted((self.root / "grown").glob("[!.]*.json")):
                more = json.loads(path.read_text(encoding="utf-8"))
                add(identity, more)
                recorded["roles"] = {**more.get("roles", {}), **recorded.get("roles", {})}
            return {"kind": kind, "identity": identity, "notes": notes, "recorded": recorded}
        except (FileNotFoundError, NotADirectoryError):
            raise VgError(f"'{self.root}' is no run folder: it has no run.json.", "Name the --out of a run.") from None
        except OSError as error:
            raise VgError(f"Cannot read '{path}': {error.strerror}.", "Check the disk and its permissions.") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise VgError(f"'{path}' is damaged: {error}.", "Restore it, or start over.") from None

    def _sweep(self) -> None:
        """Remove temporary files of processes that are known to be dead."""
        for path in (p for folder in (".", "parts", "killed") for p in (self.root / folder).glob(".*.tmp")):
            if gone(path.name.removesuffix(".tmp").rpartition(".of.")[2].rpartition(".")[0]):
                path.unlink(missing_ok=True)

    # ---- parts -------------------------------------------------------------------------------------------------

    def parts(self) -> tuple[list[Path], list[Path]]:
        """(parts with a whole footer, the others), by name."""
        return listed(self.root)

    def frames(self, columns: Sequence[str] | None = None) -> tuple[list[pl.DataFrame], list[Path]]:
        """Columns of every whole part (all: None), and the damaged parts. VgError as `each`."""
        return self.each(lambda path: read_part(path, columns))

    def each(self, read: Callable[[Path], Read]) -> tuple[list[Read], list[Path]]:
        """What `read` makes of every whole part, and the damaged parts. VgError when one lacks a column or is damaged
        behind its footer."""
        while True:
            good, bad = self.parts()
            made = []
            try:
                for path in good:
                    made.append(read(path))
                return made, bad
            except FileNotFoundError:  # merged into a larger one since it was listed
                continue
            except DamagedPart as error:
                raise VgError(f"'{path}' is not a whole part of its run: {error}.", "Run its command again.") from None

    def held(
        self, wanted: Collection[str], say: Callable[[str], None] = lambda text: None
    ) -> dict[str, Mapping[str, str]]:
        """Of `wanted` ids, the labels whose rows are there (one, "", in a probe), each with its error (empty: none).
        Parts that hold any of them are digested in full; a damaged part is set aside under its name and `.bad`, and its
        samples count as not done."""
        ids = wanted if isinstance(wanted, Set) else set(wanted)
        while True:
            found: dict[str, Mapping[str, str]] = {}
            alike: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
            try:
                for path, rows in rows_of(sorted((self.root / "parts").glob("*.parquet")), ids):
                    if isinstance(rows, DamagedPart):
                        self._set_aside(path, rows, say)
                    elif isinstance(rows, Exception):
                        raise rows
                    else:
                        _gather(rows, ids, found, alike)
                return found
            except FileNotFoundError:  # merged or set aside by another process since it was listed
                continue

    def _set_aside(self, path: Path, why: DamagedPart, say: Callable[[str], None]) -> None:
        aside = path.with_name(f"{path.name}.bad")
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            return
        told = str(why).splitlines()[0]
        say(f"'{path.name}' is damaged ({told}): set aside as {aside.name}, its samples are computed again.")

    def finished(
        self, labels: Collection[str], wanted: Collection[str], say: Callable[[str], None] = lambda text: None
    ) -> dict[str, str]:
        """Ids of `wanted` whose rows are all there, under every label, each with its first error (empty: none)."""
        return complete(labels, self.held(wanted, say))

    def errors(self) -> dict[str, str]:
        """Sample id -> its error (empty: none), of everything that whole parts hold."""
        found: dict[str, str] = {}
        for rows in self.frames(["sample_id", "error"])[0]:
            for name, error in rows.iter_rows():
                found[name] = found.get(name) or error or ""
        return found

    def write(self, shard: Shard, number: int, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
        """One part, visible whole or not at all. StorageError when the disk will not take it."""
        data = encoded(described({field.name: [row.get(field.name) for row in rows] for field in schema}, schema))
        path = self.root / "parts" / named(shard, number, data)
        try:
            save(path, data)
        except OSError as error:
            raise StorageError(f"Cannot write '{path}': {error.strerror or error}.", remedy(error)) from None

    def mark(self, shard: Shard) -> None:
        """The shard is finished."""
        try:
            (self.root / "done" / shard.name).touch()
        except OSError as error:
            raise StorageError(f"Cannot mark shard {shard.name}: {error.strerror or error}.", remedy(error)) from None

    def unmark(self, shard: Shard) -> None:
        """The shard has work to do, whatever an earlier run said (a part of it was damaged since)."""
        try:
            (self.root / "done" / shard.name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot unmark shard {shard.name}: {error.strerror or error}.", remedy(error)) from None

    def marked(self, shard: Shard) -> bool:
        return (self.root / "done" / shard.name).exists()

    def require_space(self, need: int) -> None:
        """StorageError when the disk has less than `need` bytes left."""
        free = shutil.disk_usage(self.root).free
        if free < need:
            raise StorageError(
                f"'{self.root}' has {free / 1e6:,.1f} MB left, and the rows to come take about {need / 1e6:,.1f} MB.",
                "Make room, choose another --out, or keep fewer maps (--maps none).",
            )


def complete(labels: Collection[str], held: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Of what is `held`, the ids with rows under every label, each with its first error (empty: none)."""
    return {
        name: next((error for error in rows.values() if error), "")
        for name, rows in held.items()
        if all(label in rows for label in labels)
    }


def _gather(
    rows: Rows,
    ids: Set[str],
    found: dict[str, Mapping[str, str]],
    alike: dict[tuple[tuple[str, str], ...], Mapping[str, str]],
) -> None:
    """Add a part's rows to what is held. Most samples hold the same labels without an error, so they share one record:
    `alike` has each that there is."""
    for name, some in groupby(rows, key=itemgetter(0)):
        if name in ids:
            told = {**{label: error for _, label, error in reversed([*some])}, **found.get(name, {})}
            found[name] = alike.setdefault(tuple(told.items()), told)
