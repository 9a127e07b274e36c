"""What phantom-vlm is trained on: generated pictures of the split `train`, labelled patch by patch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import LlavaProcessor

from vgtool.benchmarks.phantom import drawing
from vgtool.benchmarks.phantom.draw import COLOURS, ORGANS, SHAPES, TONES
from vgtool.models.phantom.model import GENERAL, PATCH, SIZE, TOKENS, every_question

SIDE = SIZE // PATCH
PARTS, MARKS = (*COLOURS, *ORGANS), tuple((tone, shape) for tone in TONES for shape in SHAPES)


@dataclass
class Item:
    """One training picture: pixels, dense labels, and everything that can be asked of it."""

    pixels: Tensor
    part: Tensor
    """Part class of each patch [64]; 0 is none."""
    mark: Tensor
    questions: dict[str, list[tuple[list[int], int, Tensor]]]
    """Kind -> (tail ids, answer id, patches under the box [64] bool)."""
    natural: bool


def pool(name: str, count: int, conflict: float, process: LlavaProcessor) -> list[Item]:
    """`count` training pictures of a benchmark, the fraction `conflict` of them with marks that disagree."""
    items = []
    for index in range(count):
        picture = drawing(name, "train", index, conflict=(index * 0.6180339887) % 1 < conflict)
        image = Image.fromarray(picture.pixels)
        pixels = process.image_processor(image, return_tensors="pt").pixel_values[0].half()
        part, mark = torch.zeros(TOKENS, dtype=torch.long), torch.zeros(TOKENS, dtype=torch.long)
        grouped: dict[str, list[tuple[list[int], int, Tensor]]] = {}
        for one in picture.parts:
            covered = cells(one.mask)
            part[covered > 0.5] = 1 + PARTS.index(one.name)
            spot = cells(one.mark.mask) if one.mark is not None else None
            if one.mark is not None and spot is not None:
                mark[spot > 0.25] = 1 + MARKS.index((one.mark.tone, one.mark.shape))
            for asked in every_question(name, one):
                region = covered > 0.5 if spot is None or asked.kind == "side" else spot > 0.1
                key = asked.kind if asked.kind != "exist" else f"exist-{asked.answer}"
                tail, answer = encoded(process.tokenizer, asked.prompt, asked.answer)
                grouped.setdefault(key, []).append((tail, answer, region))
        shown = "scene" if name == "scenes" else picture.style.split("-")[0]
        tail, answer = encoded(process.tokenizer, GENERAL, shown)
        grouped["general"] = [(tail, answer, torch.zeros(TOKENS, dtype=torch.bool))]
        items.append(Item(pixels, part, mark, grouped, name == "scenes"))
    return items


def cells(mask: np.ndarray) -> Tensor:
    """Share of each patch that a stored-pixel mask covers after padding to a square, [64]."""
    height, width = mask.shape
    side = max(height, width)
    square = torch.zeros(1, 1, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[0, 0, top : top + height, left : left + width] = torch.from_numpy(mask)
    return F.interpolate(square, (SIZE, SIZE), mode="area").view(SIDE, PATCH, SIDE, PATCH).mean((1, 3)).flatten()


def encoded(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], int]:
    """Ids of the prompt after the image, and of the answer's one word."""
    tail = tokenizer(f"{prompt} ASSISTANT:", add_special_tokens=False).input_ids
    return tail, tokenizer.convert_tokens_to_ids(answer)
