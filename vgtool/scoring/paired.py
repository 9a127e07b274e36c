"""Differences of two series of values on the same rows: interval, both p values, Holm.

p takes an image's rows for independent, p_image flips the signs of whole images' changes; a claim is held against the
larger of the two, for the first is too small where rows of an image agree.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from scipy import stats

from vgtool.scoring.frame import Row
from vgtool.scoring.statistics import clustered_mean, holm, mcnemar, sign_flip, smallest_gain

PAIRED_NOTE = (
    "Its interval draws whole images. p McNemar: exact, rows independent; p by image: exact too, over the signs of "
    "whole images' changes."
)
CLAIMS = ("claim",)
FLIPS = 10_000
"""Sign patterns at most where sums are not whole: the smallest p is 0.0001."""


def answers(pairs: pl.DataFrame, against: str, seed: int) -> list[Row]:
    """The rows gain, fixed, broken and smallest_gain of pairs with `outcome` before and `outcome_b` after."""
    was, now = (pairs[c].to_numpy() == "right" for c in ("outcome", "outcome_b"))
    change, images = now.astype(float) - was, pairs["image_id"].to_list()
    fixed, broken = int((now & ~was).sum()), int((was & ~now).sum())
    mean, low, high = clustered_mean(change, images, seed=seed)
    shared = {"against": against, "n": pairs.height, "images": pairs["image_id"].n_unique()}
    gain = {"value": mean, "low": low, "high": high, "p": mcnemar(fixed, broken)}
    return [
        shared | gain | {"metric": "gain", "p_image": sign_flip(change, images)},
        shared | {"metric": "fixed", "value": fixed},
        shared | {"metric": "broken", "value": broken},
        shared | {"metric": "smallest_gain", "value": smallest_gain(pairs.height, fixed + broken)},
    ]


def values(change: np.ndarray, images: Sequence[str], seed: int) -> Row:
    """value, low, high, p (paired t test) and p_image (FLIPS sign patterns of whole images) of differences [n]."""
    mean, low, high = clustered_mean(change, images, seed=seed)
    varied = len(change) > 1 and bool(np.ptp(change) > 0)
    p = float(stats.ttest_1samp(change, 0).pvalue) if varied else 1.0
    shared = {"n": len(change), "images": len(set(images)), "value": mean, "low": low, "high": high}
    return shared | {"p": p, "p_image": sign_flip(change, images, seed=seed, draws=FLIPS)}


def corrected(rows: Iterable[Row], kinds: Sequence[str] = CLAIMS) -> list[Row]:
    """The rows, with p_holm over the larger p of those that are claims (or of `kinds`)."""
    out = list(rows)
    tested = [row for row in out if row.get("p") is not None and row.get("kind") in kinds]
    adjusted = holm([max(row["p"], row["p_image"]) for row in tested])
    for row, p in zip(tested, adjusted, strict=True):
        row["p_holm"] = p
    return out
