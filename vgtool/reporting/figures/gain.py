"""Gain against grounding: are answers repaired where the model looked badly?"""

from typing import Any

import numpy as np
import polars as pl

from vgtool.reporting.figures.accuracy import GAIN, LEVEL
from vgtool.reporting.figures.style import PAGE, Drawn, chosen, explain, label, panels, series, shift, wrapped
from vgtool.reporting.inputs import Source
from vgtool.scoring.grounding import stacked
from vgtool.scoring.statistics import clustered_mean, wilson

BINS, LEAST = 5, 10
"""Bins at most, and samples in each at least."""


def gain(probe: Source, refine: Source, seed: int) -> Drawn | None:
    """Accuracy, and gain over the baseline, of samples in bins by where the model looked; None with too few."""
    layer = probe.best
    assert layer is not None
    ratio = pl.Series("ratio", stacked(probe.measured, "layer_ratio")[:, layer])
    looked = probe.measured.select("sample_id", ratio).filter(pl.col("ratio").is_finite())
    rows = refine.run.rows.filter(pl.col("outcome") != "failed").join(looked, on="sample_id")
    methods, left_out = chosen([m for m in refine.methods if m != "baseline"], 5)
    base = rows.filter(pl.col("method") == "baseline").unique("sample_id", maintain_order=True)
    bins = min(BINS, base.height // LEAST)
    if bins < 2 or not methods:
        return None
    edges = np.quantile(base["ratio"].to_numpy(), np.linspace(0, 1, bins + 1)[1:-1])
    texts = [label(method, 36) for method in ["baseline", *methods]]
    figure, ((left, right),) = panels(PAGE, 2.2, 1, 2, texts)
    wide = float(np.ptp(base["ratio"].to_numpy())) or 1.0
    lines = []
    for at, method in enumerate(["baseline", *methods]):
        pairs = base.join(rows.filter(pl.col("method") == method).select("sample_id", now="outcome"), on="sample_id")
        place = np.digitize(pairs["ratio"].to_numpy(), edges)
        some = [pairs.filter(pl.Series(place == number)) for number in range(bins)]
        binned = [_bin(one, seed) for one in some if one.height]
        aside = wide * shift(at, len(texts), 0.02)
        x = [one["x"] + aside for one in binned]
        (line,) = left.plot(x, [one["level"] for one in binned], **series(at))
        if method == "baseline":
            left.fill_between(x, *np.transpose([one["wilson"] for one in binned]), color="#0072B2", alpha=0.12, lw=0)
        else:
            right.plot(x, [one["gain"] for one in binned], **series(at))
            ends = np.transpose([one["span"] for one in binned])
            right.vlines(x, *ends, color=series(at)["color"], lw=0.9, alpha=0.7)
        lines.append(line)
    right.axhline(0, color="#888888", lw=0.7, ls=":", zorder=0)
    left.set(xlabel=f"attention ratio, layer {layer}", ylabel=LEVEL)
    right.set(xlabel=f"attention ratio, layer {layer}", ylabel=GAIN.replace("the ", "the\n"))
    figure.suptitle(wrapped(refine.name, PAGE), fontsize=8)
    explain(figure, lines, texts)
    text = f"Gain against grounding, {refine.name} by {probe.name}: {base.height} samples in {bins} bins by attention"
    said = f"{text} ratio at layer {layer}. Left: the baseline's band is 95 % Wilson; right: on the same rows, 95 % by"
    said += " image."
    return Drawn(f"gain-{refine.number}-{probe.number}", said + left_out, figure)


def _bin(pairs: pl.DataFrame, seed: int) -> dict[str, Any]:
    """Of the pairs (`outcome` before, `now`) of a bin: mean ratio, accuracy with Wilson, gain by image; in per cent."""
    right = int((pairs["now"] == "right").sum())
    change = (pairs["now"] == "right").to_numpy().astype(float) - (pairs["outcome"] == "right").to_numpy()
    mean, low, high = clustered_mean(change, pairs["image_id"].to_list(), seed=seed)
    band = [100 * end for end in wilson(right, pairs.height)]
    own = {"x": float(pairs["ratio"].to_numpy().mean()), "level": 100 * right / pairs.height, "wilson": band}
    return own | {"gain": 100 * mean, "span": [100 * low, 100 * high]}
