"""Three witnesses of where a model looks, side by side on the same samples: its attention (attention ratio), what its
answer depends on (reliance), and where it says that the object is (the box in its words)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from vgtool.scoring.accuracy import levels
from vgtool.scoring.frame import Estimates, Row, framed, span
from vgtool.scoring.grounding import best_layer, estimates, over_layers, stacked
from vgtool.scoring.inputs import judged
from vgtool.scoring.runs import Scored
from vgtool.scoring.statistics import clustered_spearman
from vgtool.scoring.thirds import THIRDS, difference

MEASURES = ("reliance", "reliance_random", "sufficiency")
FIELD = "reliance third"
FEWEST = 10
"""Samples below which no rank correlation is given."""
DRAWS, FEWER = 2000, 500
"""Of the interval of a rank correlation: at the layer that the note speaks of and over layers, and elsewhere."""


def asked(one: Scored, name: str) -> Any:
    """What a probe's identity says of `reliance` or `ask`; None where it was not asked for, or is not read."""
    column = {"reliance": "reliance", "ask": "box_outcome"}[name]
    return one.run.identity.get(name) if column in one.rows.columns else None


def witnesses(one: Scored, rule: str | None = None, seed: int = 0) -> Iterator[Estimates]:
    """The table of one probe run, where it asked for more than attention."""
    rows = one.rows.filter(pl.col("error").is_null())
    own, notes, out = one.columns("witnesses"), list[str](), list[Row]()
    if not rows.height:
        return
    if asked(one, "reliance"):
        out += _reliance(one, rows, own, notes, seed)
        out += _right(one, rows, own | {"rule": rule or one.run.identity.get("rule", "strict")}, notes, rule, seed)
    if asked(one, "ask"):
        out += _words(one, rows, own, notes, seed)
    if out:
        yield Estimates(f"Three witnesses, {one.title}", framed(out), (*notes, *_unmeasured(rows), *one.run.notes))


def _reliance(one: Scored, rows: pl.DataFrame, own: Row, notes: list[str], seed: int) -> Iterator[Row]:
    """Reliance at all layers and by window, and how attention ratio ranks the same samples."""
    settings, images = asked(one, "reliance"), rows["image_id"].to_list()
    values = np.stack([_column(rows, name) for name in MEASURES], 1)
    beyond = (values[:, 0] - values[:, 1])[:, None]
    for name, row in zip((*MEASURES, "beyond"), estimates(np.hstack([values, beyond]), images, seed), strict=True):
        against = {"metric": "reliance", "against": "reliance_random"} if name == "beyond" else {"metric": name}
        yield own | against | row
    windows = [(at, at + settings["window"] - 1) for at in settings["starts"]]
    curves = [_curve(rows, name, len(windows)) for name in ("reliance_curve", "reliance_random_curve")]
    for name, curve in zip(MEASURES, curves, strict=False):
        for (first, last), row in zip(windows, estimates(curve, images, seed), strict=True):
            yield own | {"metric": name, "field": "layers", "level": f"{first} to {last}", "layer": first} | row
    measured = rows["layer_ratio"].is_not_null().to_numpy()
    if not measured.any():
        return
    rows, values, curve = rows.filter(measured), values[measured], curves[0][measured]
    images, ratio = rows["image_id"].to_list(), stacked(rows, "layer_ratio")
    spots = [*range(ratio.shape[1]), None]
    best = best_layer(rows)
    for layer in spots:
        looks = over_layers(ratio) if layer is None else ratio[:, layer]
        found = _ranks(looks, values[:, 0], images, seed, DRAWS if layer in (best, None) else FEWER)
        if found and layer == best:
            notes.append(_verdict(found, best))
        if found:
            yield own | {"metric": "spearman", "against": "reliance", "layer": layer} | found
    for at, (first, last) in enumerate(windows):
        if found := _ranks(over_layers(ratio[:, first : last + 1]), curve[:, at], images, seed, FEWER):
            place = {"field": "layers", "level": f"{first} to {last}", "layer": first}
            yield own | {"metric": "spearman", "against": "reliance"} | place | found


def _verdict(found: Row, layer: int) -> str:
    """Whether attention ratio ranks samples as reliance does, in words."""
    said = f"rank correlation of the two at layer {layer}, that of lowest KL: {found['value']:+.2f}"
    if found["low"] is None or not np.isfinite(found["low"]):
        return f"One image only: the {said} has no interval."
    spread = f"[{found['low']:+.2f}, {found['high']:+.2f}]"
    if found["low"] > 0:
        part = "" if found["value"] >= 0.5 else " in part"
        return f"Attention ratio predicts reliance{part} here: {said} {spread}."
    if found["high"] < 0:
        return f"Attention ratio ranks samples against reliance here: {said} {spread}."
    return f"Attention ratio does not predict reliance here: {said} {spread}."


