"""Before and after: answers that a method fixed and answers that it broke, with what it hid from the model.

Which samples are drawn is a matter of chance, from the seed; each image once. Only for a report that may hold pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from vgtool.reporting.album import Pictures
from vgtool.reporting.figures.examples import hide, pixels, sample
from vgtool.reporting.figures.style import PAGE, Drawn, label, panels, wrapped
from vgtool.reporting.inputs import Family, Source
from vgtool.reporting.maps import MASKS, heavy_rows, visible

PAIRS = 2
"""Samples a row, each before and after: one row that was fixed, one that was broken."""
HIDDEN = (20 / 255, 20 / 255, 40 / 255, 0.8)


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
        shown = [[name for name in ids if name in kept] for ids in chosen.values()]
        if any(shown):
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
    for row in heavy_rows(one, MASKS, ids):
        rows, cols = row.get("grid_rows") or 0, row.get("grid_cols") or 0
        if row["method"] == method and row.get("kept") is not None and rows * cols:
            found[row["sample_id"]] = visible(row["kept"], rows * cols).reshape(rows, cols)
    return found


def _drawn(
    one: Source, method: str, shown: Sequence[Sequence[str]], kept: Mapping[str, np.ndarray], pictures: Pictures
) -> Drawn:
    rows = one.run.rows.filter(pl.col("sample_id").is_in(list(kept)))
    answers = {(row["sample_id"], row["method"]): row for row in rows.iter_rows(named=True)}
    scans = pixels(pictures.of(one), [answers[name, method] for name in kept])
    figure, axes = panels(PAGE, 2 * (0.93 * PAGE / 4 + 0.5), 2, 2 * PAIRS)
    used = []
    for line, ids in zip(axes, shown, strict=True):
        for at, name in enumerate(ids):
            before, after = line[2 * at : 2 * at + 2]
            used += [before, after]
            for axis, called in ((before, "baseline"), (after, method)):
                row = answers[name, called]
                sample(axis, row, None, scans[name])
                text = wrapped(f"{label(called, 24)}: {row['answer']} ({row['outcome']})", 0.9 * PAGE / 4, 6.5, 3)
                axis.set_xlabel(text, fontsize=6.5)
            before.set_title(wrapped(answers[name, method]["question"], 0.9 * PAGE / 4, 6.5, 3), fontsize=6.5)
            _hide_tokens(after, answers[name, method], kept[name])
    hide(axes, used)
    caption = f"Before and after {method}, {one.name}: the picture with its boxes, and what the method left visible."
    said = "Above: answers that it fixed; below: answers that it broke; drawn by chance, each image once."
    return Drawn(f"repairs-{one.number}", f"{caption} {said}", figure)


def _hide_tokens(axis: Any, row: Mapping[str, Any], seen: np.ndarray) -> None:
    x0, y0, x1, y1 = row["grid_box"]
    veil = np.zeros((*seen.shape, 4))
    veil[seen == 0] = HIDDEN
    limits = axis.get_xlim(), axis.get_ylim()
    axis.imshow(veil, extent=(x0, x1, y1, y0), interpolation="nearest")
    axis.set(xlim=limits[0], ylim=limits[1])
