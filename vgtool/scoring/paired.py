"""Differences of two series of values on the same rows: interval, both p values, Holm.

p takes an image's rows for independent, p_image keeps them together; a claim is held against the larger of the two, for
the first is too small where rows of an image agree and the second where few rows changed.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from vgtool.scoring.frame import Row
from vgtool.scoring.statistics import clustered_mcnemar, clustered_mean, holm, mcnemar, smallest_gain

PAIRED_NOTE = (
    "Its interval draws whole images. p McNemar: exact, rows independent; p by image: rows of one image together "
    "(Durkalski 2003)."
)
CLAIMS = ("claim",)


def answers(pairs: pl.DataFrame, against: str, seed: int) -> list[Row]:
    """The rows gain, fixed, broken and smallest_gain of pairs with `outcome` before and `outcome_b` after."""
    was, now = (pairs[c].to_numpy() == "right" for c in ("outcome", "outcome_b"))
    change, images = now.astype(float) - was, pairs["image_id"].to_list()
    fixed, broken = int((now & ~was).sum()), int((was & ~now).sum())
    mean, low, high = clustered_mean(change, images, seed=seed)
    shared = {"against": against, "n": pairs.height, "images": pairs["image_id"].n_unique()}
    gain = {"value": mean, "low": low, "high": high, "p": mcnemar(fixed, broken)}
    return [
        shared | gain | {"metric": "gain", "p_image": clustered_mcnemar(change, images)},
        shared | {"metric": "fixed", "value": fixed},
        shared | {"metric": "broken", "value": broken},
        shared | {"metric": "smallest_gain", "value": smallest_gain(pairs.height, fixed + broken)},
    ]


def values(change: np.ndarray, images: Sequence[str], seed: int) -> Row:
    """value, low, high, p and p_image of differences [n]: both p by flipping signs, of rows and of whole images."""
    mean, low, high = clustered_mean(change, images, seed=seed)
    rows = [str(i) for i in range(len(change))]
    shared = {"n": len(change), "images": len(set(images)), "value": mean, "low": low, "high": high}
    return shared | {"p": clustered_mcnemar(change, rows), "p_image": clustered_mcnemar(change, images)}


def corrected(rows: Iterable[Row], kinds: Sequence[str] = CLAIMS) -> list[Row]:
    """The rows, with p_holm over the larger p of those that are claims (or of `kinds`)."""
    out = list(rows)
    tested = [row for row in out if row.get("p") is not None and row.get("kind") in kinds]
    adjusted = holm([max(row["p"], row["p_image"]) for row in tested])
    for row, p in zip(tested, adjusted, strict=True):
        row["p_holm"] = p
    return out
