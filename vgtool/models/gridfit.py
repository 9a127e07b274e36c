"""From the pixels of each image token to the token grid: rows, blocks, tiles joined, overviews set apart.

Tokens stand in the prompt row by row, block by block (a block is a tile, or the whole image). The grid is the largest
set of blocks of one cell size that fill a rectangle of rows and columns once; the other blocks show the image again and
are its overview. Tokens without pixels of their own (padding) complete the rows that they stand in.

Edges are fitted as left + width * column. Where a common preparation explains them within a stripe, that is the map:
squashed, padded to a square, or its centre cropped; a fit alone is only as good as the stripes.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgtool.models.stripes import Array, Seen, Spans
from vgtool.records import Grid

Index = NDArray[np.int64]
SAME = 0.35
"""Share of a cell within which two middles are one row or column."""
SHARES = (0.2, 0.25, 0.3, 0.1, 0.05, 0.02)
"""Of the upper quartile of answers: below it, a token has no pixels of its own."""
WHOLE = 0.85
"""Share of both sides from which a token is said to see the whole image."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Where the tokens of one image shape stand."""

    grid: Grid
    order: Index
    """Which of the measured columns each cell is [T], row-major over the image."""
    overview: Index
    """The other measured columns."""
    x: tuple[float, float]
    """Left edge of the grid and width of a cell, stored pixels."""
    y: tuple[float, float]
    how: str
    """squash, pad, crop, or fit."""
    error: float
    """Largest distance of a measured edge from the fitted one, stored pixels."""
    tiles: int


class NoGrid(Exception):
    """The tokens form no grid; says why."""


@dataclass(frozen=True, slots=True)
class _Block:
    rows: list[list[int]]

    @property
    def tokens(self) -> list[int]:
        return [token for row in self.rows for token in row]


def fit(seen: Seen) -> Fitted:
    """The grid of what was measured. NoGrid when there is none.

    A cell that the image's edges cut may answer as faintly as the smear of resizing over padding, so that no one share
    tells them apart: of several, the grid that leaves the fewest tokens outside counts, the first of equals."""
    found, why = list[Fitted](), list[NoGrid]()
    for share in SHARES:
        try:
            found.append(_fitted(seen, seen.strong(share)))
        except NoGrid as error:
            why.append(error)
        if found and not len(found[-1].overview):
            break
    if not found:
        raise why[0]
    return min(found, key=lambda one: len(one.overview))


def _fitted(seen: Seen, known: NDArray[np.bool_]) -> Fitted:
    strong = np.flatnonzero(known)
    wide = _wide(seen.x) & _wide(seen.y)
    if len(strong) and len(seen.columns) > 1 and wide[strong].mean() > 0.5:
        raise NoGrid("each image token answers to the whole image")
    found = _joined(seen.x, seen.y, seen.columns, strong)
    turned = False
    if found is None:
        found = _joined(seen.y, seen.x, seen.columns, strong)  # a column-major grid
        turned = True
    if found is None:
        raise NoGrid("the pixels of the image tokens form no rows and columns")
    cells, tiles = found
    if turned:
        cells = cells.T
    if len(strong) > 2 * cells.size:
        raise NoGrid("most image tokens stand outside any rows and columns")
    if len(strong) < len(seen.columns):
        cells = _completed(cells, strong, len(seen.columns))
    fitted = _placed(seen, cells, tiles, known)
    axes = ((seen.x, fitted.x, 1), (seen.y, fitted.y, 0))
    if any(_astray(spans, cells, known, line, axis, fitted.how == "fit") for spans, line, axis in axes):
        raise NoGrid("the pixels of the image tokens overlap too far to be cells")
    return fitted


def _wide(spans: Spans) -> NDArray[np.bool_]:
    return (spans.stop - spans.start) > WHOLE * spans.side


# ---- rows, blocks and tiles ---------------------------------------------------------------------------------------


def _joined(x: Spans, y: Spans, columns: Index, strong: Index) -> tuple[Index, int] | None:
    """(tokens of the largest full grid [rows, cols], how many blocks it joins); None where there is no such set."""
    blocks = _blocks(x, y, columns, strong)
    best: tuple[Index, int] | None = None
    for seed in blocks:
        size, some = _cell(x, y, seed), list[_Block]()
        for block in blocks:
            if _alike(x, y, block, size) and not any(_over(x, y, block, other, size) for other in some):
                some.append(block)
        cells = _product(x, y, np.array([token for block in some for token in block.tokens]), size)
        if cells is not None and (best is None or cells.size > best[0].size):
            best = cells, len(some)
    return best if best is not None and (best[0].size > 1 or len(strong) == 1) else None


