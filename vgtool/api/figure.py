"""The figure of one image: the picture, a map over it, and boxes, for a paper's column."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.errors import VgError

KINDS = ("pdf", "svg", "png")
POINTS = 7.0
"""Size of the letters."""
Kind = Literal["attention", "map", "kept"]
"""Relative attention, a method's map, or what a method left visible."""


def of_method(kept: NDArray[Any] | None, triage: NDArray[Any] | None) -> tuple[Kind, Any]:
    """What is drawn of a method: the tokens that it kept, else its map."""
    return ("map", triage) if kept is None else ("kept", kept)


def kind_of(path: str | Path) -> str:
    """What a figure's file is to be, by its ending. VgError when it cannot be."""
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in KINDS:
        raise VgError(f"'{path}' does not end in .{' or .'.join(KINDS)}.", "Name the figure's file so.")
    return kind


def draw(
    image: Image.Image | None,
    size: tuple[int, int],
    kind: Kind,
    values: NDArray[Any],
    grid_box: Sequence[float],
    boxes: Sequence[Sequence[float]],
    above: str,
    below: str,
    path: str | Path | None = None,
) -> Any:
    """A map or mask [rows, cols] over a picture (None: there is none) of a size (width, height), as a matplotlib figure
    with a text above and one below; also written to `path` (pdf, svg or png)."""
    from vgtool.reporting.figures.files import save, styled
    from vgtool.reporting.figures.style import COLUMN, wrapped
    from vgtool.reporting.heat import CAP, RELATIVE, coloured, padded_peak, peak, veil
    from vgtool.reporting.mosaic import Bar, Tile, mosaic

    if kind == "attention":
        values = np.minimum(values, CAP)
    suffix = "" if path is None else kind_of(path)
    bar = None if kind == "kept" else Bar(RELATIVE if kind == "attention" else "the method's map", peak(values, CAP))
    padding = kind != "kept" and padded_peak(values, size, grid_box)
    below += "; peak in the padding" if padding else ""
    tile = Tile(
        None if image is None else np.asarray(image),
        size,
        grid_box,
        veil(values) if kind == "kept" else coloured(values),
        boxes,
        padding,
        *(wrapped(text, 0.98 * COLUMN, POINTS, 4) for text in (above, below)),
    )
    with styled():
        figure = mosaic([[tile]], COLUMN, POINTS, bar)
    if path is not None:
        try:
            save(figure, Path(path), suffix)
        except OSError as error:
            raise VgError(f"Cannot write '{path}': {error.strerror or error}.", "Name another file.") from None
    return figure


def png(figure: Any) -> bytes:
    """What a notebook shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
