"""How well an attention map agrees with a region: attention ratio, KL and JS divergence (grounding metrics).

For a question row q and a general row g over T image tokens, r = q / g, a = r / (sum r + 1e-8), m = region / |region|:
    AR = sum_region r / (mean(r) |region| + 1e-8)                  1: no better than uniform, higher is better
    KL = sum m log(m / a), both clipped to [1e-12, 1]              lower is better
    JS = 1/2 sum a log((a+e)/(u+e)) + 1/2 sum m log((m+e)/(u+e)),  u = (a + m) / 2, e = 1e-8; lower is better, <= ln 2
The released code divides by g with no epsilon; zero attention on every image token happens and gives 0/0. Here a row
whose ratio is not finite has no metric (NaN), which the caller counts and names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grounding:
    """The three metrics of a stack of maps, each of the stack's leading shape; NaN where a map has none."""

    ratio: Array
    kl: Array
    js: Array


def relative_attention(question: Array, general: Array, kind: type[np.floating[Any]] = np.float64) -> Array:
    """r = question / general over [..., T]. A token that both rows ignore (0/0) has r = 0; x/0 stays infinite."""
    question, general = np.asarray(question, kind), np.asarray(general, kind)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = question / general
    return np.where((question == 0) & (general == 0), kind(0), ratio)


def grounding(relative: Array, region: Sequence[int]) -> Grounding:
    """Metrics of relative attention [..., T] against the tokens of `region` (not empty, indices below T).

    NaN where the map is all zero or holds a value that is not finite.
    """
    relative = np.asarray(relative, np.float64)
    tokens = relative.shape[-1]
    index = np.unique(np.asarray(list(region), np.int64))
    if not len(index) or index[0] < 0 or index[-1] >= tokens:
        raise ValueError(f"region of {len(index)} tokens does not fit a map of {tokens}")
    found = groundings(relative[None], np.isin(np.arange(tokens), index)[None])
    return Grounding(found.ratio[0], found.kl[0], found.js[0])


def groundings(relative: Array, inside: NDArray[np.bool_]) -> Grounding:
    """As `grounding`, of n samples at once: relative attention [n, ..., T], each sample's region [n, T] (not empty)."""
    usable = np.isfinite(relative).all(-1) & (relative.sum(-1) > 0)
    r = np.where(usable[..., None], relative, 1.0)
    inside = inside.reshape(len(inside), *(1,) * (r.ndim - 2), inside.shape[-1])
    size = inside.sum(-1)
    m = inside / size[..., None]
    ratio = (r * inside).sum(-1) / (r.mean(-1) * size + 1e-8)
    a = r / (r.sum(-1, keepdims=True) + 1e-8)
    return Grounding(*(np.where(usable, value, np.nan) for value in (ratio, _kl(m, a), _js(m, a))))


def _kl(m: Array, a: Array) -> Array:
    m, a = np.clip(m, 1e-12, 1.0), np.clip(a, 1e-12, 1.0)
    return (m * np.log(m / a)).sum(-1)


def _js(m: Array, a: Array, e: float = 1e-8) -> Array:
    u = (a + m) / 2
    return 0.5 * (a * np.log((a + e) / (u + e))).sum(-1) + 0.5 * (m * np.log((m + e) / (u + e))).sum(-1)