def _blocks(x: Spans, y: Spans, columns: Index, strong: Index) -> list[_Block]:
    rows: list[list[int]] = []
    for token in strong.tolist():
        last = rows[-1][-1] if rows else None
        if last is not None and columns[token] == columns[last] + 1:
            high = max(y.stop[token] - y.start[token], y.stop[last] - y.start[last])
            if x.middle[token] > x.middle[last] + 0.5 and abs(y.middle[token] - y.middle[last]) < SAME * high:
                rows[-1].append(token)
                continue
        rows.append([token])
    blocks: list[_Block] = []
    for row in rows:
        if blocks and len(row) == len(blocks[-1].rows[0]):
            above = blocks[-1].rows[-1]
            wide = x.stop[row[0]] - x.start[row[0]]
            same = np.abs(x.middle[row] - x.middle[above]).max() < SAME * wide + 1
            if same and y.middle[row[0]] > y.middle[above[0]] + 0.5:
                blocks[-1].rows.append(row)
                continue
        blocks.append(_Block([row]))
    return blocks


def _cell(x: Spans, y: Spans, block: _Block) -> tuple[float, float]:
    """Width and height of a block's cells: from one to the next, which the image's edges do not cut."""
    return _pitch(x, block.rows[0]), _pitch(y, [row[0] for row in block.rows])


def _pitch(spans: Spans, line: list[int]) -> float:
    start, stop, steps = spans.start[line], spans.stop[line], len(line) - 1
    return float(max(start[-1] - start[0], stop[-1] - stop[0]) / steps if steps else stop[0] - start[0])


def _alike(x: Spans, y: Spans, block: _Block, size: tuple[float, float]) -> bool:
    """Whether a block's cells have this size; a single row or column at the image's edge may be cut."""
    token, lines = block.rows[0][0], (len(block.rows[0]), len(block.rows))
    for spans, here, wanted, count in zip((x, y), _cell(x, y, block), size, lines, strict=True):
        edge = spans.start[token] <= 0 or spans.stop[token] >= spans.side
        if abs(here - wanted) >= 0.25 * wanted and not (count == 1 and edge and here < wanted):
            return False
    return True


def _over(x: Spans, y: Spans, one: _Block, other: _Block, size: tuple[float, float]) -> bool:
    """Whether two blocks show the same part of the image."""
    shared = []
    for spans, cell in ((x, size[0]), (y, size[1])):
        start = max(float(spans.start[block.tokens].min()) for block in (one, other))
        stop = min(float(spans.stop[block.tokens].max()) for block in (one, other))
        shared.append(stop - start > 0.6 * cell)
    return all(shared)


def _product(x: Spans, y: Spans, tokens: Index, size: tuple[float, float]) -> Index | None:
    """Tokens as [rows, cols] when they fill each cell once."""
    col, cols = _levels(x.middle[tokens], SAME * size[0])
    row, rows = _levels(y.middle[tokens], SAME * size[1])
    if len(tokens) != rows * cols or len(np.unique(row * cols + col)) != len(tokens):
        return None
    cells = np.empty((rows, cols), np.int64)
    cells[row, col] = tokens
    return cells


def _levels(values: Array, gap: float) -> tuple[Index, int]:
    """(which level each value is on, how many levels), a gap starting a new one."""
    order = np.argsort(values, kind="stable")
    level = np.concatenate([[0], np.cumsum(np.diff(values[order]) > gap)])
    out = np.empty(len(values), np.int64)
    out[order] = level
    return out, int(level[-1]) + 1


def _completed(cells: Index, strong: Index, count: int) -> Index:
    """The grid with the cells of padding in their places.

    As many rows and columns as let every known cell stand at its own place of the prompt; without such a shape the
    tokens without pixels stay outside the grid.
    """
    others = set(strong.tolist()) - set(cells.ravel().tolist())
    line = np.array([token for token in range(count) if token not in others])
    at = {int(token): place for place, token in enumerate(line)}
    places = np.vectorize(at.__getitem__)(cells)
    rows, cols = cells.shape
    for wide in range(cols, len(line) + 1):
        if len(line) % wide:
            continue
        top, left = divmod(int(places[0, 0]), wide)
        if left + cols > wide or top + rows > len(line) // wide:
            continue
        wanted = (np.arange(rows) + top)[:, None] * wide + np.arange(cols) + left
        if np.array_equal(places, wanted):
            return line.reshape(-1, wide)
    return cells


# ---- edges --------------------------------------------------------------------------------------------------------


