"""Pictures side by side with text above and below each, every place reckoned from the sizes of pictures and letters.

Nothing is searched for by drawing, and each picture is put together once, at the figure's resolution, for all of its
files: with dozens of axes of their own, layout and drawing took most of a report's time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vgtool.reporting.heat import Box, Pixels, coloured, laid, seen

DPI = 220
"""Pixels of an inch in PNG files; all figures are laid out for it."""
GAP, EDGE, PAD = 0.1, 0.02, 0.04
"""Inches between panels, around all of them, and between a panel and its text."""
TALLEST = 1.1
"""A panel's height over its column's width at most."""
LINE = 1.22
"""Height of a line of text over the font's size."""
LONG, THICK = 1.4, 0.09
"""Inches of the colour bar."""
BOX = "#56B4E9"
FRAME: dict[str, Any] = {"fill": False, "ec": "black", "lw": 0.6}


@dataclass(frozen=True)
class Tile:
    """A panel: a picture of `size` (width, height), what lies over it, and its text."""

    picture: Pixels | None
    """At any resolution; None: there is none."""
    size: tuple[int, int]
    grid_box: Sequence[float] | None = None
    cells: NDArray[np.float64] | None = None
    """[rows, cols, 4] colours and opacities of what covers `grid_box`."""
    boxes: Sequence[Sequence[float]] = ()
    padding: bool = False
    """Whether the padding around it is shown."""
    above: str = ""
    below: str = ""

    @property
    def view(self) -> Box:
        """What is shown, in the picture's pixels."""
        return seen(self.size, self.grid_box, self.padding)

    def extent(self, column: float) -> tuple[float, float]:
        """Width and height, inches, in a column of so many."""
        left, upper, right, lower = self.view
        tall = (lower - upper) / (right - left)
        width = min(column, TALLEST * column / tall)
        return width, width * tall


class Bar(NamedTuple):
    """A bar of the heat's colours."""

    text: str
    """What it measures."""
    top: str = "peak"
    """Its greatest value, in words."""


def column(width: float, across: int) -> float:
    """Inches that each of so many panels side by side has."""
    return (width - 2 * EDGE - (across - 1) * GAP) / across


def mosaic(rows: Sequence[Sequence[Tile]], width: float, size: float = 6.5, bar: Bar | None = None) -> Figure:
    """A figure of `width` inches with these panels, letters of `size` points, and a colour bar below them."""
    wide = column(width, max(len(row) for row in rows))
    line = LINE * size / 72
    tops, y = [], EDGE
    for row in rows:
        y += max(_lines(tile.above) for tile in row) * line + PAD
        tops.append(y)
        y += max(tile.extent(wide)[1] + PAD + _lines(tile.below) * line for tile in row) + GAP
    end = y + (THICK + PAD + line if bar else -GAP) + EDGE
    figure = Figure(figsize=(width, math.ceil(end * DPI) / DPI), dpi=DPI)
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, width), ylim=(figure.get_figheight(), 0))
    page.set_axis_off()
    for row, top in zip(rows, tops, strict=True):
        for at, tile in enumerate(row):
            _put(page, tile, EDGE + at * (wide + GAP) + wide / 2, top, wide, size)
    if bar:
        _bar(page, width / 2, y, bar, size)
    return figure


def _lines(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def _put(page: Axes, tile: Tile, middle: float, top: float, wide: float, size: float) -> None:
    """Draw a panel, its upper edge's middle given in inches."""
    width, height = tile.extent(wide)
    across, down = max(1, round(width * DPI)), max(1, round(height * DPI))
    x, y = round((middle - width / 2) * DPI) / DPI, round(top * DPI) / DPI
    width, height = across / DPI, down / DPI
    view = tile.view
    image(page, laid(tile.picture, tile.size, view, (across, down), tile.cells, tile.grid_box), (x, y, width, height))
    scale = width / (view[2] - view[0])
    frame = Rectangle((x, y), width, height, **FRAME)
    page.add_patch(frame)
    for left, upper, right, lower in tile.boxes:
        at = (x + (left - view[0]) * scale, y + (upper - view[1]) * scale)
        box = Rectangle(at, (right - left) * scale, (lower - upper) * scale, fill=False, ec=BOX, ls="--", lw=1.2)
        page.add_patch(box)
        box.set_clip_path(frame)
    for edge, text, side in ((y - PAD, tile.above, "bottom"), (y + height + PAD, tile.below, "top")):
        if text:
            page.text(middle, edge, text, ha="center", va=side, fontsize=size)


def image(page: Axes, pixels: Pixels, place: tuple[float, float, float, float]) -> None:
    """Pixels at a place (left, upper, width, height), inches, as they are: no file interpolates them."""
    x, y, width, height = place
    page.imshow(pixels, extent=(x, x + width, y + height, y), interpolation="none", aspect="auto")


def _bar(page: Axes, middle: float, top: float, bar: Bar, size: float) -> None:
    """The colours from 0 to the peak, over white."""
    width, height = LONG, THICK
    place = (round((middle - width / 2) * DPI) / DPI, round(top * DPI) / DPI, width, height)
    shape = (round(width * DPI), round(height * DPI))
    white = np.full((1, 1, 3), 255, np.uint8)
    view = (0.0, 0.0, 1.0, 1.0)
    image(page, laid(white, (1, 1), view, shape, coloured(np.linspace(0, 1, 256)[None]), view), place)
    page.add_patch(Rectangle(place[:2], width, height, **FRAME))
    for x, said, side in ((place[0] - PAD, "0", "right"), (place[0] + width + PAD, bar.top, "left")):
        page.text(x, top + height / 2, said, ha=side, va="center_baseline", fontsize=size)
    page.text(middle, top + height + PAD, bar.text, ha="center", va="top", fontsize=size)
