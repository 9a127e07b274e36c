"""Samples side by side, picture, heat and boxes: where the model looked best and worst, and how it does by layer.

Which samples are drawn is decided by their attention ratio alone, never by hand: the highest above, the lowest below,
each image once. Only for a report that may hold pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from vgtool.reporting.album import Album, Pictures
from vgtool.reporting.figures.style import COLUMN, PAGE, Drawn, wrapped
from vgtool.reporting.heat import CAP, RELATIVE, coloured, padded_peak, peak
from vgtool.reporting.inputs import Source
from vgtool.reporting.mosaic import Bar, Tile, column, mosaic
from vgtool.reporting.rows import relative_maps
from vgtool.scoring.grounding import stacked

ACROSS = 4
"""Samples a row; there are two rows."""
LAYERS = 5
"""Layers of one sample."""
PIXELS = 740
"""Longest side of a picture: what a column can show."""
SIZE = 6.5
"""Points of the text beside a picture."""


def examples(probes: Sequence[Source], pictures: Pictures) -> Iterator[Drawn]:
    """Two figures for each probe run that kept its maps: many samples at one layer, few at several."""
    for one in probes:
        if (layer := one.best) is not None:
            ids = ends(one, layer)
            maps = relative_maps(one.run.path, set(ids))
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


def _looked(row: Mapping[str, Any], heat: np.ndarray, layer: int) -> str:
    """Below a panel: what its colours mean, and a peak that is beside the picture."""
    ratio = row["layer_ratio"][layer]
    known = "none" if ratio is None or not np.isfinite(ratio) else f"{ratio:.2f}"
    beside = "\nin the padding" if padded_peak(heat, (row["width"], row["height"]), row["grid_box"]) else ""
    return f"ratio {known}\npeak {peak(heat, CAP)}{beside}"


def example(one: Source, layer: int, samples: Sequence[tuple[Mapping[str, Any], np.ndarray, Any]]) -> Drawn:
    """Picture, relative attention at the best layer and boxes of the samples at both ends."""
    half = -(-len(samples) // 2)
    across = half if half > 1 else len(samples)
    width = PAGE if across > 2 else COLUMN
    tiles = []
    for row, heat, picture in samples:
        question = wrapped(row["question"], 0.95 * column(width, across), SIZE)
        tiles.append(tile(row, picture, heat, above=question, below=_looked(row, heat, layer)))
    figure = mosaic([tiles[at : at + across] for at in range(0, len(tiles), across)], width, SIZE, Bar(RELATIVE))
    caption = f"Samples of {one.name}: relative attention at layer {layer}, each panel to its own peak, boxes dashed."
    first, last = ("Left", "right") if across == len(samples) else ("Above", "below")
    said = f" {first}: the highest attention ratios; {last}: the lowest; each image once." if len(samples) > 1 else ""
    return Drawn(f"examples-{one.number}", caption + said, figure)


def depth(one: Source, best: int, samples: Sequence[tuple[Mapping[str, Any], np.ndarray, Any]]) -> Drawn:
    """The same for few samples at several layers, from the first to the last and the best among them."""
    shown = spread(samples[0][1], best)
    wide = 0.95 * column(PAGE, len(shown) + 1)
    rows = []
    for row, heat, picture in samples:
        size = (row["width"], row["height"])
        padding = any(padded_peak(heat[layer], size, row["grid_box"]) for layer in shown)
        first = tile(row, picture, padding=padding, below=wrapped(row["question"], wide, SIZE, 3))
        rest = [tile(row, picture, heat[at], padding=padding, below=_looked(row, heat[at], at)) for at in shown]
        rows.append([first, *rest])
    names = [f"layer {layer}{' (best)' if layer == best else ''}" for layer in shown]
    rows[0] = [rows[0][0], *(replace(one, above=name) for one, name in zip(rows[0][1:], names, strict=True))]
    caption = f"Samples of {one.name} by layer: relative attention, each panel to its own peak, boxes dashed."
    said = f"Layer {best} has the lowest mean KL. The highest attention ratios there, then the lowest."
    figure = mosaic(rows, PAGE, SIZE, Bar(RELATIVE))
    return Drawn(f"depth-{one.number}", f"{caption} {said}", figure)


def tile(
    row: Mapping[str, Any], picture: Any, heat: np.ndarray | None = None, *, padding: bool = False, **texts: str
) -> Tile:
    """A panel of a sample: its picture, a map over it and its boxes; the padding, too, where the map's peak lies."""
    size, grid_box = (row["width"], row["height"]), row["grid_box"]
    if heat is None:
        return Tile(picture, size, grid_box, None, row["boxes"], padding, **texts)
    padding |= padded_peak(heat, size, grid_box)
    return Tile(picture, size, grid_box, coloured(heat), row["boxes"], padding, **texts)


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
