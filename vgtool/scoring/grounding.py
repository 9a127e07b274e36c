"""Where models look: attention ratio, KL and JS by layer, head and group, means over samples with intervals over
images. Layers and heads are chosen on the very samples they are shown for."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from vgtool.errors import VgError
from vgtool.grounding.heads import rank, sensitive_layer
from vgtool.scoring.frame import Estimates, Row, framed, span
from vgtool.scoring.runs import HEAD_METRICS, METRICS, Scored
from vgtool.scoring.statistics import clustered_means

NAMES = ("attention_ratio", "kl", "js")
"""What METRICS are called in the frame."""
TOP_HEADS = 20
CHOSEN = "Layers and heads are chosen on these very samples."
SCALE = "Attention ratio 1 is uniform, higher is better; KL and JS lower is better. 95 % bootstrap over images."


def measured(one: Scored) -> pl.DataFrame:
    """The rows that have metrics. VgError when there is none."""
    if not one.measured.height:
        raise VgError(f"'{one.run.path}' has no sample with a grounding metric.", "Probe a benchmark with boxes.")
    return one.measured


def stacked(rows: pl.DataFrame, name: str, places: Sequence[int] | slice = slice(None)) -> np.ndarray:
    """[samples, values] of a list column (of some `places` in it), NaN where there is no number."""
    return rows[name].explode().to_numpy().reshape(rows.height, -1)[:, places].astype(np.float64)


def best_layer(rows: pl.DataFrame) -> int:
    """The layer of lowest mean KL."""
    return sensitive_layer(stacked(rows, "layer_kl"))


def estimates(columns: np.ndarray, images: Sequence[str], seed: int) -> list[Row]:
    """A row (n, images, value, low, high) for each column of values [samples, C]."""
    known = np.isfinite(columns)
    index = np.unique(np.asarray(images), return_inverse=True)[1]
    held = [len(np.unique(index[column])) for column in known.T]
    spans = clustered_means(columns, images, seed=seed)
    n = known.sum(0).tolist()
    return [{"n": n[at], "images": held[at]} | span(each) for at, each in enumerate(spans)]


def over_layers(columns: np.ndarray) -> np.ndarray:
    """Mean over the layers [samples, L] that are known; NaN where none is."""
    known = np.isfinite(columns)
    total = np.where(known, columns, 0).sum(1)
    return np.divide(total, known.sum(1), out=np.full(total.shape, np.nan), where=known.any(1))


def layers(one: Scored, seed: int = 0) -> Estimates:
    """Every metric per layer, and over layers (a row without `layer`)."""
    good = measured(one)
    images, own, out = good["image_id"].to_list(), one.columns("grounding"), list[Row]()
    for metric, name in zip(METRICS, NAMES, strict=True):
        values = stacked(good, metric)
        found = estimates(np.column_stack([values, over_layers(values)]), images, seed)
        depth = values.shape[1]
        out += [
            own | {"metric": name, "layer": at if at < depth else None} | row for at, row in enumerate(found)
        ]
    notes = [samples_note(one), f"Lowest KL: layer {best_layer(good)}. {CHOSEN} {SCALE}", *one.run.notes]
    return Estimates(f"Grounding, {one.title}", framed(out), tuple(notes))


def samples_note(one: Scored) -> str:
    """How many samples have a metric, and why others have none."""
    errors = one.rows["error"].drop_nulls()
    outside = int(errors.str.starts_with("no_region").sum())
    without = one.rows.height - one.measured.height - errors.len()
    return (
        f"{one.measured.height} samples; {outside} whose boxes the model cannot see, {errors.len() - outside} failed, "
        f"{without} without boxes."
    )


def heads(one: Scored, seed: int = 0) -> Estimates:
    """The heads of lowest mean KL, best first."""
    good = measured(one)
    images, depth, out = good["image_id"].to_list(), len(good["layer_kl"][0]), list[Row]()
    across = len(good["head_kl"][0]) // depth
    ranked = rank(stacked(good, "head_kl").reshape(good.height, depth, across))
    order = [(layer, head) for layer, head, _ in ranked[:TOP_HEADS]]
    for metric, name in zip(HEAD_METRICS, NAMES, strict=True):
        columns = stacked(good, metric, [layer * across + head for layer, head in order])
        for (layer, head), row in zip(order, estimates(columns, images, seed), strict=True):
            out.append(one.columns("heads") | {"metric": name, "layer": layer, "head": head} | row)
    notes = [f"Samples: those on which the head looks at the image at all. {CHOSEN} {SCALE}", *one.run.notes]
    return Estimates(f"Heads of lowest KL, {one.title}", framed(out), tuple(notes))


def groups(one: Scored, by: str, seed: int = 0) -> Estimates:
    """Each value of a field (modality, question type) at the run's best layer."""
    good = measured(one)
    layer, out = best_layer(good), list[Row]()
    kept = good.with_columns(pl.col(by).fill_null(""))
    for value in sorted(kept[by].unique().to_list()):
        rows = kept.filter(pl.col(by) == value)
        columns = np.stack([stacked(rows, metric)[:, layer] for metric in METRICS], 1)
        own = one.columns("groups") | {"field": by, "level": value, "layer": layer}
        found = estimates(columns, rows["image_id"].to_list(), seed)
        out += [own | {"metric": name} | row for name, row in zip(NAMES, found, strict=True)]
    title = f"Grounding by {by.replace('_', ' ')}, layer {layer}, {one.title}"
    return Estimates(title, framed(out), (f"{CHOSEN} {SCALE}", *one.run.notes))


def summary(runs: Sequence[Scored], seed: int = 0) -> Estimates:
    """Several probe runs, medical beside natural, each at its own best layer and over all layers."""
    out: list[Row] = []
    for one in runs:
        good = measured(one)
        layer, domain = best_layer(good), "+".join(sorted(good["domain"].drop_nulls().unique().to_list()))
        values = [stacked(good, metric) for metric in METRICS]
        columns = np.stack([*(v[:, layer] for v in values), *map(over_layers, values)], 1)
        own = one.columns("probes") | {"field": "domain", "level": domain}
        found = estimates(columns, good["image_id"].to_list(), seed)
        at = [*((name, layer) for name in NAMES), *((name, None) for name in NAMES)]
        out += [own | {"metric": name, "layer": where} | row for (name, where), row in zip(at, found, strict=True)]
    notes = [f"{CHOSEN} {SCALE}", *(f"{one.title}: {note}" for one in runs for note in one.run.notes)]
    return Estimates("Grounding of all probe runs", framed(out), tuple(notes))
