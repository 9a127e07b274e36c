"""Figures and one self-contained page of run folders. No image data, no network, no script: tables and curves.

The page's policy forbids every fetch; figures are embedded, every text is escaped.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import polars as pl

from vgtool.errors import VgError
from vgtool.scoring.statistics import clustered_mean, wilson
from vgtool.scoring.tables import ANSWERS, METRICS, Run, Table, accuracy, grounding, judged, kind_of, read_run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette: told apart by colour-blind readers."""
TITLES = {"layer_ratio": "Attention ratio", "layer_kl": "KL divergence", "layer_js": "JS divergence"}


def write(inputs: Sequence[Path], out: Path, *, rule: str | None, partial: bool, seed: int) -> Path:
    """Write figures and index.html into `out`; returns the page. VgError when `out` cannot be written."""
    import matplotlib

    matplotlib.use("Agg")
    probes, refines = [], []
    for path in inputs:
        if kind_of(path) == "probe":
            probes.append(read_run(path, ["image_id", "domain", "error", *METRICS, "head_kl"], partial))
        else:
            refines.append(read_run(path, ANSWERS, partial))
    tables: list[Table] = []
    for run in refines:
        tables += [accuracy(run, rule, by, seed) for by in (None, "question_type", "group")]
    tables += [grounding(run, seed) for run in probes]
    try:
        out.mkdir(parents=True, exist_ok=True)
        figures = []
        if probes:
            figures.append(_saved(_curves(probes, seed), out / "layers"))
        figures += [_saved(_head_map(run), out / f"heads-{i}") for i, run in enumerate(probes)]
        figures += [_saved(_bars(run, rule), out / f"accuracy-{i}") for i, run in enumerate(refines)]
        page = out / "index.html"
        page.write_text(_page(tables, figures, [*refines, *probes]), encoding="utf-8")
    except OSError as error:
        raise VgError(f"Cannot write in '{out}': {error.strerror}.", "Choose another --out.") from None
    return page


def _page(tables: Sequence[Table], figures: Sequence[tuple[str, Path]], runs: Sequence[Run]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vgtool.reporting"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    drawn = [(title, base64.b64encode(path.read_bytes()).decode()) for title, path in figures]
    return environment.get_template("page.html").render(tables=tables, figures=drawn, runs=runs)


def _saved(figure: tuple[str, Any], stem: Path) -> tuple[str, Path]:
    import matplotlib.pyplot as plt

    title, drawn = figure
    for suffix in ("pdf", "svg", "png"):
        # No dates in the files, so that the same run gives the same figure.
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": None}[suffix]
        drawn.savefig(stem.with_suffix(f".{suffix}"), dpi=160, metadata=metadata, bbox_inches="tight")
    plt.close(drawn)
    return title, stem.with_suffix(".png")


def _curves(runs: Sequence[Run], seed: int) -> tuple[str, Any]:
    """Mean per layer with a 95 % band over images, every run a line (paper: layer curves)."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 2.8))
    for axis, metric in zip(axes, METRICS, strict=True):
        for colour, run in zip(COLOURS * (1 + len(runs) // len(COLOURS)), runs, strict=False):
            good = run.rows.filter(pl.col("error").is_null() & pl.col(metric).is_not_null())
            values, images = np.array(good[metric].to_list(), dtype=np.float64), good["image_id"].to_numpy()
            known = [np.isfinite(values[:, layer]) for layer in range(values.shape[1])]
            points = [
                clustered_mean(values[k, layer], images[k].tolist(), seed=seed) if k.any() else (np.nan,) * 3
                for layer, k in enumerate(known)
            ]
            mean, low, high = np.array(points).T
            axis.plot(
                mean, color=colour, marker="o", ms=3, label=f"{run.identity['model']}, {run.identity['benchmark']}"
            )
            axis.fill_between(range(len(mean)), low, high, color=colour, alpha=0.2, lw=0)
        axis.set_xlabel("layer")
        axis.set_title(TITLES[metric], fontsize=10)
    axes[0].axhline(1, color="grey", lw=0.8, ls=":")
    axes[0].legend(fontsize=7)
    return "Grounding per layer", figure


def _head_map(run: Run) -> tuple[str, Any]:
    """Mean KL of every head, layer by head."""
    import matplotlib.pyplot as plt

    good = run.rows.filter(pl.col("head_kl").is_not_null())
    layers = len(good["layer_kl"][0])
    values = np.array(good["head_kl"].to_list(), dtype=np.float64).reshape(good.height, layers, -1)
    known = np.isfinite(values)
    mean = np.divide(
        np.where(known, values, 0).sum(0), known.sum(0), out=np.full(values.shape[1:], np.nan), where=known.any(0)
    )
    figure, axis = plt.subplots(figsize=(4, 3))
    drawn = axis.imshow(mean.T, cmap="viridis_r", aspect="auto", origin="lower")
    figure.colorbar(drawn, label="mean KL (lower grounds better)")
    axis.set_xlabel("layer")
    axis.set_ylabel("head")
    return f"Heads, {run.identity['model']} on {run.identity['benchmark']}", figure


def _bars(run: Run, rule: str | None) -> tuple[str, Any]:
    """Accuracy per method with Wilson intervals."""
    import matplotlib.pyplot as plt

    rows, methods = judged(run, rule), run.identity["methods"]
    figure, axis = plt.subplots(figsize=(5, 0.35 * len(methods) + 1))
    for at, method in enumerate(reversed(methods)):
        mine = rows.filter((pl.col("method") == method) & (pl.col("outcome") != "failed"))
        right = int((mine["outcome"] == "right").sum())
        low, high = wilson(right, mine.height)
        axis.plot([100 * low, 100 * high], [at, at], color=COLOURS[0])
        axis.plot(100 * right / max(mine.height, 1), at, "o", color=COLOURS[method != "baseline"])
    axis.set_yticks(range(len(methods)), list(reversed(methods)), fontsize=8)
    axis.set_xlabel("accuracy, % (95 % Wilson)")
    return f"Accuracy, {run.identity['model']} on {run.identity['benchmark']}", figure
