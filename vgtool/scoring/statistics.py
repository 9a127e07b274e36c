"""Intervals and paired tests: Wilson, bootstrap over images, exact McNemar, sign flips by image, Holm."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
KEPT, CELLS = 4_000_000, 1_000_000
"""Numbers of a bootstrap's draws up to which they are kept for the next table, and made at a time."""


def wilson(right: int, rows: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) without rows."""
    if not rows:
        return 0.0, 1.0
    z = float(stats.norm.ppf(0.5 + level / 2))
    share, scale = right / rows, 1 + z * z / rows
    centre = (share + z * z / (2 * rows)) / scale
    half = z / scale * float(np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)))
    return max(0.0, centre - half), min(1.0, centre + half)


def numbered(clusters: Sequence[str]) -> NDArray[np.int64]:
    """Each name's place among the sorted distinct names, from 0."""
    return pl.Series(clusters).rank("dense").to_numpy().astype(np.int64) - 1


def clustered_means(
    values: Array, clusters: Sequence[str], *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> Array:
    """[C, 3] of mean, low, high for each column of `values` [n, C]: percentile bootstrap that draws whole clusters
    (images). NaN is left out of its column's mean; a column without any value gets NaN, and so do low and high of one
    whose values are all of one cluster."""
    values = np.asarray(values, np.float64)
    index, known = numbered(clusters), np.isfinite(values)
    count = int(index.max()) + 1
    totals = np.stack([np.bincount(index, column) for column in np.where(known, values, 0.0).T], 1)
    sizes = np.stack([np.bincount(index, column) for column in known.T], 1)
    both = np.concatenate([totals, sizes], 1)
    drawn = np.concatenate([block.astype(np.float64) @ both for block in _blocks(seed, draws, count)])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = drawn[:, : values.shape[1]] / drawn[:, values.shape[1] :]
        low, high = np.where((sizes > 0).sum(0) > 1, _quantiles(means, level), np.nan)
        return np.stack([totals.sum(0) / sizes.sum(0), low, high], 1)


def _blocks(seed: int, draws: int, count: int) -> Iterable[NDArray[Any]]:
    """How often each of `count` clusters is drawn in each of `draws`: [some draws, count] a block."""
    return _kept(seed, draws, count) if draws * count <= KEPT else _weights(seed, draws, count)


@lru_cache(maxsize=8)
def _kept(seed: int, draws: int, count: int) -> tuple[NDArray[np.uint16], ...]:
    """The same for few clusters, whose many tables ask for the same draws."""
    return tuple(block.astype(np.uint16) for block in _weights(seed, draws, count))


def _weights(seed: int, draws: int, count: int) -> Iterator[NDArray[np.int64]]:
    """The same, CELLS numbers at a time: all at once would take draws x clusters of memory."""
    rng, most = np.random.default_rng(seed), max(1, CELLS // count)
    for start in range(0, draws, most):
        rows = range(start, min(start + most, draws))
        yield np.stack([np.bincount(rng.integers(0, count, count), minlength=count) for _ in rows])


def _quantiles(means: Array, level: float) -> tuple[Array, Array]:
    empty = ~np.isfinite(means).any(0)
    filled = np.where(empty, 0.0, means)
    low, high = np.nanquantile(filled, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def clustered_mean(
    values: Array, clusters: Sequence[str], *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """(mean, low, high) of one column [n]; see `clustered_means`."""
    column = np.asarray(values, np.float64)[:, None]
    mean, low, high = clustered_means(column, clusters, seed=seed, draws=draws, level=level)[0]
    return float(mean), float(low), float(high)


def clustered_spearman(
    x: Array, y: Array, clusters: Sequence[str], *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """(rho, low, high): Spearman's rank correlation, ties at their mean rank, with a percentile bootstrap that draws
    whole clusters and ranks anew in each. NaN where either is constant; no interval from one cluster."""
    index, count = numbered(clusters), len(set(clusters))
    places = [np.unique(values, return_inverse=True)[1] for values in (x, y)]
    if count < 2:
        return (_rank_correlation(places, np.ones(len(x))), np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _rank_correlation(places, np.bincount(rng.integers(0, count, count), minlength=count)[index].astype(float))
            for _ in range(draws)
        ]
    )
    low, high = _quantiles(drawn[:, None], level)
    return _rank_correlation(places, np.ones(len(x))), float(low[0]), float(high[0])


def _rank_correlation(places: Sequence[NDArray[np.int64]], weights: Array) -> float:
    """Pearson's correlation of mid-ranks, each row counted `weights` times; `places`: each value's among the sorted."""
    centred = []
    total = weights.sum()
    for place in places:
        held = np.bincount(place, weights)
        ranks = (np.cumsum(held) - held / 2)[place]
        centred.append(ranks - (weights * ranks).sum() / total)
    one, other = centred
    spread = np.sqrt((weights * one * one).sum() * (weights * other * other).sum())
    return float((weights * one * other).sum() / spread) if spread > 0 else float("nan")


def mcnemar(fixed: int, broken: int) -> float:
    """Two-sided exact p of two methods on the same rows: `fixed` went wrong to right, `broken` right to wrong."""
    return 1.0 if fixed + broken == 0 else float(stats.binomtest(fixed, fixed + broken, 0.5).pvalue)


def sign_flip(change: Array, clusters: Sequence[str], *, seed: int = 0, draws: int = 100_000) -> float:
    """Two-sided p of paired differences when rows of one image go together: were the methods alike, each image's sum
    of differences could as well have the other sign. The share of all sign patterns whose total is as far from 0.

    Exact for whole sums (answers: +1 fixed, -1 broken, 0): with one row an image it is exact McNemar. Of sums that are
    not whole (grounding) every pattern is counted where there are at most `draws`; else so many are drawn from `seed`,
    the one seen counted among them. NaN is left out.
    """
    change = np.asarray(change, np.float64)
    known = np.isfinite(change)
    if not known.any():
        return 1.0
    sums = np.abs(np.bincount(numbered(clusters)[known], change[known]))
    seen = abs(float(change[known].sum()))
    if (sums == np.rint(sums)).all() and sums.sum() <= MOST_EXACT:
        return _exact_flips(sums.astype(np.int64), round(seen))
    sums = sums[sums > 0]
    rng, far = np.random.default_rng(seed), 0
    tie = 1e-9 * float(sums.sum())
    if 2.0 ** len(sums) <= draws:
        signs = 2.0 * ((np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1) - 1
        return float((np.abs(signs @ sums) >= seen - tie).mean())
    step = max(1, 2_000_000 // max(len(sums), 1))
    for start in range(0, draws, step):
        signs = rng.integers(0, 2, (min(step, draws - start), len(sums)), dtype=np.int8) * 2.0 - 1
        far += int((np.abs(signs @ sums) >= seen - tie).sum())
    return (far + 1) / (draws + 1)


MOST_EXACT = 50_000
"""Changed rows up to which every sign pattern is counted."""


def _exact_flips(sums: NDArray[np.int64], seen: int) -> float:
    """P(|sum of s_i times a fair sign| >= seen): images of one size s make s (2 B - n), B binomial; sizes convolve."""
    chances = np.ones(1)
    for size, images in zip(*np.unique(sums[sums > 0], return_counts=True), strict=True):
        steps = np.zeros(2 * size * images + 1)
        steps[:: 2 * size] = stats.binom.pmf(np.arange(images + 1), images, 0.5)
        chances = np.convolve(chances, steps)
    middle = len(chances) // 2
    far = np.abs(np.arange(len(chances)) - middle) >= seen
    return min(1.0, float(chances[far].sum()))


LEAST_CHANGED = 6
"""Changed rows from which exact McNemar can be below 0.05."""


def smallest_gain(rows: int, discordant: int, level: float = 0.05) -> float:
    """The smallest gain (share of rows) that exact McNemar could call real with this many rows that changed; with
    fewer than LEAST_CHANGED of them, so many that all go one way."""
    if not rows:
        return 1.0
    changed = max(discordant, LEAST_CHANGED)
    fixed = int(stats.binom.isf(level / 2, changed, 0.5)) + 1  # 2 P(X >= fixed) <= level
    if mcnemar(fixed, changed - fixed) >= level:
        fixed += 1
    return min(1.0, (2 * fixed - changed) / rows)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted.tolist()
