"""InternVL's tiles: the image squashed onto a canvas of square tiles that is nearest to its aspect ratio.

Tiles come row by row, and a thumbnail of the whole image last when there is more than one. The grid spans all tiles;
the thumbnail is an overview that metrics leave out and knockouts do not touch.
"""

import torch
from PIL import Image
from torch import Tensor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from vgtool.grounding.geometry import Geometry
from vgtool.models import pixels
from vgtool.records import Grid


def arrangement(image: Image.Image, side: int, least: int, most: int) -> tuple[int, int]:
    """(tiles across, tiles down) of an image, from `least` to `most` tiles of side x side pixels in all."""
    across, down = get_optimal_tiled_canvas((image.height, image.width), (side, side), least, most)
    return across, down


def cut(image: Image.Image, side: int, across: int, down: int, thumbnail: bool) -> list[Image.Image]:
    """The tiles, row by row, and the thumbnail."""
    canvas = pixels.resized(image, across * side, down * side)
    places = [(col * side, row * side) for row in range(down) for col in range(across)]
    tiles = [canvas.crop((x, y, x + side, y + side)) for x, y in places]
    return [*tiles, pixels.squash(image, side)] if thumbnail else tiles


def laid(
    image: Image.Image, side: int, tile: Grid, across: int, down: int, *, column_major: bool = False
) -> tuple[Geometry, Tensor | None]:
    """How an image of across x down tiles lies under its tokens, and the model's index of each image-space token.

    `tile`: tokens of one tile; `column_major`: they stand column by column inside it. None: the model's order is
    row-major over the image already.
    """
    grid = Grid(down * tile.rows, across * tile.cols)
    geometry = Geometry.squash(image.width, image.height, across * side, down * side, grid)
    index = torch.arange(grid.tokens)
    if column_major:
        index = index.reshape(down, across, tile.cols, tile.rows).permute(0, 3, 1, 2)
    else:
        index = index.reshape(down, across, tile.rows, tile.cols).permute(0, 2, 1, 3)
    return geometry, None if across == 1 and not column_major else index.reshape(-1)