def _right(
    one: Scored, rows: pl.DataFrame, own: Row, notes: list[str], rule: str | None, seed: int
) -> Iterator[Row]:
    """Accuracy of the probe's own answers in thirds of the samples by reliance."""
    known = rows.filter(pl.col("reliance").is_finite() & pl.col("answer").is_not_null())
    if known.height < FEWEST or known["reference"].null_count() == known.height:
        return
    rows = judged(replace(one.run, rows=known), rule).filter(pl.col("outcome") != "failed")
    cuts = [rows["reliance"].quantile(q, "linear") for q in (1 / 3, 2 / 3)]
    rows = rows.with_columns(
        third=pl.when(pl.col("reliance") <= cuts[0]).then(0).when(pl.col("reliance") <= cuts[1]).then(1).otherwise(2)
    )
    for third, name in enumerate(THIRDS):
        here = rows.filter(pl.col("third") == third)
        yield own | {"field": FIELD, "level": name} | levels(here, ("right", "wrong", "undecided", "failed"))[0]
    outer = rows.filter(pl.col("third") != 1)
    if outer["third"].n_unique() == 2:
        now = (outer["outcome"] == "right").to_numpy().astype(float)
        gap = difference(now, (outer["third"] == 2).to_numpy(), outer["image_id"].to_list(), seed)
        held = {"n": outer.height, "images": outer["image_id"].n_unique()}
        yield own | {"field": FIELD, "level": "highest", "against": "lowest", "metric": "difference"} | held | gap
    notes.append(f"Thirds of the samples by reliance, cut at {' and '.join(f'{cut:.3g}' for cut in cuts)} nats.")


def _words(one: Scored, rows: pl.DataFrame, own: Row, notes: list[str], seed: int) -> Iterator[Row]:
    """What the model says, against the true boxes and against its own attention."""
    rows = rows.filter(pl.col("box_outcome").is_not_null())
    if not rows.height:
        return
    images, outcome = rows["image_id"].to_list(), rows["box_outcome"]
    shares = np.stack([(outcome == name).to_numpy().astype(float) for name in ("box", "none", "unreadable")], 1)
    for name, row in zip(("said_box", "said_none", "unreadable"), estimates(shares, images, seed), strict=True):
        yield own | {"metric": name} | row
    true = (rows["boxes"].list.len() > 0).to_numpy()
    iou = _column(rows, "box_iou")
    missed = np.where(true, np.where(np.isfinite(iou), iou, 0.0), np.nan)
    inside = np.where(true, rows["box_centre_inside"].fill_null(False).to_numpy(), np.nan)
    half = np.where(np.isfinite(missed), missed >= 0.5, np.nan)
    columns = np.stack([iou, missed, half, inside], 1)
    names = ("box_iou", "box_iou_all", "box_iou_50", "box_centre_inside")
    for name, row in zip(names, estimates(columns, images, seed), strict=True):
        yield own | {"metric": name} | row
    said = rows.filter(pl.col("box_attention_ratio").is_not_null())
    if said.height:
        ratio = stacked(said, "box_attention_ratio")
        found = estimates(np.column_stack([ratio, over_layers(ratio)]), said["image_id"].to_list(), seed)
        for layer, row in enumerate(found):
            place = {"layer": layer if layer < ratio.shape[1] else None}
            yield own | {"metric": "box_attention_ratio"} | place | row
    looked = rows.filter(pl.col("layer_ratio").is_not_null() & pl.col("box_iou").is_finite())
    if looked.height:
        layer = best_layer(looked)
        looks = stacked(looked, "layer_ratio")[:, layer]
        if ranked := _ranks(looks, _column(looked, "box_iou"), looked["image_id"].to_list(), seed):
            yield own | {"metric": "spearman", "against": "box_iou", "layer": layer} | ranked
    notes.append("A box that is not said counts as a miss in IoU (all), IoU >= 0.5 and centre inside.")


def _unmeasured(rows: pl.DataFrame) -> list[str]:
    """How many samples lack a number, by reason, with one of them named."""
    lacking = rows.filter(pl.col("unmeasured").is_not_null())
    reasons = lacking["unmeasured"].str.split(":").list.first()
    out = []
    for reason in sorted(reasons.unique().to_list()):
        some = lacking.filter(reasons == reason)
        out.append(f"{some.height} samples without: {reason} ('{some['sample_id'][0]}').")
    return out


def _ranks(x: np.ndarray, y: np.ndarray, images: Sequence[str], seed: int, draws: int = DRAWS) -> Row | None:
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < FEWEST:
        return None
    some = [image for image, here in zip(images, known, strict=True) if here]
    found = clustered_spearman(x[known], y[known], some, seed=seed, draws=draws)
    return {"n": int(known.sum()), "images": len(set(some))} | span(found)


def _column(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _curve(rows: pl.DataFrame, name: str, windows: int) -> np.ndarray:
    """[samples, windows] of a list column, NaN where a sample has none."""
    lists = [one if one is not None else [None] * windows for one in rows[name].to_list()]
    return np.array(lists, np.float64).reshape(len(lists), windows)
