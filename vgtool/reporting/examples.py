"""Samples side by side, picture, heat and boxes: where the model looked best and where it looked worst.

Which samples are drawn is decided by their attention ratio alone, never by hand: the highest above, the lowest below,
each image once. Only for a report that may hold pictures.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from vgtool.grounding.metrics import relative_attention
from vgtool.reporting.figures import PAGE, Drawn, best_layer, label, stacked
from vgtool.reporting.heat import panel
from vgtool.reporting.inputs import Source
from vgtool.reporting.samples import Album, Pictures, heavy_rows

ACROSS = 4
"""Samples a row; there are two rows."""
PIXELS = 320
"""Longest side of a picture: what 220 dpi can show."""


def examples(probes: Sequence[Source], pictures: Pictures) -> Iterator[Drawn]:
    """A figure for each probe run that kept its maps."""
    for at, one in enumerate(probes):
        if one.run.kind == "probe" and one.measured.height:
            drawn = example(one, pictures, f"examples-{at}")
            if drawn is not None:
                yield drawn


def ends(one: Source, layer: int, most: int = ACROSS) -> list[str]:
    """Sample ids: the `most` highest attention ratios at a layer, then the lowest (lowest first), each image once."""
    ratio = pl.Series("ratio", stacked(one.measured, "layer_ratio")[:, layer])
    rows = one.measured.select("sample_id", "image_id").with_columns(ratio).filter(pl.col("ratio").is_finite())
    rows = rows.sort("ratio", "sample_id", descending=[True, False])
    half = min(most, rows["image_id"].n_unique() // 2)
    first = rows.unique("image_id", keep="first", maintain_order=True).head(half)
    rest = rows.reverse().filter(~pl.col("image_id").is_in(first["image_id"].to_list()))
    last = rest.unique("image_id", keep="first", maintain_order=True).head(half)
    return [*first["sample_id"], *last["sample_id"]]


def example(one: Source, pictures: Pictures, stem: str) -> Drawn | None:
    """Picture, relative attention at the best layer and boxes of the samples at both ends; None without maps."""
    layer = best_layer(stacked(one.measured, "layer_kl"))
    chosen = ends(one, layer)
    heat = _heat(one, layer, set(chosen))
    rows = {row["sample_id"]: row for row in one.measured.iter_rows(named=True) if row["sample_id"] in heat}
    chosen = [name for name in chosen if name in rows]
    if not chosen:
        return None
    album = Album(one, pictures)
    across = -(-len(chosen) // 2)
    figure = Figure(figsize=(PAGE, 2 * (PAGE / ACROSS + 0.35)), layout="constrained")
    axes = figure.subplots(2, across, squeeze=False).ravel()
    for axis, name in zip(axes, chosen, strict=False):
        _panel(axis, rows[name], heat[name], album.open(rows[name]), layer)
    for axis in axes[len(chosen) :]:
        axis.set_visible(False)
    caption = f"Samples of {one.name}: relative attention at layer {layer}, brighter is more, boxes dashed."
    return Drawn(stem, f"{caption} Above: the highest attention ratios; below: the lowest; each image once.", figure)


def _heat(one: Source, layer: int, wanted: set[str]) -> dict[str, np.ndarray]:
    """Sample -> [rows, cols] relative attention of a layer."""
    found: dict[str, np.ndarray] = {}
    for row in heavy_rows(one, ["sample_id", "grid_rows", "grid_cols", "attention", "general_attention"]):
        question, general = row.get("attention"), row.get("general_attention")
        if row["sample_id"] not in wanted or question is None or general is None:
            continue
        shape = (row["grid_rows"], row["grid_cols"])
        above, below = (one.reshape(-1, shape[0] * shape[1])[layer] for one in (question, general))
        found[row["sample_id"]] = relative_attention(above[None], below[None])[0].reshape(shape)
    return found


def _panel(axis: Any, row: Mapping[str, Any], heat: np.ndarray, picture: Any, layer: int) -> None:
    pixels = None
    if isinstance(picture, str):
        axis.text(0.5, 0.5, "no picture", ha="center", transform=axis.transAxes)
    else:
        picture.thumbnail((PIXELS, PIXELS))
        # As it is: its colours, and its own brightness, never stretched to the panel.
        pixels = np.asarray(picture.convert("RGB"))
    panel(axis, pixels, heat, (row["width"], row["height"]), row["grid_box"], row["boxes"])
    lines = textwrap.wrap(label(row["question"], 76), 38)
    axis.set_title("\n".join(lines), fontsize=6.5)
    axis.set_xlabel(f"attention ratio {row['layer_ratio'][layer]:.2f}")
