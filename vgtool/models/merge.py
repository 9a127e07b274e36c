"""The 2 x 2 merge of VILA-M3 and MedRegA, which leaves the token grid transposed.

Both repositories fold two columns, swap the axes, fold two rows, and never swap back: token index = column * rows +
row. Native InternVL swaps back. The order stays as the language model was trained on; `column_major` tells the rest of
vgtool where each image-space token stands.
"""

import torch
from torch import Tensor

from vgtool.records import Grid


def transposed(features: Tensor, scale_factor: float = 0.5) -> Tensor:
    """[B, rows, cols, C] -> [B, cols / 2, rows / 2, 4 C]; an odd side is filled with zeros at its end (27 -> 28)."""
    assert scale_factor == 0.5
    _, rows, cols, width = features.shape
    features = torch.nn.functional.pad(features, (0, 0, 0, cols % 2, 0, rows % 2))
    rows, cols = (rows + 1) // 2, (cols + 1) // 2
    cells = features.reshape(len(features), rows, 2, cols, 2, width)
    return cells.permute(0, 3, 1, 2, 4, 5).reshape(len(features), cols, rows, 4 * width)


def column_major(grid: Grid) -> Tensor:
    """Model token index of each image-space token [T] of such a model."""
    return torch.arange(grid.tokens).reshape(grid.cols, grid.rows).T.reshape(-1)
