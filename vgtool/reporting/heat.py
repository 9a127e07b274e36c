"""A picture with a map over it and boxes: what every figure of a sample is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

BOX = "#56B4E9"


def share(heat: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """A map over its greatest finite value, 0 to 1: infinite is 1, no number 0, and all 0 where nothing is above 0."""
    values = np.asarray(heat, np.float64)
    top = values[np.isfinite(values)].max(initial=0.0)
    with np.errstate(invalid="ignore"):
        scaled = values / top if top > 0 else np.where(np.isposinf(values), np.inf, 0.0)
    return np.clip(np.nan_to_num(scaled, nan=0.0, posinf=1.0), 0, 1)


def panel(
    axis: Any,
    picture: Any,
    heat: NDArray[np.floating[Any]],
    size: tuple[int, int],
    grid_box: Sequence[float],
    boxes: Sequence[Sequence[float]],
) -> None:
    """Draw a map [rows, cols] over a picture (an array of pixels, or None) of a size (width, height), in its pixels.
    The grid covers `grid_box`; boxes are dashed. A cell is as opaque as it is bright: the picture shows elsewhere."""
    width, height = size
    if picture is not None:
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    x0, y0, x1, y1 = grid_box
    bright = share(heat)
    axis.imshow(bright, cmap="inferno", vmin=0, vmax=1, alpha=0.8 * bright**0.7, extent=(x0, x1, y1, y0))
    for left, upper, right, lower in boxes:
        axis.add_patch(Rectangle((left, upper), right - left, lower - upper, fill=False, ec=BOX, ls="--", lw=1.2))
    axis.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
