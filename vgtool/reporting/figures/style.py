"""What all figures share: two widths, colours that colour-blind readers tell apart, and text of a run as it is.

Every figure is as wide as one column of a two-column paper or as both. A series is told by its marker, too.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vgtool.reporting.inputs import Source
from vgtool.reporting.mosaic import DPI

COLUMN, PAGE = 3.35, 7.0
"""Widths of one column and of both, inches."""
TALL = 9.0
"""Inches of the tallest figure, which a printed page still holds with its caption."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
"""Okabe and Ito's palette, grey in place of its yellow, which white paper swallows."""
MARKERS = "osD^vPX"
"""One fewer than colours: 56 series are different pairs."""
MOST = 8
"""Methods side by side where more could not be told apart."""
LINE = 0.15
"""Inches of a line of a legend."""
LETTER = 0.6 / 72
"""Inches of a letter for each point of its size: DejaVu Sans's average, rounded up."""


T = TypeVar("T")


@dataclass(frozen=True)
class Drawn:
    """A figure: its file's stem, what it shows in a sentence, and the drawing."""

    stem: str
    caption: str
    figure: Figure


def label(text: object, most: int = 44) -> str:
    """Text of a run as a figure can hold it: one line, printable, its middle left out where it is too long; a leading
    underscore would hide it."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    if len(shown) > most:
        end = most // 2 - 1
        shown = f"{shown[: most - 1 - end]}…{shown[len(shown) - end :]}"
    return f" {shown}" if shown.startswith("_") else shown


def wrapped(text: object, inches: float, size: float = 8, lines: int = 2) -> str:
    """Text on as many lines as it needs at a width and a size in points; cut at the last."""
    across = max(8, int(inches / (LETTER * size)))
    return "\n".join(textwrap.wrap(label(text, 10 * across * lines), across, max_lines=lines, placeholder="…"))


def called(runs: Sequence[Source]) -> tuple[list[str], str]:
    """What a legend calls runs, no two alike, and what all of them share (model, benchmark), which it says once."""
    parts = [(one.model, str(one.run.identity["benchmark"]), *one.scored.names.apart) for one in runs]
    shared = [text for at, text in enumerate(parts[0][:2]) if len({some[at] for some in parts}) == 1]
    told = [label(", ".join(some[at] for at in range(len(some)) if at > 1 or some[at] not in shared), 60)
            for some in parts]  # fmt: skip
    if len(runs) == 1 or not all(told):
        told, shared = [label(one.name, 60) for one in runs], []
    if len(set(told)) < len(told):
        told = [f"{one.number}. {text}" for one, text in zip(runs, told, strict=True)]
    return told, label(", ".join(shared), 90)


def series(at: int) -> dict[str, Any]:
    """Colour and marker of the series of this number."""
    return {"color": COLOURS[at % len(COLOURS)], "marker": MARKERS[at % len(MARKERS)]}


def panels(
    width: float,
    height: float,
    down: int = 1,
    across: int = 1,
    legend: Sequence[str] = (),
    title: str = "",
    **shared: Any,
) -> tuple[Figure, Any]:
    """A figure of `height` inches beside its legend and the legend's title, and its axes [down, across]."""
    more = LINE * (math.ceil(len(legend) / columns(legend, width)) + bool(title)) if legend else 0
    figure = Figure(figsize=(width, height + more), layout="constrained", dpi=DPI)
    return figure, figure.subplots(down, across, squeeze=False, **shared)


def columns(texts: Sequence[str], width: float) -> int:
    """Columns of a legend that fit."""
    each = 0.5 + 7 * LETTER * max(map(len, texts))
    return max(1, min(len(texts), 4, int(width / each)))


def explain(figure: Figure, handles: Sequence[Any], texts: Sequence[str], title: str = "") -> None:
    """A legend below all panels, where no line passes, and what holds of all its entries above them."""
    across = columns(texts, figure.get_figwidth())
    figure.legend(handles, texts, loc="outside lower center", ncols=across, title=title or None, title_fontsize=7)


def interval(axis: Any, y: float, row: Any, style: dict[str, Any], scale: float = 1.0) -> None:
    """A dot at the value of a row of the frame and its interval beside it; hollow where there is none."""
    known = row["low"] is not None
    if known:
        axis.plot([scale * row["low"], scale * row["high"]], [y, y], color=style["color"], lw=0.9, alpha=0.7)
    axis.plot(scale * row["value"], y, ls="none", fillstyle="full" if known else "none", **style)


def shift(at: int, of: int, spread: float = 0.6) -> float:
    """Where the series of this number lies beside its line's middle."""
    return 0.0 if of < 2 else spread * (at / (of - 1) - 0.5)


def rows_of(axes: Sequence[Any], texts: Sequence[str]) -> None:
    """A line of the axes for each text, the first above; the text stands beside the first axis alone."""
    for axis in axes:
        axis.set_yticks(range(len(texts)), texts if axis is axes[0] else [""] * len(texts))
        axis.set_ylim(len(texts) - 0.5, -0.5)
        axis.tick_params(axis="y", length=3 if axis is axes[0] else 0)


def whole_numbers(*axes: Any) -> None:
    """Ticks of an x or y axis that counts."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def framed(axis: Any) -> None:
    """All four sides of a picture's frame."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(True)


def spaced(points: int, at: int = 0, of: int = 1, most: int = 10) -> list[int]:
    """Places of markers on the line of this number, which has so many points: the first, the last and some between,
    beside those of the others, so that none of several equal lines is hidden."""
    inner = ((step + at / of) * (points - 1) / (most - 1) for step in range(most - 1))
    return sorted({0, points - 1, *(round(place) for place in inner)}) if points else []


def chosen(methods: Sequence[T], most: int = MOST, what: str = "methods") -> tuple[list[T], str]:
    """Those that are drawn, and a sentence when not all are."""
    left = len(methods) - most
    said = f" The first {most} of {len(methods)} {what}; the tables have all." if left > 0 else ""
    return list(methods[:most]), said
