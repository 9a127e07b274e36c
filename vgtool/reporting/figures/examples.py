"""Samples side by side, picture, heat and boxes: where the model looked best and worst, and how it does by layer.

Which samples are drawn is decided by their attention ratio alone, never by hand: the highest above, the lowest below,
each image once. Only for a report that may hold pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from PIL import Image

from vgtool.reporting.album import Album, Pictures
from vgtool.reporting.figures.style import COLUMN, PAGE, Drawn, panels, wrapped
from vgtool.reporting.heat import OPACITY, padded_peak, panel
from vgtool.reporting.inputs import Source
from vgtool.reporting.maps import CAP, relative_maps
from vgtool.scoring.grounding import stacked

ACROSS = 4
"""Samples a row; there are two rows."""
LAYERS = 5
"""Layers of one sample."""
PIXELS = 320
"""Longest side of a picture: what 220 dpi can show."""
SMALL = 240
"""The same where six stand side by side."""


def examples(probes: Sequence[Source], pictures: Pictures) -> Iterator[Drawn]:
    """Two figures for each probe run that kept its maps: many samples at one layer, few at several."""
    for one in probes:
        if (layer := one.best) is not None:
            ids = ends(one, layer)
            maps = relative_maps(one, set(ids))
            shown = one.measured.filter(pl.col("sample_id").is_in(list(maps)))
            rows = {row["sample_id"]: row for row in shown.iter_rows(named=True)}
            ids = [name for name in ids if name in rows]
            if ids:
                scans = pixels(pictures.of(one), [rows[name] for name in ids])
                yield example(one, layer, [(rows[name], maps[name][layer], scans[name]) for name in ids])
                few = list(dict.fromkeys([*ids[:2], *ids[len(ids) // 2 :][:2]]))
                yield depth(one, layer, [(rows[name], maps[name], scans[name]) for name in few])


def ends(one: Source, layer: int, most: int = ACROSS) -> list[str]:
    """Sample ids: the `most` highest attention ratios at a layer, then the lowest (lowest first), each image once."""
    ratio = pl.Series("ratio", stacked(one.measured, "layer_ratio")[:, layer])
    rows = one.measured.select("sample_id", "image_id").with_columns(ratio).filter(pl.col("ratio").is_finite())
    rows = rows.sort("ratio", "sample_id", descending=[True, False])
    half = min(most, max(1, rows["image_id"].n_unique() // 2))
    first = rows.unique("image_id", keep="first", maintain_order=True).head(half)
    rest = rows.reverse().filter(~pl.col("image_id").is_in(first["image_id"].to_list()))
    last = rest.unique("image_id", keep="first", maintain_order=True).head(half)
    return [*first["sample_id"], *last["sample_id"]]


def pixels(album: Album, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray | None]:
    """Sample -> its picture as it is, its colours and its own brightness, never stretched to the panel."""
    found: dict[str, np.ndarray | None] = {}
    for row in rows:
        picture = album.open(row)
        if not isinstance(picture, str):
            picture.thumbnail((PIXELS, PIXELS))
        found[row["sample_id"]] = None if isinstance(picture, str) else np.asarray(picture.convert("RGB"))
    return found


def heat_bar(figure: Any, axes: Any, text: str) -> None:
    """The colours of the heat as they lie over a white picture."""
    steps = np.linspace(0, 1, 256)
    alpha = (OPACITY * steps**0.7)[:, None]
    colours = colormaps["inferno"](steps)[:, :3] * alpha + (1 - alpha)
    bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(colours)), ax=axes, shrink=0.7, aspect=30, pad=0.01)
    bar.set_ticks([0, 1], labels=["0", "peak"])
    bar.set_label(text)


def _looked(row: Mapping[str, Any], heat: np.ndarray, layer: int) -> str:
    """Below a panel: what its colours mean, and a peak that is beside the picture."""
    ratio = row["layer_ratio"][layer]
    known = "none" if ratio is None or not np.isfinite(ratio) else f"{ratio:.2f}"
    top = heat[np.isfinite(heat)].max(initial=0.0)
    peak = f"peak {'over ' if top >= CAP else ''}{top:.3g}"
    beside = "\nin the padding" if padded_peak(heat, (row["width"], row["height"]), row["grid_box"]) else ""
    return f"ratio {known}\n{peak}{beside}"


def example(one: Source, layer: int, samples: Sequence[tuple[Mapping[str, Any], np.ndarray, Any]]) -> Drawn:
    """Picture, relative attention at the best layer and boxes of the samples at both ends."""
    half = -(-len(samples) // 2)
    down, across = min(2, len(samples)), max(half, 3) if len(samples) > 1 else 1
    width = PAGE if across > 1 else COLUMN
    figure, axes = panels(width, down * (0.93 * width / across + 0.45), down, across)
    places = [*axes[0][:half], *axes[-1][: len(samples) - half]]
    for axis, (row, heat, picture) in zip(places, samples, strict=True):
        sample(axis, row, heat, picture)
        axis.set_title(wrapped(row["question"], 0.88 * width / across, 6.5), fontsize=6.5)
        axis.set_xlabel(_looked(row, heat, layer), fontsize=6.5)
    hide(axes, places)
    heat_bar(figure, axes, "attention relative to the general prompt's")
    caption = f"Samples of {one.name}: relative attention at layer {layer}, each panel to its own peak, boxes dashed."
    said = "Above: the highest attention ratios; below: the lowest; each image once."
    return Drawn(f"examples-{one.number}", f"{caption} {said}", figure)


def depth(one: Source, best: int, samples: Sequence[tuple[Mapping[str, Any], np.ndarray, Any]]) -> Drawn:
    """The same for few samples at several layers, from the first to the last and the best among them."""
    shown = spread(samples[0][1], best)
    figure, axes = panels(PAGE, len(samples) * (PAGE / (len(shown) + 1.5) + 0.4) + 0.2, len(samples), len(shown) + 1)
    for line, (row, heat, picture) in zip(axes, samples, strict=True):
        size = (row["width"], row["height"])
        padding = any(padded_peak(heat[layer], size, row["grid_box"]) for layer in shown)
        picture = smaller(picture)
        sample(line[0], row, None, picture, padding)
        line[0].set_xlabel(wrapped(row["question"], 0.8 * PAGE / (len(shown) + 1.5), 6, 3), fontsize=6)
        for axis, layer in zip(line[1:], shown, strict=True):
            sample(axis, row, heat[layer], picture, padding)
            axis.set_xlabel(_looked(row, heat[layer], layer), fontsize=6)
    for axis, layer in zip(axes[0][1:], shown, strict=True):
        axis.set_title(f"layer {layer}{' (best)' if layer == best else ''}", fontsize=7)
    heat_bar(figure, axes, "relative attention")
    caption = f"Samples of {one.name} by layer: relative attention, each panel to its own peak, boxes dashed."
    said = f"Layer {best} has the lowest mean KL. The highest attention ratios there, then the lowest."
    return Drawn(f"depth-{one.number}", f"{caption} {said}", figure)


def smaller(picture: Any) -> Any:
    """A picture [H, W, 3] at SMALL pixels a side, or None."""
    if picture is None or max(picture.shape[:2]) <= SMALL:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((SMALL, SMALL))
    return np.asarray(image)


def spread(maps: np.ndarray, best: int) -> list[int]:
    """Layers [L, rows, cols] to show: those that look at the image at all, evenly, the best among them."""
    known = np.flatnonzero((np.nan_to_num(maps).reshape(len(maps), -1) > 0).any(1))
    if len(known) <= LAYERS:
        return sorted({*known.tolist(), best})
    chosen = known[np.linspace(0, len(known) - 1, LAYERS).round().astype(int)]
    if best not in chosen:
        inner = chosen[1:-1]
        chosen[1 + int(np.abs(inner - best).argmin())] = best
    return sorted({*chosen.tolist()})


def sample(
    axis: Any, row: Mapping[str, Any], heat: np.ndarray | None, picture: Any, padding: bool = False
) -> None:
    """One panel: the picture, or that there is none."""
    if picture is None:
        axis.set_facecolor("#bbbbbb")
    panel(axis, picture, heat, (row["width"], row["height"]), row["grid_box"], row["boxes"], padding)


def hide(axes: Any, used: Sequence[Any]) -> None:
    """Take away the panels that nothing was drawn in."""
    for axis in axes.ravel():
        axis.set_visible(any(axis is one for one in used))
