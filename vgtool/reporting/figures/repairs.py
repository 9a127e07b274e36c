"""Before and after: answers that a method fixed and answers that it broke, with what it hid from the model.

Which samples are drawn is a matter of chance, from the seed; each image once. Only for a report that may hold pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from vgtool.reporting.album import Pictures
from vgtool.reporting.figures.examples import SIZE, pixels, tile
from vgtool.reporting.figures.style import COLUMN, PAGE, Drawn, label, wrapped
from vgtool.reporting.heat import veil
from vgtool.reporting.inputs import Family, Source
from vgtool.reporting.mosaic import Tile, column, mosaic
from vgtool.reporting.rows import MASKS, heavy_rows, visible

PAIRS = 2
"""Samples a row, each before and after: one row that was fixed, one that was broken."""


def repairs(families: Sequence[Family], pictures: Pictures, seed: int) -> Iterator[Drawn]:
    """A figure for each refine run one of whose claims hides tokens and changed answers."""
    for one in (refine for family in families for refine in family.refines):
        if one.run.path.is_dir():
            drawn = repair(one, pictures, seed)
            if drawn is not None:
                yield drawn


def repair(one: Source, pictures: Pictures, seed: int) -> Drawn | None:
    """Of the first claim that hides tokens: fixed answers above, broken ones below; None without any."""
    for method in one.methods:
        if one.scored.role(method) != "claim" or "baseline" not in one.methods:
            continue
        chosen = {kind: ids[:PAIRS] for kind, ids in changed(one, method, seed).items()}
        kept = _kept(one, method, {name for ids in chosen.values() for name in ids})
        found = {kind: [name for name in ids if name in kept] for kind, ids in chosen.items()}
        if shown := {kind: ids for kind, ids in found.items() if ids}:
            return _drawn(one, method, shown, kept, pictures)
    return None


def changed(one: Source, method: str, seed: int) -> dict[str, list[str]]:
    """Ids of the samples a method fixed and broke, each image once, in an order drawn from the seed."""
    rows = one.run.rows.filter(pl.col("outcome") != "failed")
    base, mine = (rows.filter(pl.col("method") == name) for name in ("baseline", method))
    pairs = base.join(mine.select("sample_id", now="outcome"), on="sample_id").sample(
        fraction=1, shuffle=True, seed=seed
    )
    was, now = pairs["outcome"] == "right", pairs["now"] == "right"
    some = {"fixed": pairs.filter(now & ~was), "broken": pairs.filter(was & ~now)}
    return {kind: list(found.unique("image_id", keep="first", maintain_order=True)["sample_id"])
            for kind, found in some.items()}  # fmt: skip


def _kept(one: Source, method: str, ids: set[str]) -> dict[str, np.ndarray]:
    """Sample -> [rows, cols], 1 where a token stays visible."""
    found = {}
    for row in heavy_rows(one.run.path, MASKS, ids):
        rows, cols = row.get("grid_rows") or 0, row.get("grid_cols") or 0
        if row["method"] == method and row.get("kept") is not None and rows * cols:
            found[row["sample_id"]] = visible(row["kept"], rows * cols).reshape(rows, cols)
    return found


def _drawn(
    one: Source, method: str, shown: Mapping[str, Sequence[str]], kept: Mapping[str, np.ndarray], pictures: Pictures
) -> Drawn:
    rows = one.run.rows.filter(pl.col("sample_id").is_in(list(kept)))
    answers = {(row["sample_id"], row["method"]): row for row in rows.iter_rows(named=True)}
    scans = pixels(pictures.of(one), [answers[name, method] for name in kept])
    across = 2 * max(map(len, shown.values()))
    width = PAGE if across > 2 else COLUMN
    wide = 0.95 * column(width, across)

    def panel(name: str, called: str, **more: Any) -> Tile:
        row = answers[name, called]
        said = wrapped(f"{label(called, 24)}: {row['answer']} ({row['outcome']})", wide, SIZE, 3)
        return replace(tile(row, scans[name], below=said), **more)

    lines = []
    for ids in shown.values():
        pairs = (
            (panel(name, "baseline", above=wrapped(answers[name, method]["question"], wide, SIZE, 3)),
             panel(name, method, cells=veil(kept[name])))
            for name in ids
        )  # fmt: skip
        lines.append(list(chain.from_iterable(pairs)))
    caption = f"Before and after {method}, {one.name}: the picture with its boxes, and what the method left visible."
    above = "Above: answers that it fixed; below: answers that it broke"
    said = f"{above if len(shown) > 1 else f'Answers that it {next(iter(shown))}'}; drawn by chance, each image once."
    return Drawn(f"repairs-{one.number}", f"{caption} {said}", mosaic(lines, width, SIZE))
