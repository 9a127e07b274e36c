"""A picture with a map over it, as pixels: what every figure of a sample is made of.

A cell is as opaque as it is bright, so that the picture, in its own colours and brightness, shows elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

MARGIN = (0x3A, 0x3A, 0x3A)
"""Padding: what the model saw beside the picture."""
NOTHING = (0xBB, 0xBB, 0xBB)
"""In place of a picture that is not there."""
OPACITY = 0.8
HIDDEN = (20 / 255, 20 / 255, 40 / 255, 0.8)
"""Over tokens that a method hid from the model."""
RELATIVE = "attention relative to the general prompt's"
"""What most maps are."""
CAP = 100.0
"""Times the general prompt's attention from which a token is drawn alike: against a vanishing general map the quotient
has no bound, and one such token would leave all others clear."""
Pixels = NDArray[np.uint8]
"""[height, width, 3]"""
Box = tuple[float, float, float, float]
"""Left, upper, right, lower; in pixels of the stored picture."""


def share(heat: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A map over its greatest finite value, 0 to 1: infinite is 1, no number 0, and all 0 where nothing is above 0."""
    values = np.asarray(heat, np.float64)
    top = values[np.isfinite(values)].max(initial=0.0)
    with np.errstate(invalid="ignore"):
        scaled = values / top if top > 0 else np.where(np.isposinf(values), np.inf, 0.0)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0), 0, 1)


def coloured(heat: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Colour and opacity, 0 to 1, of each cell of a map: [..., 4]."""
    bright = share(heat)
    colours: NDArray[np.float64] = colormaps["inferno"](bright)
    colours[..., 3] = OPACITY * bright**0.7
    return colours


def peak(heat: NDArray[np.floating[Any]], cap: float = np.inf) -> str:
    """The greatest finite value of a map in words; `over` it where a value is infinite or was cut at `cap`."""
    top = heat[np.isfinite(heat)].max(initial=0.0)
    return f"{'over ' if top >= cap or np.isposinf(heat).any() else ''}{top:.3g}"


def veil(kept: NDArray[Any]) -> NDArray[np.float64]:
    """Colour and opacity of each cell of a mask that is above 0 where the model saw: [rows, cols, 4]."""
    found = np.zeros((*kept.shape, 4))
    found[kept == 0] = HIDDEN
    return found


def padded_peak(heat: NDArray[np.floating[Any]], size: tuple[int, int], grid_box: Sequence[float]) -> bool:
    """Whether the strongest cell of a map [rows, cols] lies beside a picture of (width, height)."""
    bright = share(heat)
    if not bright.any():
        return False
    row, col = np.unravel_index(bright.argmax(), bright.shape)
    x0, y0, x1, y1 = grid_box
    x = x0 + (col + 0.5) * (x1 - x0) / bright.shape[1]
    y = y0 + (row + 0.5) * (y1 - y0) / bright.shape[0]
    return not (0 <= x <= size[0] and 0 <= y <= size[1])


def seen(size: tuple[int, int], grid_box: Sequence[float] | None, padding: bool) -> Box:
    """What a panel shows: the picture of (width, height), or with `padding` all that the model saw of it, too."""
    width, height = size
    if grid_box is None or not padding:
        return (0.0, 0.0, float(width), float(height))
    x0, y0, x1, y1 = grid_box
    return (min(0.0, x0), min(0.0, y0), max(float(width), x1), max(float(height), y1))


def laid(
    picture: Pixels | None,
    size: tuple[int, int],
    view: Box,
    shape: tuple[int, int],
    cells: NDArray[np.float64] | None = None,
    grid_box: Sequence[float] | None = None,
) -> Pixels:
    """Pixels of a `shape` (across, down) that show `view`: the margin, the picture in its place, and over both the
    cells [rows, cols, 4] of a map that covers `grid_box`. `picture`: at any resolution; None: there is none."""
    across, down = shape
    scale = across / (view[2] - view[0]), down / (view[3] - view[1])
    plain = Image.new("RGB", (1, 1), NOTHING) if picture is None else Image.fromarray(picture)
    place = [round((at - view[axis]) * scale[axis]) for at, axis in ((0, 0), (0, 1), (size[0], 0), (size[1], 1))]
    canvas = Image.new("RGB", shape, MARGIN)
    extent = (max(1, place[2] - place[0]), max(1, place[3] - place[1]))
    canvas.paste(plain.resize(extent, Image.Resampling.BOX), (place[0], place[1]))
    shown: Pixels = np.array(canvas)
    if cells is None or grid_box is None:
        return shown
    rows, cols = cells.shape[:2]
    row, high = _under(down, view[1], scale[1], grid_box[1], grid_box[3], rows)
    col, wide = _under(across, view[0], scale[0], grid_box[0], grid_box[2], cols)
    over = cells[row][:, col]
    share_of = (over[..., 3] * np.outer(high, wide))[..., None]
    return np.rint(shown * (1 - share_of) + 255 * over[..., :3] * share_of).astype(np.uint8)


def _under(
    pixels: int, start: float, scale: float, low: float, high: float, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The cell of a grid from `low` to `high` that each pixel's middle lies in, and whether it lies in any."""
    at = (start + (np.arange(pixels) + 0.5) / scale - low) / (high - low) * cells
    inside = (at >= 0) & (at < cells)
    return np.clip(at, 0, cells - 1).astype(np.int64), inside
