"""Answers beside where the model looked: is it right more often where it looks right?"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from vgtool.scoring.accuracy import levels
from vgtool.scoring.frame import Estimates, Row, framed
from vgtool.scoring.grounding import best_layer, measured
from vgtool.scoring.runs import Scored
from vgtool.scoring.statistics import numbered

THIRDS = ("lowest", "middle", "highest")
FIELD = "attention ratio third"


def same_rows(answers: Scored, probe: Scored) -> bool:
    """Whether two runs are of one model on one set of rows."""
    names = ("model", "revision", "benchmark", "split", "data_digest")
    return all(answers.run.identity.get(n) == probe.run.identity.get(n) for n in names)


def accuracy_by_attention(probe: Scored, one: Scored, seed: int = 0) -> Estimates:
    """Accuracy in thirds of the samples by attention ratio at the probe's best layer."""
    good = measured(probe)
    layer = best_layer(good)
    ratio = good.select("sample_id", pl.col("layer_ratio").list.get(layer).alias("ratio")).filter(
        pl.col("ratio").is_finite()
    )
    cuts = [ratio["ratio"].quantile(q, "linear") for q in (1 / 3, 2 / 3)]
    rows = one.rows.filter(pl.col("outcome") != "failed").join(ratio, on="sample_id")
    rows = rows.with_columns(
        third=pl.when(pl.col("ratio") <= cuts[0]).then(0).when(pl.col("ratio") <= cuts[1]).then(1).otherwise(2)
    )
    out: list[Row] = []
    for method in one.methods:
        mine = rows.filter(pl.col("method") == method)
        own = one.columns("thirds") | {"method": method, "kind": one.role(method), "field": FIELD, "layer": layer}
        for third, name in enumerate(THIRDS):
            out.append(own | {"level": name} | levels(mine.filter(pl.col("third") == third), one.outcomes)[0])
        outer = mine.filter(pl.col("third") != 1)
        if outer["third"].n_unique() == 2:
            now = (outer["outcome"] == "right").to_numpy().astype(float)
            gap = difference(now, (outer["third"] == 2).to_numpy(), outer["image_id"].to_list(), seed)
            held = {"n": outer.height, "images": outer["image_id"].n_unique()}
            out.append(own | {"level": "highest", "against": "lowest", "metric": "difference"} | held | gap)
    spots = " and ".join(f"{cut:.3f}" for cut in cuts if cut is not None)
    notes = (f"Thirds of the samples by attention ratio at layer {layer}, cut at {spots}; accuracy %, Wilson.",)
    title = f"Accuracy by where the model looked, {one.title}"
    if probe.names.apart:
        title += f", looked at by {probe.names.name}"
    return Estimates(title, framed(out), (*notes, *one.run.notes))


def difference(values: np.ndarray, upper: np.ndarray, images: Sequence[str], seed: int, draws: int = 2000) -> Row:
    """Mean of `values` where `upper` minus their mean elsewhere, with a bootstrap over images that both sides share."""
    index = numbered(images)
    count = int(index.max()) + 1
    both = np.zeros((count, 4))
    np.add.at(both, index, np.stack([values * upper, values * ~upper, upper, ~upper], 1))
    rng = np.random.default_rng(seed)

    def gap(sums: np.ndarray) -> float:
        return float(sums[0] / sums[2] - sums[1] / sums[3]) if sums[2] and sums[3] else float("nan")

    drawn = [gap(np.bincount(rng.integers(0, count, count), minlength=count) @ both) for _ in range(draws)]
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return {"value": gap(both.sum(0)), "low": float(low), "high": float(high)}