def _placed(seen: Seen, cells: Index, tiles: int, known: NDArray[np.bool_]) -> Fitted:
    rows, cols = cells.shape
    lines = [_line(spans, cells, known[cells], axis) for spans, axis in ((seen.x, 1), (seen.y, 0))]
    how, x, y = _explained(seen, Grid(rows, cols), lines[0][0], lines[1][0], lines[0][1], lines[1][1])
    error = max(_off(seen.x, x, lines[0][1]), _off(seen.y, y, lines[1][1]))
    overview = np.setdiff1d(np.arange(len(seen.columns)), cells.ravel())
    return Fitted(Grid(rows, cols), cells.ravel(), overview, x, y, how, error, tiles)


def _astray(
    spans: Spans, cells: Index, strong: NDArray[np.bool_], line: tuple[float, float], axis: int, alone: bool
) -> bool:
    """Whether cells stand elsewhere than fitted, or are so wide that their middles mean little. Overlap alone (strided
    convolutions) is no fault. A fit alone, which no preparation explains, needs the middles of two cells at least."""
    edges = _line(spans, cells, strong[cells], axis)[1]
    inner = np.flatnonzero((edges[:, 0] > 0) & (edges[:, 1] < spans.side))
    if len(inner) < (2 if alone else 1):
        return _off(spans, line, edges) > max(2 * spans.stripe, 0.0 if alone else line[1] / 2)
    middle, wide = edges[inner].mean(1), edges[inner, 1] - edges[inner, 0]
    off = np.abs(middle - line[0] - line[1] * (inner + 0.5)).max()
    return bool(off > SAME * line[1] + spans.stripe / 2 or np.median(wide) > 3 * line[1] + spans.stripe)


def _line(spans: Spans, cells: Index, known: NDArray[np.bool_], axis: int) -> tuple[tuple[float, float], Array]:
    """(first edge, cell side) fitted to the middles, and what was measured [levels, 2]: each level's start and stop,
    NaN where it has no pixels."""
    starts = np.where(known, spans.start[cells], np.nan)
    stops = np.where(known, spans.stop[cells], np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows of padding have nothing to take a median of
        edges = np.stack([np.nanmedian(starts, 1 - axis), np.nanmedian(stops, 1 - axis)], 1)
    at = np.flatnonzero(~np.isnan(edges[:, 0]))
    inner = at[(edges[at, 0] > 0) & (edges[at, 1] < spans.side)]  # those that the image's own edge does not cut
    if len(inner) < 2:
        if len(at) == 1:
            start, stop = edges[at[0]]
            return (float(start - at[0] * (stop - start)), float(stop - start)), edges
        borders = (edges[at[:-1], 1] + edges[at[1:], 0]) / 2  # where neighbours meet, whose overlap is alike
        if len(at) > 2:
            side, first = np.polyfit(at[1:], borders, 1)
        else:  # two cut cells, each as wide as the image lets it be
            side = (edges[at[-1], 1] - edges[at[0], 0]) / 2
            first = borders[0] - side * at[1]
        return (float(first), float(side)), edges
    side, first = np.polyfit(inner + 0.5, edges[inner].mean(1), 1)
    return (float(first), float(side)), edges


def _off(spans: Spans, line: tuple[float, float], edges: Array) -> float:
    """Largest distance of a measured edge from the line's, both within the image."""
    at = np.arange(len(edges))
    lines = np.stack([line[0] + line[1] * at, line[0] + line[1] * (at + 1)], 1).clip(0, spans.side)
    return float(np.nanmax(np.abs(lines - edges)))


def _explained(
    seen: Seen, grid: Grid, x: tuple[float, float], y: tuple[float, float], x_edges: Array, y_edges: Array
) -> tuple[str, tuple[float, float], tuple[float, float]]:
    """A common preparation whose edges are within a stripe of the measured ones, else the fit itself."""
    width, height = seen.x.side, seen.y.side
    candidates = [("squash", (0.0, width / grid.cols), (0.0, height / grid.rows))]
    for name, side in (("pad", max(width, height)), ("crop", min(width, height))):
        if width != height:
            left, top = (width - side) / 2, (height - side) / 2
            candidates.append((name, (left, side / grid.cols), (top, side / grid.rows)))
    fits = ("fit", x, y)

    def off(one: tuple[str, tuple[float, float], tuple[float, float]]) -> tuple[float, float]:
        return _off(seen.x, one[1], x_edges) / seen.x.stripe, _off(seen.y, one[2], y_edges) / seen.y.stripe

    halo = [max(share, 0.0) for share in off(fits)]
    near = [one for one in candidates if all(a <= max(1.0, b) + 0.5 for a, b in zip(off(one), halo, strict=True))]
    return min(near, key=lambda one: sum(off(one))) if near else fits

