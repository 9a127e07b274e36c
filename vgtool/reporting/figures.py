"""Figures for a paper: PDF, SVG and PNG at the widths of a two-column page, in colours that colour-blind readers tell
apart, every series also by its marker or line style.

Text of a run is drawn as it is: no formula in it is typeset.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib import rc_context
from matplotlib.figure import Figure

from vgtool.grounding.heads import HeadFile, known_mean
from vgtool.reporting import fonts
from vgtool.reporting.inputs import Family, Source
from vgtool.scoring.runs import METRICS
from vgtool.scoring.statistics import clustered_mean, clustered_means, wilson

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette."""
MARKERS = "osD^vPX"
COLUMN, PAGE = 3.35, 7.0
"""Widths of one column and of both, inches."""
TITLES = {"layer_ratio": "attention ratio", "layer_kl": "KL divergence", "layer_js": "JS divergence"}
STYLE: Any = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "vgtool",
    "text.parse_math": False,
    "figure.facecolor": "white",
}
SUFFIXES = ("pdf", "svg", "png")
MOST = 6
"""Methods side by side where more could not be told apart."""


@dataclass(frozen=True)
class Drawn:
    """A figure: its file's stem, what it shows in a sentence, and the drawing."""

    stem: str
    caption: str
    figure: Figure


