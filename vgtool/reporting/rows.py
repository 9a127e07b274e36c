"""Heavy columns of a run, its maps and masks, streamed from its parts a few rows at a time."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vgtool.grounding.metrics import relative_attention
from vgtool.reporting.heat import CAP
from vgtool.runs.store import Store

BATCH = 64
MAPS = ("sample_id", "grid_rows", "grid_cols", "attention", "general_attention")
MASKS = ("sample_id", "method", "grid_rows", "grid_cols", "kept", "triage")
Row = dict[str, Any]


def heavy_rows(
    run: Path, wanted: Sequence[str], ids: Collection[str] | None = None, *, whole: bool = False
) -> Iterator[Row]:
    """Those of the wanted columns that a run's parts have, row by row, lists as arrays. `ids`: of these samples;
    `whole`: of parts that have all columns."""
    seen = set[str]()
    while left := new_parts(run, seen):
        for part in left:
            try:
                file = pq.ParquetFile(part)
            except FileNotFoundError:  # merged into a larger one meanwhile
                break
            seen.add(part.name)
            with file:
                if not whole or set(wanted) <= set(file.schema_arrow.names):
                    yield from rows_of(file, wanted, ids)


def new_parts(run: Path, seen: Collection[str]) -> list[Path]:
    """The whole parts of a run but for those seen; none of a file."""
    return [part for part in Store(run).parts()[0] if part.name not in seen] if run.is_dir() else []


def rows_of(file: pq.ParquetFile, wanted: Sequence[str], ids: Collection[str] | None = None) -> Iterator[Row]:
    """The same of one part."""
    if ids is not None:
        known = file.read(["sample_id"]).column(0)
        if not pc.any(pc.is_in(known, pa.array(ids, known.type))).as_py():
            return
    names = [name for name in wanted if name in file.schema_arrow.names]
    for batch in file.iter_batches(BATCH, columns=names, use_threads=False):
        columns = [_values(batch.column(name)) for name in names]
        for values in zip(*columns, strict=True):
            row = dict(zip(names, values, strict=True))
            if ids is None or row["sample_id"] in ids:
                yield row


def _values(column: pa.Array) -> Sequence[Any]:
    """A column's values, lists as arrays."""
    if not isinstance(column, pa.ListArray):
        return column.to_pylist()  # type: ignore[no-any-return]
    flat, ends = column.values.to_numpy(zero_copy_only=False), column.offsets.to_numpy()
    valid = column.is_valid().to_pylist()
    return [flat[ends[at] : ends[at + 1]] if known else None for at, known in enumerate(valid)]


def both_maps(row: Row) -> tuple[np.ndarray, np.ndarray] | None:
    """The question's and the general prompt's map [L, T] of a row; None where they are not kept."""
    question, general = row.get("attention"), row.get("general_attention")
    tokens = (row.get("grid_rows") or 0) * (row.get("grid_cols") or 0)
    if question is None or general is None or not tokens or question.size != general.size or question.size % tokens:
        return None
    return question.reshape(-1, tokens), general.reshape(-1, tokens)


def relative_maps(run: Path, ids: Collection[str]) -> dict[str, np.ndarray]:
    """Sample -> [L, rows, cols] relative attention, at most CAP, of those that kept their maps."""
    found: dict[str, np.ndarray] = {}
    for row in heavy_rows(run, MAPS, ids):
        maps = both_maps(row)
        if maps is not None and row["sample_id"] not in found:
            relative = np.minimum(relative_attention(*maps), CAP)
            found[row["sample_id"]] = relative.reshape(-1, row["grid_rows"], row["grid_cols"])
    return found


def visible(kept: np.ndarray, tokens: int) -> np.ndarray:
    """[T] 1 for the kept tokens of the first image; those of further images are not on its picture."""
    found = np.zeros(tokens, np.uint8)
    found[kept[kept < tokens].astype(np.int64)] = 1
    return found
