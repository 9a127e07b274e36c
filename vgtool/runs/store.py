"""A run folder: what run it is (run.json), immutable Parquet parts, and which shards are finished.

    run.json                            identity; a rerun with another one is refused by the name of the field
    parts/<shard>-<n>-<digest>.parquet  immutable; written to a temporary sibling, synced, then renamed
    done/<shard>                        empty, written last
    open/<image>-<sample>-<process>     empty: an image under way; what is left behind tells of a death
    killed/<sample>                     why a sample that ended its process twice is not tried again
    grown/<n>-<digest>.json             rows and methods that a later command added; immutable
Resume is the set of ids that whole parts hold. No lock is needed: two processes on one shard write two sets of parts
whose rows are equal, and readers take the first of each (sample_id, method). Nothing here looks at file times.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vgtool.errors import StorageError, VgError
from vgtool.runs.growth import Older, add, grown
from vgtool.runs.process import gone, me
from vgtool.runs.shard import Shard
from vgtool.runs.whole import MAKE_ROOM, save

_STARTS = count()
"""Tells apart what one process starts twice."""
FOLDERS = ("parts", "done", "open", "killed", "grown")


class DamagedPart(Exception):
    """A part that cannot be read in full."""


@dataclass(frozen=True, slots=True)
class Store:
    """One run folder."""

    root: Path

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
        except OSError:
            raise VgError(f"'{self.root}' is no run folder: it has no run.json.", "Name the --out of a run.") from None
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
        good, bad = [], []
        for path in sorted((self.root / "parts").glob("*.parquet")):
            try:
                pq.read_metadata(path)
                good.append(path)
            except (pa.ArrowException, OSError):
                bad.append(path)
        return good, bad

    def held(
        self, wanted: Collection[str], say: Callable[[str], None] = lambda text: None
    ) -> dict[str, dict[str, str]]:
        """Of `wanted` ids, the labels whose rows are there (one, "", in a probe), each with its error (empty: none).
        Parts that hold any of them are digested in full; a damaged part is set aside under its name and `.bad`, and its
        samples count as not done."""
        found: dict[str, dict[str, str]] = {}
        ids = set(wanted)
        for path in sorted((self.root / "parts").glob("*.parquet")):
            try:
                named = "method" in pq.read_schema(path).names
                rows = read_part(path, ["sample_id", *(["method"] if named else []), "error"])
                if ids.isdisjoint(rows["sample_id"].to_list()):
                    continue
                check_digest(path)
            except FileNotFoundError:  # another process has set it aside
                continue
            except (DamagedPart, pa.ArrowException) as error:
                aside = path.with_name(f"{path.name}.bad")
                try:
                    os.replace(path, aside)
                except FileNotFoundError:
                    continue
                why = str(error).splitlines()[0]
                say(f"'{path.name}' is damaged ({why}): set aside as {aside.name}, its samples are computed again.")
                continue
            for row in rows.iter_rows():
                if row[0] in ids:
                    found.setdefault(row[0], {}).setdefault(row[1] if named else "", row[-1] or "")
        return found

    def finished(
        self, labels: Collection[str], wanted: Collection[str], say: Callable[[str], None] = lambda text: None
    ) -> dict[str, str]:
        """Ids of `wanted` whose rows are all there, under every label, each with its first error (empty: none)."""
        held = self.held(wanted, say)
        return {
            name: next((error for error in rows.values() if error), "")
            for name, rows in held.items()
            if all(label in rows for label in labels)
        }

    def errors(self) -> dict[str, str]:
        """Sample id -> its error (empty: none), of everything that whole parts hold."""
        found: dict[str, str] = {}
        for path in self.parts()[0]:
            for name, error in read_part(path, ["sample_id", "error"]).iter_rows():
                found[name] = found.get(name) or error or ""
        return found

    def write(self, shard: Shard, number: int, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
        """One part, visible whole or not at all. StorageError when the disk will not take it."""
        columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
        table = pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        data = sink.getvalue().to_pybytes()
        path = self.root / "parts" / f"{shard.name}-{number:05d}-{_digest(data)}.parquet"
        try:
            save(path, data)
        except OSError as error:
            raise StorageError(f"Cannot write '{path}': {error.strerror or error}.", MAKE_ROOM) from None

    def mark(self, shard: Shard) -> None:
        """The shard is finished."""
        try:
            (self.root / "done" / shard.name).touch()
        except OSError as error:
            raise StorageError(f"Cannot mark shard {shard.name}: {error.strerror or error}.", MAKE_ROOM) from None

    def unmark(self, shard: Shard) -> None:
        """The shard has work to do, whatever an earlier run said (a part of it was damaged since)."""
        (self.root / "done" / shard.name).unlink(missing_ok=True)

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

    # ---- images under way --------------------------------------------------------------------------------------

    def begin(self, image: str, sample: str = "all") -> Path:
        """Note that this process starts on an image (or on one sample of it)."""
        path = self.root / "open" / f"{image}-{sample}-{me()}-{next(_STARTS)}"
        try:
            path.touch(exist_ok=False)
        except OSError as error:
            raise StorageError(f"Cannot write '{path}': {error.strerror or error}.", MAKE_ROOM) from None
        return path

    def under_way(self) -> list["Open"]:
        """Every note of `begin` that is still there."""
        notes = []
        for path in (self.root / "open").glob("*-*-*"):
            image, sample, rest = path.name.split("-", 2)
            notes.append(Open(image, sample, rest.rpartition("-")[0]))
        return notes

    def settle(self, image: str) -> None:
        """Forget every start on an image: it has come to an end."""
        for path in (self.root / "open").glob(f"{image}-*"):
            path.unlink(missing_ok=True)

    def condemn(self, sample: str, why: str) -> None:
        """Never try a sample again."""
        try:
            save(self.root / "killed" / sample, why.encode())
        except OSError as error:
            raise StorageError(f"Cannot write in '{self.root}': {error.strerror or error}.", MAKE_ROOM) from None

    def condemned(self) -> dict[str, str]:
        """Key of each sample that is not tried again -> why."""
        return {p.name: p.read_text("utf-8") for p in (self.root / "killed").glob("*") if not p.name.startswith(".")}


@dataclass(frozen=True, slots=True)
class Open:
    """An image that was begun and has not come to an end."""

    image: str
    sample: str
    """`all`, or the key of the one sample that was tried by itself."""
    process: str


def key(*names: str) -> str:
    """A short name of an image or sample that is safe in a file name."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


def read_part(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Columns of a part (all: None), page checksums verified. DamagedPart when it is not whole; StorageError when
    the disk fails; FileNotFoundError when it is gone."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            lacking = set(columns or ()) - set(file.schema_arrow.names)
            if lacking:
                raise DamagedPart(f"no column {', '.join(sorted(lacking))}")
            found = pl.from_arrow(file.read(columns))
    except FileNotFoundError:
        raise
    except OSError as error:  # Arrow reports a failed checksum as one without a number
        if error.errno is not None:
            raise StorageError(f"Cannot read '{path}': {error.strerror}.", "Check the disk, then run again.") from None
        raise DamagedPart(str(error).splitlines()[0]) from None
    except pa.ArrowException as error:
        raise DamagedPart(str(error).splitlines()[0]) from None
    assert isinstance(found, pl.DataFrame)
    return found


def check_digest(path: Path) -> None:
    """DamagedPart when a part's bytes are not those its name was made of; FileNotFoundError when it is gone."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"Cannot read '{path}': {error.strerror}.", "Check the disk, then run again.") from None
    if path.stem.rpartition("-")[2] != _digest(data):
        raise DamagedPart("its bytes are not those that were written")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
