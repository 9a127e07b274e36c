"""Layer curves: where models look, layer by layer, medical beside natural images."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import polars as pl

from vgtool.reporting.figures.style import COLOURS, MARKERS, PAGE, Drawn, called, explain, panels, spaced, whole_numbers
from vgtool.reporting.inputs import Source

TITLES = {"attention_ratio": "attention ratio", "kl": "KL divergence", "js": "JS divergence"}
"""Metrics of the frame, as axes name them."""


def layers(probes: Sequence[Source], frame: pl.DataFrame) -> Drawn:
    """A colour for each model (its second run of a domain has another), solid for medical, dashed for natural."""
    names, shared = called(probes)
    names = [f"{name} ({domain(one)})" for name, one in zip(names, probes, strict=True)]
    figure, ((*axes,),) = panels(PAGE, 1.9, 1, 3, names, shared)
    tones, seen = dict[tuple[str, int], str](), Counter[tuple[str, str]]()
    lines, curves = [], []
    gaps = False
    for at, one in enumerate(probes):
        natural = domain(one) == "natural"
        seen[one.model, domain(one)] += 1
        tone = tones.setdefault((one.model, seen[one.model, domain(one)]), COLOURS[len(tones) % len(COLOURS)])
        style = {"color": tone, "ls": "--" if natural else "-", "marker": MARKERS[at % len(MARKERS)]}
        mine = frame.filter((pl.col("table") == "grounding") & (pl.col("run") == one.name), pl.col("layer") >= 0)
        curves.append(list[float]())
        for axis, metric in zip(axes, TITLES, strict=True):
            rows = mine.filter(pl.col("metric") == metric).sort("layer")
            gaps |= rows["value"].has_nulls()
            rows = rows.drop_nulls("value")
            curves[-1] += rows["value"].to_list()
            fill = "none" if natural else "full"
            places = spaced(rows.height, at, len(probes))
            (line,) = axis.plot(rows["layer"], rows["value"], markevery=places, fillstyle=fill, **style)
            ends = rows.drop_nulls(["low", "high"])
            axis.fill_between(ends["layer"], ends["low"], ends["high"], color=tone, alpha=0.18, lw=0)
        lines.append(line)
    for axis, title in zip(axes, TITLES.values(), strict=True):
        axis.set(title=title, xlabel="layer")
        whole_numbers(axis.xaxis)
    axes[0].axhline(1, color="#888888", lw=0.7, ls=":", zorder=0)
    explain(figure, lines, names, shared)
    caption = "Grounding by layer: mean with 95 % bootstrap over images. Attention ratio 1 is uniform; KL and JS: lower"
    twins = [f"{names[a]} and {names[b]}" for a, b in combinations(range(len(probes)), 2) if curves[a] == curves[b]]
    same = f" On one another, for they are equal: {'; '.join(twins)}." if twins else ""
    missing = " Layers without readable attention are left out." if gaps else ""
    said = f"{caption} is better. Solid: medical images, dashed and hollow: natural.{missing}{same}"
    return Drawn("layers", said, figure)


def domain(one: Source) -> str:
    """`natural` when all images are, else `medical`."""
    return "natural" if set(one.measured["domain"].drop_nulls()) == {"natural"} else "medical"
