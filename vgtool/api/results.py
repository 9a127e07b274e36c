"""Finished runs as frames: `vgtool.read` and `vgtool.score`."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from vgtool.api.given import natural, several
from vgtool.errors import VgError
from vgtool.runs.parts import told_damaged
from vgtool.runs.store import Store

OWN, RELEVANCE = ("layer_ratio", "layer_kl", "layer_js", "head_ratio", "head_kl", "head_js"), "relevance_"
LEVELS = {
    **{f"{of}{name}": 1 if name.startswith("layer") else 2 for of in ("", RELEVANCE) for name in OWN},
    **dict.fromkeys(("sink_share", "box_attention_ratio"), 1),
    **{f"{of}attention": 3 for of in ("", "general_", RELEVANCE)},
    **{f"{of}head_attention": 4 for of in ("", "general_", RELEVANCE)},
}
"""Columns of a probe run that hold arrays, and how many axes they have: of layers, heads, rows, cols."""
MAPS = (*(name for name, axes in LEVELS.items() if axes > 2), "triage")


def read(run: str | Path, *, maps: bool = True) -> pl.DataFrame:
    """Every row of a run folder (docs/files.md names the columns), failed ones included, each once.

    Numbers by layer and head, and maps where the run kept any, come as arrays: layer_kl [layers], head_kl [layers,
    heads], attention [layers, rows, cols], head_attention [layers, heads, rows, cols], triage [rows, cols]; as nested
    lists where images differ in their grid. `maps=False` leaves maps out, which is quick. VgError for what is no run,
    or damaged.
    """
    store = Store(Path(run))
    kind = store.read()["kind"]
    frames, bad = store.frames()
    if bad:
        raise VgError(f"{told_damaged(run, bad)}.", "Run its command again.")
    if not frames:
        raise VgError(f"'{run}' holds no rows yet.", "Let the run begin.")
    keys = ["sample_id", "method"] if kind == "refine" else ["sample_id"]
    frame = pl.concat(frames).unique(keys, keep="first", maintain_order=True)
    if not maps:
        frame = frame.drop([name for name in MAPS if name in frame.columns])
    held = [name for name in (*LEVELS, "triage") if name in frame.columns and frame[name].null_count() < frame.height]
    layers = _layers(frame)
    return frame.with_columns(_arrays(frame, name, layers) for name in held)


def score(
    *runs: str | Path,
    rule: str | None = None,
    by: str | Sequence[str] = (),
    tables: str | Sequence[str] = (),
    against: str | Sequence[str] = (),
    partial: bool = False,
    allow_mixed: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    """Every estimate of run folders and prediction files, a row each, at full precision: what `vgtool score --format
    parquet` gives, with the same options (docs/files.md names the columns)."""
    from vgtool.scoring.score import score as scored

    chosen = several(tables)
    found = scored(
        [Path(run) for run in runs],
        rule=rule,
        by=several(by),
        partial=partial,
        seed=natural(seed),
        allow_mixed=allow_mixed,
        tables=chosen,
        against=several(against),
        every=not chosen,
    )
    return found.frame


def _arrays(frame: pl.DataFrame, name: str, layers: int) -> pl.Series:
    """A flat column with its axes."""
    shapes = []
    for rows, cols, size in frame.select("grid_rows", "grid_cols", pl.col(name).list.len()).iter_rows():
        shapes.append(None if size is None else _shape(name, size, layers, rows, cols))
    known = {shape for shape in shapes if shape is not None}
    if len(known) == 1:
        shape = known.pop()
        flat = frame[name].cast(pl.Array(pl.Float32, math.prod(shape)))
        return flat.reshape((frame.height, *shape)) if not flat.null_count() else _with_nulls(flat, shape, name)
    values = [
        None if shape is None else np.asarray(flat, np.float64)[: math.prod(shape)].reshape(shape).tolist()
        for flat, shape in zip(frame[name].to_list(), shapes, strict=True)
    ]
    return pl.Series(name, values)


def _with_nulls(flat: pl.Series, shape: tuple[int, ...], name: str) -> pl.Series:
    kind: pl.DataType = pl.Float32()
    for size in reversed(shape):
        kind = pl.Array(kind, size)
    values = [None if one is None else np.asarray(one, np.float64).reshape(shape).tolist() for one in flat.to_list()]
    return pl.Series(name, values, dtype=kind)


def _layers(frame: pl.DataFrame) -> int:
    for name in ("layer_kl", "layer_ratio"):
        if name in frame.columns and (sizes := frame[name].drop_nulls().list.len()).len():
            return int(sizes[0])
    return 0


def _shape(name: str, size: int, layers: int, rows: int, cols: int) -> tuple[int, ...]:
    cells = rows * cols
    if name == "triage":
        return (rows, cols)
    if LEVELS[name] == 1:
        return (size,)
    if LEVELS[name] == 2:
        return (layers, size // layers)
    if LEVELS[name] == 3:
        return (size // cells, rows, cols)
    count = size // cells
    return (layers, count // layers, rows, cols) if layers else (count, rows, cols)
