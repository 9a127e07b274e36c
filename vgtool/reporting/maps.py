"""Heatmaps and masks of samples as the page holds them: bytes, packed a part of a run at a time, by any process.

Each layer of each map is scaled by its own greatest value, which is kept beside it.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from vgtool.grounding.metrics import relative_attention
from vgtool.reporting.heat import CAP
from vgtool.reporting.pack import RUNS, Chunks, Pack, encoded
from vgtool.reporting.rows import MAPS, MASKS, Row, both_maps, new_parts, rows_of, visible
from vgtool.reporting.workers import Task, Workers

AHEAD = 16
"""Parts that are under way, or packed and not yet stored."""
AT = ("at", "kept", "triage")
"""What of a place says a chunk and an offset in it."""
Place = dict[str, Any]


@dataclass(frozen=True)
class Lot:
    """What a part holds: its chunks, deflated, and where in them everything is, by sample, or sample and method."""

    rows: int
    chunks: list[str]
    places: dict[Any, Place]


def number(value: Any) -> float | None:
    """Four digits; None for what is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def heat(run: Path, pack: Pack, workers: Workers, tick: Callable[[int], None]) -> dict[str, Place]:
    """Sample -> where its maps are: relative attention, then the question's own, [L, T] bytes each."""
    return _stored(packed_maps, run, pack, workers, tick)


def masks(run: Path, pack: Pack, workers: Workers, tick: Callable[[int], None]) -> dict[tuple[str, str], Place]:
    """(sample, method) -> where its kept tokens (bytes 0 or 1) and its triage map are, [T] each."""
    return _stored(packed_masks, run, pack, workers, tick)


def _stored(
    work: Callable[[Path], Lot | None], run: Path, pack: Pack, workers: Workers, tick: Callable[[int], None]
) -> dict[Any, Place]:
    """Every part's lot in `pack`, each key's first place."""
    found: dict[Any, Place] = {}
    seen, coming = set[str](), deque[Task[Lot | None]]()

    def take() -> None:
        lot = coming.popleft().result()
        if lot is not None:
            first = pack.put(lot.chunks)
            for key, place in lot.places.items():
                found.setdefault(key, place | {at: (first + place[at][0], place[at][1]) for at in AT if place.get(at)})
            tick(lot.rows)

    while left := new_parts(run, seen):
        for part in left:
            seen.add(part.name)
            coming.append(workers.submit(work, lambda part=part: (part,)))  # type: ignore[misc]
            if len(coming) > AHEAD:
                take()
        while coming:
            take()
    return found


def packed_maps(part: Path) -> Lot | None:
    """The maps of a part's samples; None when it is gone: merged into a larger one meanwhile."""
    return _lot(part, MAPS, _maps)


def packed_masks(part: Path) -> Lot | None:
    """The masks of a part's answers; None when it is gone."""
    return _lot(part, MASKS, _masks)


def _lot(part: Path, wanted: Sequence[str], place: Callable[[Row, Chunks], tuple[Any, Place] | None]) -> Lot | None:
    rows, texts, places = 0, list[str](), dict[Any, Place]()
    chunks = Chunks(lambda data, how: texts.append(encoded(data, how)))
    try:
        file = pq.ParquetFile(part)
    except FileNotFoundError:
        return None
    with file:
        for row in rows_of(file, wanted):
            rows += 1
            if found := place(row, chunks):
                places.setdefault(*found)
    chunks.cut()
    return Lot(rows, texts, places)


def _maps(row: Row, chunks: Chunks) -> tuple[str, Place] | None:
    maps = both_maps(row)
    if maps is None:
        return None
    quotient = relative_attention(*maps, np.float32)  # of maps that are kept so, and shown in 256 steps
    capped = np.count_nonzero(quotient > CAP, -1)
    relative, relative_top = levels(np.minimum(quotient, CAP, out=quotient))
    own, own_top = levels(maps[0])
    return row["sample_id"], {
        "at": chunks.add(relative.tobytes() + own.tobytes(), RUNS),
        "layers": len(maps[0]),
        "rows": row["grid_rows"],
        "cols": row["grid_cols"],
        "tops": [relative_top, own_top],
        "capped": capped.tolist() if capped.any() else None,
    }


def _masks(row: Row, chunks: Chunks) -> tuple[tuple[str, str], Place] | None:
    kept, triage = row.get("kept"), row.get("triage")
    tokens = (row.get("grid_rows") or 0) * (row.get("grid_cols") or 0)
    if not tokens or (kept is None and triage is None):
        return None
    place: Place = {"rows": row["grid_rows"], "cols": row["grid_cols"], "kept": None, "triage": None, "count": 0}
    if kept is not None:
        seen = visible(kept, tokens)
        place |= {"kept": chunks.add(seen.tobytes(), RUNS), "count": int(seen.sum())}
    if triage is not None and triage.size >= tokens:
        values, tops = levels(np.minimum(triage[None, :tokens], CAP))
        capped = int(np.count_nonzero(triage[:tokens] > CAP))
        place |= {"triage": chunks.add(values.tobytes(), RUNS), "top": tops[0], "capped": capped}
    return (row["sample_id"], row["method"]), place


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
