"""Attention triage: which image tokens a question needs (paper section 4).

For each chosen (layer l, head h): map = q[l, h] / (g[l] + 1e-10), with g[l] the head mean of the general row:
head-level question over layer-level general, as the authors' code has it. The maps are averaged over the chosen heads;
tokens below the p-th percentile (linear interpolation, strict <) are irrelevant. The code's alternative, min-max
normalising the map and keeping what reaches a magnitude, is `keep_above`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Head = tuple[int, int]


def triage_map(question: Array, general: Array) -> Array:
    """[..., T] from the chosen heads' question rows [K, ..., T] and general rows.

    `general` is [K, ..., T]: for each chosen head its layer's head-mean row, or the head's own.
    """
    return (np.asarray(question, np.float64) / (np.asarray(general, np.float64) + 1e-10)).mean(0)


def keep_percentile(triage: Array, percentile: float) -> NDArray[np.bool_]:
    """Tokens that stay visible, of maps [..., T]: those not strictly below the map's percentile; 0 keeps all."""
    return ~(triage < np.percentile(triage, percentile, axis=-1, keepdims=True))


def keep_above(triage: Array, magnitude: float) -> NDArray[np.bool_]:
    """Tokens whose min-max normalised value reaches `magnitude`, of maps [..., T]; 0 and a flat map keep all."""
    low, high = triage.min(-1, keepdims=True), triage.max(-1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    return ~((triage - low) / span < magnitude) | (high <= low)


def distinct(heads: Sequence[Head]) -> tuple[Head, ...]:
    """The heads without repeats, order kept."""
    return tuple(dict.fromkeys((int(layer), int(head)) for layer, head in heads))
