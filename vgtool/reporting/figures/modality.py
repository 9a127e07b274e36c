"""By modality: accuracy and gain of every method, and where the model looks at its best layer."""

from collections import Counter
from collections.abc import Sequence

import polars as pl

from vgtool.reporting.figures.accuracy import GAIN, LEVEL, estimates
from vgtool.reporting.figures.layers import TITLES
from vgtool.reporting.figures.style import (
    COLOURS,
    PAGE,
    TALL,
    Drawn,
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

GROUPS = 20
"""Modalities in one figure, where they are no taller than a page."""
BESIDE = 1.4
"""Inches of title, axis and legend."""
NAMES = 1.5
"""Inches of their names."""


def modality(one: Source, frame: pl.DataFrame) -> Drawn:
    """Dots: accuracy of each modality under each method, and the gain over the baseline on the same rows."""
    methods, left_out = chosen(one.methods)
    first = one.run.rows.filter(pl.col("method") == one.methods[0])
    each = 0.12 + 0.06 * len(methods)
    groups, fewer = _largest(first["group"].drop_nulls().to_list(), int((TALL - BESIDE) / each))
    texts = [label(method, 34) for method in methods]
    figure, ((left, right),) = panels(PAGE, 0.8 + _height(groups, each), 1, 2, texts)
    handles = []
    for at, method in enumerate(methods):
        style = series(at)
        handles += left.plot([], [], ls="none", **style)
        for y, (group, _) in enumerate(groups):
            found = estimates(frame, one, method, "group", group)
            for axis, metric in ((left, "accuracy"), (right, "gain")):
                if metric in found:
                    interval(axis, y + shift(at, len(methods), 0.75), found[metric], style, 100)
    rows_of((left, right), _texts(groups))
    right.axvline(0, color="#888888", lw=0.7, ls=":", zorder=0)
    left.set(xlabel=LEVEL)
    right.set(xlabel=GAIN)
    figure.suptitle(wrapped(one.name, PAGE), fontsize=8)
    explain(figure, handles, texts)
    caption = f"By modality (rows), {one.name}: accuracy with 95 % Wilson; gain over the baseline on the same rows,"
    said = f"{caption} 95 % by image; hollow: one image, no interval.{left_out}{fewer}"
    return Drawn(f"modality-accuracy-{one.number}", said, figure)


def modality_grounding(one: Source, frame: pl.DataFrame) -> Drawn:
    """Attention ratio, KL and JS of every modality at the run's best layer."""
    groups, fewer = _largest(one.measured["group"].fill_null("").to_list())
    figure, ((*axes,),) = panels(PAGE, 0.9 + _height(groups, 0.19), 1, 3)
    mine = frame.filter(
        (pl.col("table") == "groups") & (pl.col("run") == one.name) & (pl.col("field") == "group"),
        pl.col("value").is_not_null(),
    )
    layer = mine["layer"][0]
    for axis, (metric, title) in zip(axes, TITLES.items(), strict=True):
        rows = {row["level"]: row for row in mine.filter(pl.col("metric") == metric).iter_rows(named=True)}
        for y, (group, _) in enumerate(groups):
            if group in rows:
                interval(axis, y, rows[group], {"color": COLOURS[0], "marker": "o"})
        axis.set_xlabel(title)
    rows_of(axes, _texts(groups))
    axes[0].axvline(1, color="#888888", lw=0.7, ls=":", zorder=0)
    figure.suptitle(wrapped(f"{one.name}, layer {layer}", PAGE), fontsize=8)
    caption = f"Grounding by modality, {one.name}, at layer {layer}: mean with 95 % over images"
    said = f"{caption}; hollow: one image, no interval. Attention ratio 1 is uniform.{fewer}"
    return Drawn(f"modality-grounding-{one.number}", said, figure)


def _largest(names: Sequence[str], most: int = GROUPS) -> tuple[list[tuple[str, int]], str]:
    """The most frequent modalities and their samples, and a sentence when there are more."""
    found, most = Counter(names), min(most, GROUPS)
    more = f" The {most} largest of {len(found)} modalities; the tables have all." if len(found) > most else ""
    return found.most_common(most), more


def _texts(groups: Sequence[tuple[str, int]]) -> list[str]:
    return [wrapped(f"{group or '(none)'} ({count})", NAMES, 7.5) for group, count in groups]


def _height(groups: Sequence[tuple[str, int]], each: float) -> float:
    """Inches of so many lines, each of them at least so high, and as high as two lines of text where one has them."""
    return len(groups) * max(each, 0.28 if any("\n" in text for text in _texts(groups)) else 0)
