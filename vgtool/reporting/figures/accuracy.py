"""Accuracy by method, and the gain over the baseline on the same rows, with the intervals of the tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from vgtool.reporting.figures.style import (
    PAGE,
    Drawn,
    called,
    explain,
    interval,
    label,
    panels,
    rows_of,
    series,
    shift,
    wrapped,
)
from vgtool.reporting.inputs import Source

LEVEL, GAIN = "accuracy, %", "gain over the baseline, points"


def accuracy(refines: Sequence[Source], frame: pl.DataFrame) -> Drawn:
    """A line of panels for each benchmark, a colour for each run, every method."""
    marks: dict[str, list[Source]] = {}
    for one in refines:
        marks.setdefault(f"{one.run.identity['benchmark']} ({one.run.identity.get('split')})", []).append(one)
    methods = {title: list(dict.fromkeys(m for one in runs for m in one.methods)) for title, runs in marks.items()}
    heights = [0.25 + len(methods[title]) * (0.13 + 0.07 * len(runs)) for title, runs in marks.items()]
    names, shared = called(refines) if len(refines) > 1 else ([], "")
    figure, axes = panels(PAGE, sum(heights) + 0.4 * len(marks), len(marks), 2, names, shared, height_ratios=heights)
    handles = {}
    for (left, right), (title, runs) in zip(axes, marks.items(), strict=True):
        for place, one in enumerate(runs):
            style = series(refines.index(one))
            handles[one.name] = left.plot([], [], ls="none", **style)[0]
            for y, method in enumerate(methods[title]):
                at = y + shift(place, len(runs), 0.5)
                found = estimates(frame, one, method)
                if "accuracy" in found:
                    interval(left, at, found["accuracy"], style, 100)
                if "gain" in found:
                    interval(right, at, found["gain"], style, 100)
                if method == "baseline" and "accuracy" in found:
                    left.axvline(100 * found["accuracy"]["value"], color=style["color"], lw=0.7, ls=":", zorder=0)
        rows_of((left, right), [label(method, 34) for method in methods[title]])
        right.axvline(0, color="#888888", lw=0.7, ls=":", zorder=0)
        left.set(xlabel=LEVEL)
        right.set(xlabel=GAIN)
        left.set_title(wrapped(title, PAGE / 3))
    if names:
        explain(figure, [handles[one.name] for one in refines], names, shared)
    caption = "Left: accuracy by method, 95 % Wilson, dotted the baseline. Right: gain over the baseline on the same"
    return Drawn("accuracy", f"{caption} rows, 95 % by image; hollow: one image, no interval.", figure)


def estimates(
    frame: pl.DataFrame, one: Source, method: str, field: str | None = None, level: str | None = None
) -> dict[str, Mapping[str, Any]]:
    """A method's rows of the table `accuracy` by metric, whole or of one level of a field; those that have a value."""
    mine = (pl.col("table") == "accuracy") & (pl.col("run") == one.name) & (pl.col("method") == method)
    mine &= pl.col("field").eq_missing(field) & pl.col("level").eq_missing(level) & pl.col("value").is_not_null()
    return {row["metric"]: row for row in frame.filter(mine).iter_rows(named=True)}
