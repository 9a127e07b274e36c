"""Pixels as the original repositories prepare them: PIL's bicubic resize, then (x / 255 - mean) / std in float32.

For checkpoints whose layout has no image processor that transformers could read. Each function has its map in
`grounding.geometry.Geometry`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGLIP_MEAN, SIGLIP_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CUBIC = Image.Resampling.BICUBIC


def pad(image: Image.Image, size: int, mean: Sequence[float]) -> Image.Image:
    """Centred on a square of the mean colour, half the difference (floored) before, then size x size."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * value) for value in mean))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return squash(square, size)


def resized(image: Image.Image, width: int, height: int) -> Image.Image:
    """Rows first, then columns, as every Pillow before 13 did in one call and these models were trained with. Pillow 13
    takes columns first where that is less work, and rounds other values in between."""
    return image.resize((width, image.height), CUBIC).resize((width, height), CUBIC)


def squash(image: Image.Image, size: int) -> Image.Image:
    """Resized to size x size, aspect ratio ignored."""
    return resized(image, size, size)


def crop(image: Image.Image, size: int) -> Image.Image:
    """Shortest edge to `size`, then the central size x size."""
    short, long = sorted(image.size)
    scaled = int(size * long / short)
    width, height = (size, scaled) if image.width <= image.height else (scaled, size)
    left, top = (width - size) // 2, (height - size) // 2
    return resized(image, width, height).crop((left, top, left + size, top + size))


def normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[1, 3, H, W], float32."""
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return ((values - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])[None]


def scaled(image: Image.Image, mean: Tensor, std: Tensor) -> Tensor:
    """[3, H, W], float32, as transformers' numpy processors work it out: times 1 / 255 in float64, then normalised."""
    values = (np.array(image).astype(np.float64) * (1 / 255)).astype(np.float32)
    return (torch.from_numpy(values).permute(2, 0, 1) - mean) / std
