"""Accuracy by method, and the gain over the baseline on the same rows, with the intervals of the tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from vgtool.reporting.figures.style import (
    PAGE,
    TALL,
    Drawn,
    called,
    chosen,
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
MOST = TALL - 1
"""Inches of all panels, beside a legend."""


def accuracy(refines: Sequence[Source], frame: pl.DataFrame) -> Iterator[Drawn]:
    """A line of panels for each benchmark, a colour for each run, every method; on as many pages as they need."""
    marks: dict[str, list[Source]] = {}
    for one in refines:
        marks.setdefault(f"{one.run.identity['benchmark']} ({one.run.identity.get('split')})", []).append(one)
    methods = {title: _methods(runs) for title, runs in marks.items()}
    names, shared = called(refines) if len(refines) > 1 else ([], "")
    told = {one.name: name for one, name in zip(refines, names, strict=False)}
    pages = [list[str]()]
    for title in marks:
        if pages[-1] and sum(_height(methods[t][0], marks[t]) for t in [*pages[-1], title]) > MOST:
            pages.append([])
        pages[-1].append(title)
    for number, titles in enumerate(pages, 1):
        drawn = _page({title: (marks[title], *methods[title]) for title in titles}, refines, told, shared, frame)
        more = f" Part {number} of {len(pages)}." if len(pages) > 1 else ""
        stem = "accuracy" if number == 1 else f"accuracy-part-{number}"
        yield Drawn(stem, drawn.caption + more, drawn.figure)


def _methods(runs: Sequence[Source]) -> tuple[list[str], str]:
    """The methods of a benchmark's runs that a page holds, and a sentence when there are more."""
    every = list(dict.fromkeys(m for one in runs for m in one.methods))
    return chosen(every, max(1, int((MOST - _height([], runs)) / _line(runs))))


def _line(runs: Sequence[Source]) -> float:
    """Inches of a method."""
    return 0.13 + 0.07 * len(runs)


def _height(methods: Sequence[str], runs: Sequence[Source]) -> float:
    """Inches of a benchmark's panels, with their title and axis."""
    return 0.65 + len(methods) * _line(runs)


def _page(
    marks: Mapping[str, tuple[Sequence[Source], Sequence[str], str]],
    refines: Sequence[Source],
    told: Mapping[str, str],
    shared: str,
    frame: pl.DataFrame,
) -> Drawn:
    """Benchmarks, each with its runs, methods and a sentence when those are not all."""
    names = [told[one.name] for runs, _, _ in marks.values() for one in runs if told]
    heights = [_height(methods, runs) - 0.4 for runs, methods, _ in marks.values()]
    figure, axes = panels(PAGE, sum(heights) + 0.4 * len(marks), len(marks), 2, names, shared, height_ratios=heights)
    handles = []
    for (left, right), (title, (runs, methods, _)) in zip(axes, marks.items(), strict=True):
        for place, one in enumerate(runs):
            style = series(refines.index(one))
            handles += left.plot([], [], ls="none", **style)
            for y, method in enumerate(methods):
                at = y + shift(place, len(runs), 0.5)
                found = estimates(frame, one, method)
                if "accuracy" in found:
                    interval(left, at, found["accuracy"], style, 100)
                if "gain" in found:
                    interval(right, at, found["gain"], style, 100)
                if method == "baseline" and "accuracy" in found:
                    left.axvline(100 * found["accuracy"]["value"], color=style["color"], lw=0.7, ls=":", zorder=0)
        rows_of((left, right), [label(method, 34) for method in methods])
        right.axvline(0, color="#888888", lw=0.7, ls=":", zorder=0)
        left.set(xlabel=LEVEL)
        right.set(xlabel=GAIN)
        left.set_title(wrapped(title, PAGE / 3))
    if names:
        explain(figure, handles, names, shared)
    caption = "Left: accuracy by method, 95 % Wilson, dotted the baseline. Right: gain over the baseline on the same"
    fewer = "".join(dict.fromkeys(said for _, _, said in marks.values()))
    return Drawn("accuracy", f"{caption} rows, 95 % by image; hollow: one image, no interval.{fewer}", figure)


def estimates(
    frame: pl.DataFrame, one: Source, method: str, field: str | None = None, level: str | None = None
) -> dict[str, Mapping[str, Any]]:
    """A method's rows of the table `accuracy` by metric, whole or of one level of a field; those that have a value."""
    mine = (pl.col("table") == "accuracy") & (pl.col("run") == one.name) & (pl.col("method") == method)
    mine &= pl.col("field").eq_missing(field) & pl.col("level").eq_missing(level) & pl.col("value").is_not_null()
    return {row["metric"]: row for row in frame.filter(mine).iter_rows(named=True)}
