"""Where tokens stand, from spans that are written down: rows, columns, padding, cut cells, and no grid."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vgtool.models import gridfit, stripes


def spans(starts: Any, stops: Any, side: int) -> stripes.Spans:
    start, stop = np.asarray(starts, float), np.asarray(stops, float)
    return stripes.Spans(start, stop, np.where(stop > start, 1.0, 0.0), 1.0, side)


def test_cells_of_padding_complete_their_rows() -> None:
    """4 x 4 cells of 10 px over an image of 40 x 20 that was padded to 40 x 40."""
    col, row = np.tile(np.arange(4), 4), np.repeat(np.arange(4), 4)
    inside = (row > 0) & (row < 3)
    x = spans(np.where(inside, col * 10, 0), np.where(inside, col * 10 + 10, 0), 40)
    y = spans(np.where(inside, row * 10 - 10, 0), np.where(inside, row * 10, 0), 20)
    fitted = gridfit.fit(stripes.Seen(np.arange(16), x, y, 0))
    assert (fitted.grid.rows, fitted.grid.cols, fitted.how) == (4, 4, "pad")
    assert fitted.order.tolist() == list(range(16)) and len(fitted.overview) == 0
    assert fitted.x == (0.0, 10.0) and fitted.y == (-10.0, 10.0)


@pytest.mark.parametrize("corner", [1.0, 0.1])
def test_rows_and_columns_that_the_images_edges_cut_belong_to_the_grid(corner: float) -> None:
    """Cells of 28 px over an image of 120 x 90, padded right and below: 8 px of the last column, 6 of the last row."""
    col, row = np.tile(np.arange(5), 4), np.repeat(np.arange(4), 5)
    x = spans(col * 28, np.minimum(col * 28 + 28, 120), 120)
    y = spans(row * 28, np.minimum(row * 28 + 28, 90), 90)
    for axis in (x, y):
        axis.answer[-1] = corner
    fitted = gridfit.fit(stripes.Seen(np.arange(20), x, y, 0))
    assert (fitted.grid.rows, fitted.grid.cols, fitted.how, len(fitted.overview)) == (4, 5, "fit", 0)
    assert np.allclose(fitted.x, (0, 28)) and np.allclose(fitted.y, (0, 28))


def test_three_cells_of_which_the_images_edges_cut_the_outer_ones_are_fitted_by_where_they_meet() -> None:
    """Cells of 28 px from the left edge of an image of 75 px, 19 px of the last."""
    col, row = np.tile(np.arange(3), 4), np.repeat(np.arange(4), 3)
    x = spans(col * 28, np.minimum(col * 28 + 28, 75), 75)
    fitted = gridfit.fit(stripes.Seen(np.arange(12), x, spans(row * 28, row * 28 + 28, 112), 0))
    assert (fitted.grid.rows, fitted.grid.cols, fitted.how) == (4, 3, "fit") and np.allclose(fitted.x, (0, 28))


def test_tiles_of_which_the_images_edges_cut_the_last_row_and_column_are_one_grid() -> None:
    """Tiles of 2 x 2 cells of 28 px over an image of 96 x 72 that is padded right and below: of the lower tiles one row
    shows 16 px of it, of the right ones the second column 12 px; the other row of the lower ones shows nothing."""
    tile, inner = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    col, row = 2 * (tile % 2) + inner % 2, 2 * (tile // 2) + inner // 2
    left, top = np.minimum(col * 28, 96), np.minimum(row * 28, 72)
    right, low = np.minimum(col * 28 + 28, 96), np.minimum(row * 28 + 28, 72)
    left[row == 3] = right[row == 3] = 0
    columns = np.arange(16) + tile  # a separator between two tiles
    fitted = gridfit.fit(stripes.Seen(columns, spans(left, right, 96), spans(top, low, 72), 0))
    assert (fitted.grid.rows, fitted.grid.cols, len(fitted.overview)) == (3, 4, 4)
    assert fitted.order.tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13]
    assert np.allclose(fitted.x, (0, 28)) and np.allclose(fitted.y, (0, 28))


def test_windows_that_reach_over_their_neighbours_without_order_are_no_cells() -> None:
    """Four columns of 30 px of which each answers to two and more."""
    starts, stops = np.array([0, 0, 30, 60]), np.array([38, 68, 98, 120])
    col, row = np.tile(np.arange(4), 4), np.repeat(np.arange(4), 4)
    seen = stripes.Seen(np.arange(16), spans(starts[col], stops[col], 120), spans(row * 30, row * 30 + 30, 120), 0)
    with pytest.raises(gridfit.NoGrid, match="overlap too far"):
        gridfit.fit(seen)


def test_an_inner_cell_that_answers_faintly_by_chance_belongs_to_the_grid() -> None:
    col, row = np.tile(np.arange(4), 4), np.repeat(np.arange(4), 4)
    x, y = spans(col * 10, col * 10 + 10, 40), spans(row * 10, row * 10 + 10, 40)
    for axis in (x, y):
        axis.answer[5] = 0.15
    fitted = gridfit.fit(stripes.Seen(np.arange(16), x, y, 0))
    assert (fitted.grid.rows, fitted.grid.cols, fitted.how, len(fitted.overview)) == (4, 4, "squash", 0)


def test_a_token_on_the_border_of_two_broad_stripes_stands_there_however_unequal_its_answers_are() -> None:
    """16 teeth over 48 stripes; stripes 14 to 24, of which the first two answer most; one inside a broad stripe; one of
    padding; one over the whole image."""
    fine = np.zeros((4, 16), bool)
    fine[0, [14, 15, 0, 1, 2, 4, 5, 6, 7, 8]] = fine[1, 3:9] = fine[3] = True
    broad = np.array([[90.0, 20.0, 0.0], [0.0, 1.0, 60.0], [0.0, 0.0, 0.0], [50.0, 50.0, 50.0]])
    start, stop, wide = stripes.runs(fine, broad, 48)
    assert start.tolist() == [14, 35, 0, 0] and stop.tolist() == [25, 41, 0, 48]
    assert wide.tolist() == [False, False, False, True]


@pytest.mark.parametrize("columns", [4, 1])
def test_one_row_or_column_of_cells_is_a_grid_though_each_spans_the_image_one_way(columns: int) -> None:
    """Four cells of 25 px along one side of an image of 100 x 80 px or 80 x 100 px, whole along the other."""
    start = np.arange(4) * 25
    along, across = spans(start, start + 25, 100), spans(np.zeros(4), np.full(4, 80), 80)
    x, y = (along, across) if columns == 4 else (across, along)
    fitted = gridfit.fit(stripes.Seen(np.arange(4), x, y, 0))
    assert (fitted.grid.rows, fitted.grid.cols) == (4 // columns, columns)
    assert np.allclose((fitted.x[1], fitted.y[1]), (25, 80) if columns == 4 else (80, 25))


@pytest.mark.parametrize("width,height", [(290, 201), (1000, 417), (30, 40)])
def test_noise_fills_an_image_of_any_size(width: int, height: int) -> None:
    sizes = list[tuple[int, int]]()

    def states(image: Image.Image) -> torch.Tensor:
        sizes.append(image.size)
        return torch.from_numpy(np.asarray(image, np.float32).reshape(height, -1)[:, :1])

    assert len(stripes.columns(states, width, height)) > 0.9 * height and set(sizes) == {(width, height)}


def test_a_column_major_grid_is_read_in_image_order() -> None:
    row, col = np.tile(np.arange(3), 2), np.repeat(np.arange(2), 3)
    seen = stripes.Seen(np.arange(6), spans(col * 20, col * 20 + 20, 40), spans(row * 20, row * 20 + 20, 60), 0)
    fitted = gridfit.fit(seen)
    assert (fitted.grid.rows, fitted.grid.cols) == (3, 2)
    assert fitted.order.tolist() == [0, 3, 1, 4, 2, 5]


def test_tokens_that_overlap_without_order_form_no_grid() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 60, (2, 12))
    seen = stripes.Seen(np.arange(12), spans(start[0], start[0] + 40, 100), spans(start[1], start[1] + 40, 100), 0)
    with pytest.raises(gridfit.NoGrid):
        gridfit.fit(seen)
