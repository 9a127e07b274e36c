"""Intervals and paired tests: Wilson, bootstrap over images, exact McNemar, Holm."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def wilson(right: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) without rows."""
    if not rows:
        return 0.0, 1.0
    z = float(stats.norm.ppf(0.5 + level / 2))
    share, scale = right / rows, 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * float(np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)))
    return max(0.0, centre - half), min(1.0, centre + half)


def clustered_mean(
    values: Array, clusters: Sequence[str], *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """(mean, low, high) of `values`: percentile bootstrap that draws whole clusters (images)."""
    values = np.asarray(values, np.float64)
    _, index = np.unique(np.asarray(list(clusters)), return_inverse=True)
    totals, sizes = np.bincount(index, values), np.bincount(index)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    means = (weights @ totals) / (weights @ sizes)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(values.mean()), float(low), float(high)


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided exact p of two methods on the same rows: `fixed` went wrong to right, `broken` right to wrong."""
    return 1.0 if fixed + broken == 0 else float(stats.binomtest(fixed, fixed + broken, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted.tolist()
