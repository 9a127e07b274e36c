"""Stored image pixels <-> model canvas pixels <-> image tokens, for every way a model prepares an image.

Pad to square, squash, resize with centre crop, smart resize and tiles are all one thing: an axis-aligned map from the
stored image onto a canvas that a grid of token cells covers. The released code scales boxes straight to the model's
square although the image was padded first; here a box goes through the image's own map (Region), and
`mapping="stretch"` gives their behaviour for comparison.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vgtool.records import Box, Grid

BoxMapping = Literal["exact", "stretch"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How one stored image lies under one model's token grid. Tokens are row-major in image space.

    canvas x = stored x * scale_x + offset_x, likewise y. Cells are cell_width x cell_height canvas pixels; the canvas
    may end inside the last cell (VILA-M3: 384 px under 14 cells of 28) and hide parts of the image (centre crop).
    """

    width: int
    """Stored image, px."""
    height: int
    grid: Grid
    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    canvas_width: float
    """Canvas pixels that the model sees; beyond them nothing is seen."""
    canvas_height: float
    cell_width: float
    cell_height: float
    placed: bool = True
    """False: the tokens form no grid over the image (resamplers, queries); `grid` is then one row of them, and only
    their number means anything."""

    @classmethod
    def unplaced(cls, width: int, height: int, tokens: int) -> "Geometry":
        """Image tokens that stand for no place of the image."""
        return cls(width, height, Grid(1, tokens), 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, placed=False)

    @classmethod
    def cells(
        cls, width: int, height: int, grid: Grid, x: tuple[float, float], y: tuple[float, float], cell: float = 1.0
    ) -> "Geometry":
        """A measured grid: (left edge, cell width) and (top edge, cell height) in stored pixels. `cell`: canvas pixels
        of a cell, where they are known."""
        scale_x, scale_y = cell / x[1], cell / y[1]
        return cls(
            width,
            height,
            grid,
            scale_x,
            scale_y,
            -x[0] * scale_x,
            -y[0] * scale_y,
            grid.cols * cell,
            grid.rows * cell,
            cell,
            cell,
        )

    @classmethod
    def pad(cls, width: int, height: int, size: int, grid: Grid) -> "Geometry":
        """Pad to a square of side max(w, h), half the difference (floored) before, then resize to size x size."""
        side = max(width, height)
        scale = size / side
        return cls(
            width,
            height,
            grid,
            scale,
            scale,
            (side - width) // 2 * scale,
            (side - height) // 2 * scale,
            size,
            size,
            size / grid.cols,
            size / grid.rows,
        )

    @classmethod
    def squash(
        cls,
        width: int,
        height: int,
        canvas_width: float,
        canvas_height: float,
        grid: Grid,
        cell: float | None = None,
        seen: float | None = None,
    ) -> "Geometry":
        """Resize to the canvas, aspect ratio ignored. `cell`: cell side when cells do not tile the canvas; `seen`: the
        canvas pixels the encoder really reads when fewer than the canvas has."""
        return cls(
            width,
            height,
            grid,
            canvas_width / width,
            canvas_height / height,
            0.0,
            0.0,
            seen or canvas_width,
            seen or canvas_height,
            cell or canvas_width / grid.cols,
            cell or canvas_height / grid.rows,
        )

    @classmethod
    def crop(cls, width: int, height: int, shortest: int, size: int, grid: Grid) -> "Geometry":
        """Resize the shortest edge to `shortest`, then cut the central size x size (CLIP's own preprocessing).

        The long edge becomes int(shortest * long / short), as transformers computes it.
        """
        if width <= height:
            new_width, new_height = shortest, int(shortest * height / width)
        else:
            new_width, new_height = int(shortest * width / height), shortest
        return cls(
            width,
            height,
            grid,
            new_width / width,
            new_height / height,
            -float((new_width - size) // 2),
            -float((new_height - size) // 2),
            size,
            size,
            size / grid.cols,
            size / grid.rows,
        )

    @property
    def tokens(self) -> int:
        return self.grid.tokens

    def stretched(self) -> "Geometry":
        """The released code's map: the stored image scaled straight onto the whole grid, padding and crop ignored."""
        span_x, span_y = self.cell_width * self.grid.cols, self.cell_height * self.grid.rows
        return Geometry(
            self.width,
            self.height,
            self.grid,
            span_x / self.width,
            span_y / self.height,
            0.0,
            0.0,
            span_x,
            span_y,
            self.cell_width,
            self.cell_height,
        )

    def box_cells(self, box: Box) -> tuple[int, int, int, int] | None:
        """(first row, last row + 1, first column, last column + 1) of the cells a stored-pixel box touches, or None.

        x runs from floor(x0 / w) to ceil(x1 / w) exclusive, clipped to the grid and to what the model sees.
        """
        x0 = max(box.x0, 0.0) * self.scale_x + self.offset_x
        x1 = min(box.x1, float(self.width)) * self.scale_x + self.offset_x
        y0 = max(box.y0, 0.0) * self.scale_y + self.offset_y
        y1 = min(box.y1, float(self.height)) * self.scale_y + self.offset_y
        x0, x1 = max(x0, 0.0), min(x1, self.canvas_width)
        y0, y1 = max(y0, 0.0), min(y1, self.canvas_height)
        if x1 <= x0 or y1 <= y0:
            return None
        # 1e-9 cells of slack: 84 * (336 / 252) must not spill into the next cell through rounding.
        col0 = max(math.floor(x0 / self.cell_width + 1e-9), 0)
        col1 = min(math.ceil(x1 / self.cell_width - 1e-9), self.grid.cols)
        row0 = max(math.floor(y0 / self.cell_height + 1e-9), 0)
        row1 = min(math.ceil(y1 / self.cell_height - 1e-9), self.grid.rows)
        return (row0, row1, col0, col1) if row1 > row0 and col1 > col0 else None

    def region(self, boxes: Sequence[Box], mapping: BoxMapping = "exact") -> list[int]:
        """Sorted tokens that any of the stored-pixel boxes touches; empty when the model sees none of them."""
        geometry = self if mapping == "exact" else self.stretched()
        touched = np.zeros((self.grid.rows, self.grid.cols), bool)
        for box in boxes:
            cells = geometry.box_cells(box)
            if cells is not None:
                row0, row1, col0, col1 = cells
                touched[row0:row1, col0:col1] = True
        return np.flatnonzero(touched).tolist()

    def mask_region(self, mask: NDArray[np.bool_]) -> list[int]:
        """Sorted tokens whose cell holds at least one true pixel of a stored-pixel mask [height, width]."""
        if mask.shape != (self.height, self.width):
            raise ValueError(f"mask is {mask.shape[1]} x {mask.shape[0]}, the image {self.width} x {self.height}")
        rows, cols = np.zeros((self.grid.rows, self.height), bool), np.zeros((self.grid.cols, self.width), bool)
        for y in np.flatnonzero(mask.any(1)).tolist():
            if cells := self.box_cells(Box(0.0, y, self.width, y + 1.0)):
                rows[cells[0] : cells[1], y] = True
        for x in np.flatnonzero(mask.any(0)).tolist():
            if cells := self.box_cells(Box(x, 0.0, x + 1.0, self.height)):
                cols[cells[2] : cells[3], x] = True
        touched = rows.astype(np.float32) @ mask.astype(np.float32) @ cols.T.astype(np.float32)
        return np.flatnonzero(touched > 0).tolist()

    def cell_box(self, token: int) -> Box | None:
        """The stored pixels under a token's cell, clipped to the image; None where `box_cells` sees no pixel of it."""
        row, col = divmod(token, self.grid.cols)
        x0, x1 = col * self.cell_width, min((col + 1) * self.cell_width, self.canvas_width)
        y0, y1 = row * self.cell_height, min((row + 1) * self.cell_height, self.canvas_height)
        if x1 <= x0 or y1 <= y0:
            return None
        box = Box(
            (x0 - self.offset_x) / self.scale_x,
            (y0 - self.offset_y) / self.scale_y,
            (x1 - self.offset_x) / self.scale_x,
            (y1 - self.offset_y) / self.scale_y,
        ).clipped(self.width, self.height)
        return box if box is not None and self.box_cells(box) else None

    def grid_box(self) -> tuple[float, float, float, float]:
        """Where the whole token grid lies in stored pixels (x0, y0, x1, y1); outside the image where it was padded.

        A heatmap stretched over this rectangle lands on the right pixels.
        """
        return (
            (0.0 - self.offset_x) / self.scale_x,
            (0.0 - self.offset_y) / self.scale_y,
            (self.grid.cols * self.cell_width - self.offset_x) / self.scale_x,
            (self.grid.rows * self.cell_height - self.offset_y) / self.scale_y,
        )
