"""Deep values to the 256 levels of a screen, and how it is said which window was used."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.errors import SampleError

USED = "window"
"""Key of a picture's `info`: the window it is shown in. Missing where the file has 8 bits a channel."""


def spread(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values to 0..255, linear from `low` to `high` and clipped; all 0 where these do not rise."""
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) / (high - low)
    return np.round(np.clip(scaled, 0.0, 1.0) * 255).astype(np.uint8)


def extremes(values: NDArray[Any], name: str) -> tuple[float, float]:
    """Least and greatest value. SampleError when one is not finite."""
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise SampleError("image_unreadable", f"'{name}' has pixels that are not finite")
    return low, high


def given(window: object) -> tuple[float, float] | None:
    """The two values of a window that its row states; None where it says something else."""
    return (float(window[0]), float(window[1])) if isinstance(window, tuple) else None


def between(low: float, high: float) -> str:
    """A linear window in words."""
    return f"{low:g} to {high:g}"