def draw(
    sources: Sequence[Source],
    families: Sequence[Family],
    heads: HeadFile | None,
    seed: int,
    out: Path,
    further: Iterable[Drawn] = (),
) -> list[tuple[str, Path]]:
    """Write every figure these runs allow into `out`, then the `further` ones; their captions and SVG files."""
    written = []
    with rc_context({**STYLE, "font.family": fonts.families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # said in the caption
        for one in chain(_all(sources, families, heads, seed), further):
            for suffix in SUFFIXES:
                # No dates in the files, so that the same run gives the same figure.
                metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}[suffix]
                one.figure.savefig(out / f"{one.stem}.{suffix}", dpi=220, metadata=metadata)
            written.append((one.caption + fonts.remark(one.figure), out / f"{one.stem}.svg"))
    return written


def _all(sources: Sequence[Source], families: Sequence[Family], heads: HeadFile | None, seed: int) -> Iterator[Drawn]:
    probes = [one for one in sources if one.run.kind == "probe" and one.measured.height]
    refines = [one for one in sources if one.run.kind == "refine" and one.run.rows.height]
    if probes:
        yield layers(probes, seed)
    for at, one in enumerate(probes):
        yield head_map(one, _chosen(one, refines, heads), f"heads-{at}")
    if refines:
        yield accuracy(refines)
    for at, one in enumerate(refines):
        if one.run.rows["group"].n_unique() > 1:
            yield modality(one, f"modality-accuracy-{at}")
    for at, one in enumerate(probes):
        if one.measured["group"].n_unique() > 1:
            yield modality_grounding(one, seed, f"modality-grounding-{at}")
    swept = [(family, sweeps(family)) for family in families]
    if any(found for _, found in swept):
        yield ablation([(family, found) for family, found in swept if found])
    number = 0
    for family in families:
        for probe in [one for one in family.probes if one.measured.height][:1]:
            for refine in family.refines:
                drawn = gain(probe, refine, seed, f"gain-{number}")
                if drawn is not None:
                    number += 1
                    yield drawn


def label(text: object, most: int = 44) -> str:
    """Text of a run as a figure can hold it: one line, printable, not too long; a leading underscore would hide it."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    return f" {shown}" if shown.startswith("_") else shown


def _colour(at: int) -> str:
    return COLOURS[at % len(COLOURS)]


def _marker(at: int) -> str:
    return MARKERS[at % len(MARKERS)]


def best_layer(values: np.ndarray) -> int:
    """The layer of lowest mean KL [samples, L] among those known on more than half of the samples; 0 without any."""
    return int(np.nan_to_num(known_mean(values), nan=np.inf).argmin())


def stacked(rows: pl.DataFrame, name: str) -> np.ndarray:
    """[samples, values] of a list column, NaN where there is no number."""
    return rows[name].explode().cast(pl.Float64).to_numpy().reshape(rows.height, -1)


# ---- grounding ---------------------------------------------------------------------------------------------------


def layers(probes: Sequence[Source], seed: int) -> Drawn:
    """Layer curves: a colour for each model (or run, of one model), solid for medical, dashed for natural images."""
    figure = Figure(figsize=(PAGE, 2.2 + 0.14 * ((len(probes) + 1) // 2)), layout="constrained")
    axes = figure.subplots(1, 3)
    models = list(dict.fromkeys(one.model for one in probes))
    lines = []
    for at, one in enumerate(probes):
        good = one.measured
        natural = set(good["domain"].drop_nulls()) == {"natural"}
        tone = _colour(at if len(models) == 1 else models.index(one.model))
        images = good["image_id"].to_list()
        for axis, metric in zip(axes, METRICS, strict=True):
            mean, low, high = clustered_means(stacked(good, metric), images, seed=seed).T
            (line,) = axis.plot(mean, color=tone, ls="--" if natural else "-", marker=_marker(at), markevery=0.1)
            axis.fill_between(range(len(mean)), low, high, color=tone, alpha=0.18, lw=0)
        lines.append((line, f"{label(one.name)} ({'natural' if natural else 'medical'})"))
    for axis, metric in zip(axes, METRICS, strict=True):
        axis.set_title(TITLES[metric])
        axis.set_xlabel("layer")
    axes[0].axhline(1, color="#888888", lw=0.7, ls=":")
    figure.legend([line for line, _ in lines], [text for _, text in lines], loc="outside lower center", ncols=2)
    caption = "Grounding by layer: mean with 95 % bootstrap over images. Attention ratio 1 is uniform; KL and JS: lower"
    return Drawn("layers", f"{caption} is better. Solid: medical images, dashed: natural.", figure)


def _chosen(probe: Source, refines: Sequence[Source], heads: HeadFile | None) -> list[tuple[int, int]]:
    """The heads to mark: of the head file if it is this model's, else of a refine run of the model."""
    if heads is not None and heads.model == probe.run.identity["model"]:
        return [(layer, head) for layer, head, _ in heads.ranked]
    for one in refines:
        if one.run.identity["model"] == probe.run.identity["model"] and one.run.identity.get("heads"):
            return [(int(layer), int(head)) for layer, head in one.run.identity["heads"]]
    return []


def head_map(one: Source, chosen: Sequence[tuple[int, int]], stem: str) -> Drawn:
    """Mean KL of every head, layer by head, with the chosen heads ringed."""
    good = one.measured
    depth = len(good["layer_kl"][0])
    values = stacked(good, "head_kl")
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(0)
    mean = np.divide(total, known.sum(0), out=np.full(total.shape, np.nan), where=known.any(0)).reshape(depth, -1)
    figure = Figure(figsize=(COLUMN, 2.7), layout="constrained")
    axis = figure.subplots()
    shown = axis.imshow(mean.T, cmap="cividis_r", aspect="auto", origin="lower", interpolation="nearest")
    figure.colorbar(shown, label="mean KL (lower grounds better)")
    marked = [(layer, head) for layer, head in chosen if layer < mean.shape[0] and head < mean.shape[1]]
    if marked:
        x, y = zip(*marked, strict=True)
        axis.scatter(x, y, s=34, facecolors="none", edgecolors="white", linewidths=1.8)
        axis.scatter(x, y, s=34, facecolors="none", edgecolors="#D55E00", linewidths=0.9)
    axis.set_facecolor("#dddddd")
    axis.set(xlabel="layer", ylabel="head", title=label(one.name))
    rings = f" Ringed: the {len(marked)} chosen heads." if marked else ""
    return Drawn(stem, f"Heads of {one.name}: mean KL by layer and head; grey: none.{rings}", figure)


def modality_grounding(one: Source, seed: int, stem: str) -> Drawn:
    """Attention ratio and KL of every modality at the run's best layer."""
    good = one.measured.with_columns(pl.col("group").fill_null(""))
    layer = best_layer(stacked(good, "layer_kl"))
    groups = _largest(good["group"].to_list())
    figure = Figure(figsize=(PAGE * 0.72, 0.9 + 0.2 * len(groups)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for at, (group, _) in enumerate(groups):
        rows = good.filter(pl.col("group") == group)
        images = rows["image_id"].to_list()
        for axis, metric in zip(axes, METRICS[:2], strict=True):
            mean, low, high = clustered_mean(stacked(rows, metric)[:, layer], images, seed=seed)
            known = len(set(images)) > 1
            if known:
                axis.plot([low, high], [at, at], color=COLOURS[0])
            axis.plot(mean, at, "o", color=COLOURS[0], fillstyle="full" if known else "none")
            axis.set_xlabel(f"{TITLES[metric]}, layer {layer}")
    axes[0].set_yticks(range(len(groups)), [f"{label(g, 24) or '(none)'} ({n})" for g, n in groups])
    axes[0].invert_yaxis()
    caption = f"Grounding by modality, {one.name}, at layer {layer}: mean with 95 % over images"
    return Drawn(stem, f"{caption}; hollow: one image, no interval.", figure)


def _largest(names: Sequence[str], most: int = 20) -> list[tuple[str, int]]:
    return Counter(names).most_common(most)


# ---- accuracy ----------------------------------------------------------------------------------------------------


def share(rows: pl.DataFrame) -> tuple[float, float, float, int]:
    """Accuracy %, its Wilson interval, and the rows counted; NaN without rows."""
    counted = rows.filter(pl.col("outcome") != "failed")
    right = int((counted["outcome"] == "right").sum())
    low, high = wilson(right, counted.height)
    return (100 * right / counted.height if counted.height else np.nan, 100 * low, 100 * high, counted.height)


def accuracy(refines: Sequence[Source]) -> Drawn:
    """Accuracy by method, a panel for each benchmark, a colour for each run."""
    panels: dict[str, list[Source]] = {}
    for one in refines:
        panels.setdefault(f"{one.run.identity['benchmark']} ({one.run.identity.get('split')})", []).append(one)
    methods = list(dict.fromkeys(m for one in refines for m in one.methods))
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    tall = down * (0.75 + len(methods) * (0.14 + 0.06 * max(map(len, panels.values()))))
    figure = Figure(figsize=(COLUMN if across == 1 else PAGE, tall + 0.15 * len(refines)), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis, (title, runs) in zip(axes, panels.items(), strict=False):
        for at, one in enumerate(runs):
            tone, shift = _colour(at), 0.0 if len(runs) == 1 else 0.5 * (at / (len(runs) - 1) - 0.5)
            for y, method in enumerate(methods):
                mean, low, high, rows = share(one.run.rows.filter(pl.col("method") == method))
                if rows:
                    axis.plot([low, high], [y + shift, y + shift], color=tone)
                    axis.plot(mean, y + shift, _marker(at), color=tone, label=label(one.name))
                    if method == "baseline":
                        axis.axvline(mean, color=tone, lw=0.7, ls=":")
        axis.set(title=label(title), xlabel="accuracy, %")
        named = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        if len(runs) > 1:
            axis.legend(list(named.values()), list(named), fontsize=6)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    axes[0].set_yticks(range(len(methods)), [label(method, 32) for method in methods])
    axes[0].invert_yaxis()
    return Drawn("accuracy", "Accuracy by method, 95 % Wilson. Dotted: the baseline.", figure)


def modality(one: Source, stem: str) -> Drawn:
    """Dot plot: accuracy of each modality under each method."""
    rows = one.run.rows.with_columns(pl.col("group").fill_null(""))
    groups = _largest(rows.filter(pl.col("method") == one.methods[0])["group"].to_list())
    methods = one.methods[:MOST]
    figure = Figure(figsize=(COLUMN * 1.3, 1.0 + 0.3 * len(groups) + 0.07 * len(methods)), layout="constrained")
    axis = figure.subplots()
    dots = []
    for at, method in enumerate(methods):
        shift = 0.0 if len(methods) == 1 else 0.6 * (at / (len(methods) - 1) - 0.5)
        for y, (group, _) in enumerate(groups):
            mean, low, high, count = share(rows.filter((pl.col("method") == method) & (pl.col("group") == group)))
            if count:
                axis.plot([low, high], [y + shift] * 2, color=_colour(at), lw=0.7, alpha=0.6)
                axis.plot(mean, y + shift, _marker(at), color=_colour(at))
        dots += axis.plot([], [], _marker(at), color=_colour(at))
    axis.set_yticks(range(len(groups)), [f"{label(g, 24) or '(none)'} ({n})" for g, n in groups])
    axis.invert_yaxis()
    axis.set(xlabel="accuracy, %", title=label(one.name))
    figure.legend(dots, [label(m, 30) for m in methods], loc="outside lower center", ncols=2)
    more = len(one.methods) - MOST
    left_out = f" Further methods, only in the tables: {more}." if more > 0 else ""
    return Drawn(stem, f"Accuracy by modality (rows), {one.name}, 95 % Wilson.{left_out}", figure)


# ---- ablations ---------------------------------------------------------------------------------------------------

Sweep = tuple[str, str, str]
"""Method, the parameter that varies, and the others as they were given."""


def parameters(text: str) -> tuple[str, dict[str, str]]:
    """`name:key=value,...` taken apart."""
    name, _, rest = text.partition(":")
    pairs = (pair.partition("=") for pair in rest.split(",") if "=" in pair)
    return name, {key.strip(): value.strip() for key, _, value in pairs}


def sweeps(family: Family) -> dict[Sweep, dict[str, pl.DataFrame]]:
    """Methods of a family that differ in one parameter alone: its values, each with the method's rows."""
    found: dict[Sweep, dict[str, pl.DataFrame]] = {}
    for one in family.refines:
        for method in one.methods:
            name, given = parameters(method)
            for key, value in given.items():
                rest = ",".join(f"{k}={v}" for k, v in sorted(given.items()) if k != key)
                rows = one.run.rows.filter(pl.col("method") == method)
                found.setdefault((name, key, rest), {}).setdefault(value, rows)
    return {sweep: values for sweep, values in found.items() if len(values) > 1}


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def ablation(swept: Sequence[tuple[Family, dict[Sweep, dict[str, pl.DataFrame]]]]) -> Drawn:
    """A panel for each method and parameter, a line for each model and setting of the others."""
    panels = list(dict.fromkeys(sweep[:2] for _, found in swept for sweep in found))
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(COLUMN if across == 1 else PAGE, 2.3 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis, (name, key) in zip(axes, panels, strict=False):
        mine = [(f, s, v) for f, found in swept for s, v in found.items() if s[:2] == (name, key)]
        names = list(dict.fromkeys(value for _, _, values in mine for value in values))
        numeric = all(_value(value) is not None for value in names)
        for at, (family, sweep, values) in enumerate(mine):
            points = [(_value(v) if numeric else names.index(v), *share(rows)[:3]) for v, rows in values.items()]
            x, mean, low, high = np.array(sorted(points), dtype=float).T
            title = ", ".join(filter(None, [family.key[0], family.key[2], sweep[2]]))
            axis.errorbar(
                x, mean, [mean - low, high - mean], color=_colour(at), marker=_marker(at), capsize=2, label=label(title)
            )
            plain = name + (f":{sweep[2]}" if sweep[2] else "")
            for other, style in (("baseline", ":"), (plain, "--")):
                rows = [o.run.rows.filter(pl.col("method") == other) for o in family.refines if other in o.methods]
                if rows and rows[0].height:
                    axis.axhline(share(rows[0])[0], color=_colour(at), lw=0.8, ls=style)
        if not numeric:
            axis.set_xticks(range(len(names)), [label(value, 12) for value in names])
        axis.set(title=label(name, 24), xlabel=label(key), ylabel="accuracy, %")
        axis.legend(fontsize=6)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    caption = (
        "Ablations: methods that differ in one parameter, 95 % Wilson. Dotted: the baseline; dashed: the parameter"
    )
    return Drawn("ablation", f"{caption} at its default.", figure)


# ---- gain against grounding --------------------------------------------------------------------------------------


def gain(probe: Source, refine: Source, seed: int, stem: str) -> Drawn | None:
    """Accuracy, and gain over the baseline, of samples in bins by where the model looked; None with too few."""
    good = probe.measured
    layer = best_layer(stacked(good, "layer_kl"))
    ratio = good.select("sample_id", pl.Series("ratio", stacked(good, "layer_ratio")[:, layer]))
    rows = refine.run.rows.filter(pl.col("outcome") != "failed").join(
        ratio.filter(pl.col("ratio").is_finite()), on="sample_id"
    )
    methods = [m for m in refine.methods if m != "baseline"][: MOST - 1]
    base = rows.filter(pl.col("method") == "baseline").unique("sample_id", maintain_order=True)
    bins = min(5, base.height // 10)
    if bins < 2 or not methods:
        return None
    edges = np.quantile(base["ratio"].to_numpy(), np.linspace(0, 1, bins + 1)[1:-1])
    figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    lines = []
    for at, method in enumerate(["baseline", *methods]):
        mine = rows.filter(pl.col("method") == method)
        pairs = base.join(mine.select("sample_id", now="outcome"), on="sample_id")
        place = np.digitize(pairs["ratio"].to_numpy(), edges)
        levels, gains = [], []
        for number in range(bins):
            some = pairs.filter(pl.Series(place == number))
            if not some.height:
                continue
            x = float(some["ratio"].to_numpy().mean())
            mean, low, high, _ = share(some.select(outcome="now"))
            levels.append((x, mean, low, high))
            change = (some["now"] == "right").to_numpy().astype(float) - (some["outcome"] == "right").to_numpy()
            gains.append((x, *(100 * v for v in clustered_mean(change, some["image_id"].to_list(), seed=seed))))
        style = {"color": _colour(at), "marker": _marker(at)}
        for axis, points in ((left, levels), (right, gains)):
            if points and (axis is left or method != "baseline"):
                x_, mean_, low_, high_ = np.array(points).T
                (line,) = axis.plot(x_, mean_, **style)
                if axis is right or method == "baseline":
                    axis.fill_between(x_, low_, high_, color=style["color"], alpha=0.1, lw=0)
        lines.append((line, label(method, 36)))
    right.axhline(0, color="#888888", lw=0.7, ls=":")
    left.set(xlabel=f"attention ratio, layer {layer}", ylabel="accuracy, %", title=label(refine.name))
    right.set(xlabel=f"attention ratio, layer {layer}", ylabel="gain over the baseline, points")
    figure.legend([one for one, _ in lines], [text for _, text in lines], loc="outside lower center", ncols=3)
    text = f"Gain against grounding, {refine.name}: {base.height} samples in {bins} bins by attention ratio at layer"
    return Drawn(stem, f"{text} {layer}; bands 95 % (left: Wilson, baseline only; right: by image).", figure)
