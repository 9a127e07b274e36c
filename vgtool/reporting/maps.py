"""Heatmaps and masks of samples, streamed from a run's parts a few rows at a time and kept as bytes.

Each layer of each map is scaled by its own greatest value, which is kept beside it.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vgtool.grounding.metrics import relative_attention
from vgtool.reporting.heat import CAP
from vgtool.reporting.inputs import Source
from vgtool.reporting.pack import RUNS, Pack
from vgtool.runs.store import Store

BATCH = 64
MAPS = ("sample_id", "grid_rows", "grid_cols", "attention", "general_attention")
MASKS = ("sample_id", "method", "grid_rows", "grid_cols", "kept", "triage")
Place = dict[str, Any]


def number(value: Any) -> float | None:
    """Four digits; None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def heavy_rows(
    one: Source, wanted: Sequence[str], ids: Collection[str] | None = None, *, whole: bool = False
) -> Iterator[dict[str, Any]]:
    """Those of the wanted columns that a run's parts have, row by row, lists as arrays. `ids`: of these samples;
    `whole`: of parts that have all columns."""
    for file in _opened(one.run.path) if one.run.path.is_dir() else ():
        with file:
            names = [name for name in wanted if name in file.schema_arrow.names]
            if whole and len(names) < len(wanted):
                continue
            if ids is not None:
                known = file.read(["sample_id"]).column(0)
                if not pc.any(pc.is_in(known, pa.array(ids, known.type))).as_py():
                    continue
            for batch in file.iter_batches(BATCH, columns=names, use_threads=False):
                columns = [_values(batch.column(name)) for name in names]
                for values in zip(*columns, strict=True):
                    row = dict(zip(names, values, strict=True))
                    if ids is None or row["sample_id"] in ids:
                        yield row


def _opened(run: Path) -> Iterator[pq.ParquetFile]:
    """The whole parts of a run. One that is merged into a larger one meanwhile comes again in that one."""
    seen = set[str]()
    while left := [part for part in Store(run).parts()[0] if part.name not in seen]:
        for part in left:
            try:
                file = pq.ParquetFile(part)
            except FileNotFoundError:
                break
            seen.add(part.name)
            yield file


def _values(column: pa.Array) -> Sequence[Any]:
    """A column's values, lists as arrays."""
    if not isinstance(column, pa.ListArray):
        return column.to_pylist()  # type: ignore[no-any-return]
    flat, ends = column.values.to_numpy(zero_copy_only=False), column.offsets.to_numpy()
    valid = column.is_valid().to_pylist()
    return [flat[ends[at] : ends[at + 1]] if known else None for at, known in enumerate(valid)]


def both_maps(row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """The question's and the general prompt's map [L, T] of a row; None where they are not kept."""
    question, general = row.get("attention"), row.get("general_attention")
    tokens = (row.get("grid_rows") or 0) * (row.get("grid_cols") or 0)
    if question is None or general is None or not tokens or question.size != general.size or question.size % tokens:
        return None
    return question.reshape(-1, tokens), general.reshape(-1, tokens)


def relative_maps(one: Source, ids: Collection[str]) -> dict[str, np.ndarray]:
    """Sample -> [L, rows, cols] relative attention, at most CAP, of those that kept their maps."""
    found: dict[str, np.ndarray] = {}
    for row in heavy_rows(one, MAPS, ids):
        maps = both_maps(row)
        if maps is not None and row["sample_id"] not in found:
            relative = np.minimum(relative_attention(*maps), CAP)
            found[row["sample_id"]] = relative.reshape(-1, row["grid_rows"], row["grid_cols"])
    return found


def heat(one: Source, pack: Pack, tick: Callable[[], None] = lambda: None) -> dict[str, Place]:
    """Sample -> where its maps are: relative attention, then the question's own, [L, T] bytes each."""
    found: dict[str, Place] = {}
    for row in heavy_rows(one, MAPS):
        tick()
        maps = both_maps(row)
        if maps is None or row["sample_id"] in found:
            continue
        quotient = relative_attention(*maps, np.float32)  # of maps that are kept so, and shown in 256 steps
        capped = np.count_nonzero(quotient > CAP, -1)
        relative, relative_top = levels(np.minimum(quotient, CAP, out=quotient))
        own, own_top = levels(maps[0])
        found[row["sample_id"]] = {
            "at": pack.add(relative.tobytes() + own.tobytes(), RUNS),
            "layers": len(maps[0]),
            "rows": row["grid_rows"],
            "cols": row["grid_cols"],
            "tops": [relative_top, own_top],
            "capped": capped.tolist() if capped.any() else None,
        }
    pack.cut()
    return found


def levels(values: np.ndarray) -> tuple[np.ndarray, list[float | None]]:
    """Each row as bytes, 255 at its greatest finite value, and these values. None: nothing finite above 0."""
    top = values.max(-1, keepdims=True)
    if whole := bool(np.isfinite(top).all()):  # a maximum tells of every NaN and +inf
        filled = values
    else:
        filled = np.where(np.isfinite(values), values, 0)
        top = filled.max(-1, keepdims=True)
    steps = filled * np.divide(255, top, out=np.zeros_like(top), where=top > 0)
    np.maximum(steps, 0, out=steps)
    np.rint(steps, out=steps)
    found = steps.astype(np.uint8)
    if not whole:
        found[np.isposinf(values)] = 255
    return found, [number(t) if t > 0 else None for t in top[:, 0].tolist()]


def visible(kept: np.ndarray, tokens: int) -> np.ndarray:
    """[T] 1 for the kept tokens of the first image; those of further images are not on its picture."""
    found = np.zeros(tokens, np.uint8)
    found[kept[kept < tokens].astype(np.int64)] = 1
    return found


def masks(one: Source, pack: Pack, tick: Callable[[], None] = lambda: None) -> dict[tuple[str, str], Place]:
    """(sample, method) -> where its kept tokens (bytes 0 or 1) and its triage map are, [T] each."""
    found: dict[tuple[str, str], Place] = {}
    for row in heavy_rows(one, MASKS):
        tick()
        kept, triage = row.get("kept"), row.get("triage")
        tokens = (row.get("grid_rows") or 0) * (row.get("grid_cols") or 0)
        key = (row["sample_id"], row["method"])
        if not tokens or key in found or (kept is None and triage is None):
            continue
        place: Place = {"rows": row["grid_rows"], "cols": row["grid_cols"], "kept": None, "triage": None, "count": 0}
        if kept is not None:
            seen = visible(kept, tokens)
            place |= {"kept": pack.add(seen.tobytes(), RUNS), "count": int(seen.sum())}
        if triage is not None and triage.size >= tokens:
            values, tops = levels(triage[None, :tokens])
            place |= {"triage": pack.add(values.tobytes(), RUNS), "top": tops[0]}
        found[key] = place
    pack.cut()
    return found
