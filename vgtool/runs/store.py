"""A run folder: what run it is (run.json), immutable Parquet parts, and which shards are finished.

    run.json                          identity; a rerun with another one is refused by the name of the field
    parts/<shard>-<n>-<random>.parquet  written to a temporary sibling, read back, then renamed
    done/<shard>                      empty, written last
Resume is the set of ids that valid parts hold. No lock is needed: two processes on one shard write two sets of parts
whose rows are equal, and readers take the first of each (sample_id, method).
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vgtool.errors import StorageError, VgError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count`, 1-based: images are dealt by position."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`I/N` with 1 <= I <= N."""
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
            raise VgError(f"--shard '{text}' is not I/N with 1 <= I <= N.", "For four processes: 1/4, 2/4, 3/4, 4/4.")
        return cls(int(index), int(count))

    @property
    def name(self) -> str:
        return f"{self.index}of{self.count}"


@dataclass(frozen=True, slots=True)
class Store:
    """One run folder."""

    root: Path

    def open(self, kind: str, identity: Mapping[str, Any], notes: Sequence[str]) -> None:
        """Create the folder, or check that it holds this very run. VgError names the field that differs."""
        record = {"kind": kind, "identity": dict(identity), "notes": list(notes)}
        path = self.root / "run.json"
        try:
            for folder in ("parts", "done"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            if not path.exists():
                temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
                temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                os.replace(temporary, path)
                return
        except OSError as error:
            raise VgError(f"Cannot write in '{self.root}': {error.strerror}.", "Choose another --out.") from None
        found = self.read()
        if found["kind"] != kind:
            raise VgError(f"'{self.root}' holds a {found['kind']} run, not a {kind} run.", "Choose another --out.")
        wanted = json.loads(json.dumps(record["identity"]))
        for name in sorted(wanted.keys() | found["identity"].keys()):
            old, new = found["identity"].get(name), wanted.get(name)
            if old != new:
                raise VgError(
                    f"'{self.root}' was made with {name} = {_short(old)}, now it is {_short(new)}.",
                    "Choose another --out, or run with the old setting to complete it.",
                )

    def read(self) -> dict[str, Any]:
        """run.json. VgError when this is no run folder."""
        try:
            found = json.loads((self.root / "run.json").read_text(encoding="utf-8"))
            return {"kind": found["kind"], "identity": found["identity"], "notes": found.get("notes", [])}
        except OSError:
            raise VgError(f"'{self.root}' is no run folder: it has no run.json.", "Name the --out of a run.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise VgError(f"'{self.root / 'run.json'}' is damaged: {error}.", "Restore it, or start over.") from None

    def parts(self) -> tuple[list[Path], list[Path]]:
        """(valid parts, damaged ones), by name."""
        good, bad = [], []
        for path in sorted((self.root / "parts").glob("*.parquet")):
            try:
                pq.read_metadata(path)
                good.append(path)
            except (pa.ArrowInvalid, OSError):
                bad.append(path)
        return good, bad

    def finished(self, rows_per_sample: int) -> set[str]:
        """Ids whose rows are all there."""
        good, _ = self.parts()
        if not good:
            return set()
        columns = ["sample_id", *(["method"] if rows_per_sample > 1 else [])]
        rows = pl.concat([pl.read_parquet(path, columns=columns) for path in good]).unique()
        counts = rows.group_by("sample_id").len().filter(pl.col("len") >= rows_per_sample)
        return set(counts["sample_id"])

    def write(self, shard: Shard, number: int, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
        """One part, visible whole or not at all. StorageError when the disk will not take it."""
        name = f"{shard.name}-{number:05d}-{secrets.token_hex(4)}.parquet"
        final = self.root / "parts" / name
        temporary = final.with_suffix(".tmp")
        columns = {field.name: [row.get(field.name) for row in rows] for field in schema}
        table = pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)
        try:
            pq.write_table(table, temporary, compression="zstd")
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            if pq.read_metadata(temporary).num_rows != len(rows):
                raise StorageError(f"'{temporary}' did not keep its rows.", "Check the disk, then run again.")
            os.replace(temporary, final)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(
                f"Cannot write '{final}': {error.strerror or error}.",
                "What is written stays; make room and run the same command again.",
            ) from None

    def mark(self, shard: Shard) -> None:
        """The shard is finished."""
        (self.root / "done" / shard.name).touch()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
