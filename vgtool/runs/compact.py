"""Small parts of a shard merged into larger ones, so that a million rows are not fifteen thousand files.

They are joined in their order, rows as they are. A merged part is visible whole or not at all, and names the parts it
was made of: from then on readers leave those out, and they are deleted. So a death at any point loses nothing and
doubles nothing, and the next merge deletes what is left. Other shards' parts are never touched.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vgtool.runs.parts import MERGED, DamagedPart, check_digest, encoded, merged, named, read_table
from vgtool.runs.shard import Shard
from vgtool.runs.whole import save

SMALL = 4_000_000
"""Bytes below which a part is small."""
LEAST = 16
"""Small parts from which merging is worth it."""
LARGE = 64_000_000
"""Bytes of rows in memory, uncompressed, that a merged part holds at most."""


def compact(root: Path, shard: Shard, stopped: Callable[[], bool] = lambda: False) -> int:
    """Merge a shard's small parts; how many went. OSError when the disk will not take a merged part: the small ones
    stay then."""
    parts = root / "parts"
    own = sorted(parts.glob(f"{shard.name}-*.parquet"))
    gone = _left_over(own)
    for path in gone:
        path.unlink(missing_ok=True)
    small = [path for path in own if path not in gone and path.stat().st_size < SMALL]
    if len(small) < LEAST:
        return len(gone)
    count = len(gone)
    for paths, table in _joined(small):
        if stopped():
            break
        names = json.dumps([path.name for path in paths]).encode()
        data = encoded(table.replace_schema_metadata({**(table.schema.metadata or {}), MERGED: names}))
        save(parts / named(shard, int(paths[0].stem.split("-")[1]), data), data)
        for path in paths:
            path.unlink(missing_ok=True)
        count += len(paths)
    return count


def _left_over(own: list[Path]) -> set[Path]:
    """Parts that a whole merged part stands for: an earlier compaction was killed before it deleted them."""
    found, known = set[Path](), set(own)
    for path in own:
        try:
            names = merged(pq.read_metadata(path).metadata)
            there = [small for name in names if (small := path.with_name(name)) in known]
            if there:
                check_digest(path)
                found.update(there)
        except (DamagedPart, pa.ArrowException):  # the next run sets it aside
            continue
    return found


def _joined(small: list[Path]) -> Iterator[tuple[list[Path], pa.Table]]:
    """Two or more parts of one form at a time, and their rows."""
    paths, tables, size = list[Path](), list[pa.Table](), 0
    for path in [*small, None]:
        table = _whole(path) if path else None
        if path and table is None:
            continue
        full = table is None or size + table.nbytes > LARGE or (tables and table.schema != tables[0].schema)
        if full and len(paths) > 1:
            yield paths, pa.concat_tables(tables).combine_chunks()
        if full:
            paths, tables, size = [], [], 0
        if path and table is not None:
            paths, tables, size = [*paths, path], [*tables, table], size + table.nbytes


def _whole(path: Path) -> pa.Table | None:
    """The rows of a part without what it was merged from; None when it is damaged, or gone."""
    try:
        check_digest(path)
        table = read_table(path)
    except (DamagedPart, FileNotFoundError):
        return None
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != MERGED}
    return table.replace_schema_metadata(metadata or None)
