"""The figure of one image: the picture, a map over it, and boxes, for a paper's column."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.errors import VgError

KINDS = ("pdf", "svg", "png")
STYLE: Any = {"font.size": 7.5, "pdf.fonttype": 42, "svg.hashsalt": "vgtool", "text.parse_math": False}
WIDTH = 3.35
"""Inches: a column of a two-column page."""


def kind_of(path: str | Path) -> str:
    """What a figure's file is to be, by its ending. VgError when it cannot be."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise VgError(f"'{path}' does not end in .{' or .'.join(KINDS)}.", "Name the figure's file so.")
    return kind


def draw(
    image: Image.Image | None,
    size: tuple[int, int],
    heat: NDArray[Any],
    grid_box: Sequence[float],
    boxes: Sequence[Sequence[float]],
    above: str,
    below: str,
    path: str | Path | None = None,
) -> Any:
    """A map [rows, cols] over a picture (None: there is none) of a size (width, height), as a matplotlib figure with a
    text above and one below; also written to `path` (pdf, svg or png)."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from vgtool.reporting.heat import panel

    kind = None if path is None else kind_of(path)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, WIDTH * size[1] / size[0] + 0.6), layout="constrained")
        axis = figure.subplots()
        panel(axis, None if image is None else np.asarray(image), heat, size, grid_box, boxes)
        axis.set_title("\n".join(textwrap.wrap(above, 52)), fontsize=7.5)
        axis.set_xlabel("\n".join(textwrap.wrap(below, 60)), fontsize=7)
        if path is not None:
            dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}[kind or "png"]
            try:
                figure.savefig(path, dpi=220, metadata=dates)
            except OSError as error:
                raise VgError(f"Cannot write '{path}': {error.strerror or error}.", "Name another file.") from None
    return figure


def png(figure: Any) -> bytes:
    """What a notebook shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
