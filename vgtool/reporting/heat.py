"""A picture with a map over it and boxes: what every figure of a sample is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

BOX = "#56B4E9"
MARGIN = "#3a3a3a"
"""Padding: what the model saw beside the picture."""
OPACITY = 0.8


def share(heat: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A map over its greatest finite value, 0 to 1: infinite is 1, no number 0, and all 0 where nothing is above 0."""
    values = np.asarray(heat, np.float64)
    top = values[np.isfinite(values)].max(initial=0.0)
    with np.errstate(invalid="ignore"):
        scaled = values / top if top > 0 else np.where(np.isposinf(values), np.inf, 0.0)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0), 0, 1)


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


def panel(
    axis: Any,
    picture: Any,
    heat: NDArray[np.floating[Any]] | None,
    size: tuple[int, int],
    grid_box: Sequence[float] | None,
    boxes: Sequence[Sequence[float]],
    padding: bool = False,
) -> None:
    """Draw a map [rows, cols] over a picture (an array of pixels, or None) of a size (width, height), in its pixels.
    The grid covers `grid_box`; boxes are dashed. A cell is as opaque as it is bright: the picture shows elsewhere. The
    padding is shown, as a dark margin, where a map's peak lies in it or with `padding`."""
    width, height = size
    if picture is not None:
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    xlim, ylim = (0.0, float(width)), (float(height), 0.0)
    if grid_box is not None:
        x0, y0, x1, y1 = grid_box
        if heat is not None:
            bright = share(heat)
            own = {"cmap": "inferno", "vmin": 0, "vmax": 1, "alpha": OPACITY * bright**0.7}
            axis.imshow(bright, **own, interpolation="nearest", extent=(x0, x1, y1, y0))
        if padding or (heat is not None and padded_peak(heat, size, grid_box)):
            xlim, ylim = (min(0, x0), max(width, x1)), (max(height, y1), min(0, y0))
            axis.set_facecolor(MARGIN)
    for left, upper, right, lower in boxes:
        axis.add_patch(Rectangle((left, upper), right - left, lower - upper, fill=False, ec=BOX, ls="--", lw=1.2))
    axis.set(xlim=xlim, ylim=ylim, xticks=[], yticks=[])
    for side in ("top", "right"):
        axis.spines[side].set_visible(True)
