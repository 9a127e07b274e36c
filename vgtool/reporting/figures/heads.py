"""The head map: mean KL of every head, layer by head, with the chosen ones ringed."""

from collections.abc import Sequence

import numpy as np

from vgtool.grounding.heads import HeadFile, known_mean
from vgtool.reporting.figures.style import COLUMN, Drawn, framed, panels, whole_numbers, wrapped
from vgtool.reporting.inputs import Source
from vgtool.scoring.grounding import stacked


def ringed(probe: Source, refines: Sequence[Source], heads: HeadFile | None) -> list[tuple[int, int]]:
    """The heads to mark: of the head file if it is this model's, else of a refine run of the model."""
    if heads is not None and heads.model == probe.run.identity["model"]:
        return [(layer, head) for layer, head, _ in heads.ranked]
    for one in refines:
        if one.model == probe.model and one.run.identity.get("heads"):
            return [(int(layer), int(head)) for layer, head in one.run.identity["heads"]]
    return []


def head_map(one: Source, chosen: Sequence[tuple[int, int]]) -> Drawn:
    """Mean KL of every head over the samples that know it, as heads are ranked."""
    good = one.measured
    depth = len(good["layer_kl"][0])
    mean = known_mean(stacked(good, "head_kl")).reshape(depth, -1)
    figure, ((axis,),) = panels(COLUMN, 2.7)
    shown = axis.imshow(mean.T, cmap="cividis_r", aspect="auto", origin="lower", interpolation="nearest")
    figure.colorbar(shown, label="mean KL (lower grounds better)")
    marked = [(layer, head) for layer, head in chosen if layer < mean.shape[0] and head < mean.shape[1]]
    if marked:
        x, y = zip(*marked, strict=True)
        size = float(np.clip(2000 / max(mean.shape), 8, 34))
        axis.scatter(x, y, s=size, facecolors="none", edgecolors="white", linewidths=1.8)
        axis.scatter(x, y, s=size, facecolors="none", edgecolors="#D55E00", linewidths=0.9)
    axis.set_facecolor("#dddddd")
    axis.set(xlabel="layer", ylabel="head")
    figure.suptitle(wrapped(one.name, COLUMN), fontsize=8)
    framed(axis)
    whole_numbers(axis.xaxis, axis.yaxis)
    rings = f" Ringed: the {len(marked)} chosen heads." if marked else ""
    grey = " Grey: known on half of the samples or fewer." if np.isnan(mean).any() else ""
    return Drawn(f"heads-{one.number}", f"Heads of {one.name}: mean KL by layer and head.{rings}{grey}", figure)
