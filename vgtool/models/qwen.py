"""Qwen2-VL, Qwen2.5-VL (Lingshu) and Qwen3-VL in the native layout.

The image keeps its aspect ratio: both sides become multiples of the cell (28 or 32 px) within a budget of pixels, and
the grid follows. Positions are three-dimensional (mrope), and Qwen3-VL also adds image features after the first text
layers, so the prompt goes in as ids with placeholders and pixels, as the model's own processor feeds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    PreTrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models import pixels
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation, ends
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.inputs import Inputs, Vision
from vgtool.records import Grid

BUDGET = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}


@dataclass(kw_only=True)
class Qwen25(Adapter):
    """Qwen2_5_VLForConditionalGeneration."""

    image_processor: Any
    twice: bool = False
    """An image is resized to whole cells before the processor sees it, as the package qwen-vl-utils does, which Qwen's
    own examples use. Without a budget of pixels the processor then leaves it alone, and both ways are one."""

    embeds = False
    settings = Adapter.settings | BUDGET.keys() | {"twice"}
    host: ClassVar[tuple[type[PreTrainedConfig], Any]] = (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration)

    @property
    def follows_image(self) -> bool:
        return True

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        checkpoint.refuse_remote_code("config.json")
        config = checkpoint.configured(cls.host[0], checkpoint.config(native=True))
        processor = processor_of(checkpoint, config)
        words = conversation(checkpoint, checkpoint.tokenizer(), config.image_token_id, *ends(config))
        model = checkpoint.build(cls.host[1], config, placement)
        twice = bool(checkpoint.spec.options.get("twice", False))
        return cls(model=model, image_processor=processor, twice=twice, **words)

    def prepare(self, image: Image.Image) -> Vision:
        processor, patch = self.image_processor, self.image_processor.patch_size
        try:
            seen = _in_cells(image, patch * processor.merge_size) if self.twice else image
            out = processor(seen, input_data_format="channels_last", return_tensors="pt")
        except ValueError as error:  # smart resize refuses an aspect ratio above 200
            raise SampleError("image_shape", f"{image.width} x {image.height} pixels: {error}") from None
        _, rows, cols = out.image_grid_thw[0].tolist()
        grid = Grid(rows // processor.merge_size, cols // processor.merge_size)
        geometry = Geometry.squash(image.width, image.height, cols * patch, rows * patch, grid)
        return Vision({"pixel_values": out.pixel_values, "image_grid_thw": out.image_grid_thw}, geometry)

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        assert self.image_token is not None
        ids, columns = list(head), []
        for index, vision in enumerate(visions):
            ids += self.between(index + 1) if index else ()
            columns.append(torch.arange(len(ids), len(ids) + vision.tokens, device=self.device))
            ids += [self.image_token] * vision.tokens
        ids += tail
        row = torch.tensor([ids], device=self.device)
        kwargs: dict[str, Any] = {"input_ids": row}
        positions = self.positions(torch.arange(len(ids), device=self.device)[None])
        if visions:
            placed = [self.placed(vision) for vision in visions]
            kwargs |= {name: torch.cat([one[name] for one in placed]) for name in placed[0]}
            kwargs["mm_token_type_ids"] = (row == self.image_token).long()
            positions, _ = self.model.model.get_rope_index(
                row, mm_token_type_ids=kwargs["mm_token_type_ids"], image_grid_thw=kwargs["image_grid_thw"]
            )
        none = torch.empty(0, dtype=torch.long, device=self.device)
        following = int(positions.max()) + 1 if ids else 0
        kwargs["position_ids"] = positions
        return Inputs(kwargs, len(ids), tuple(columns), (none,) * len(columns), following)

    def positions(self, rope: Tensor) -> Tensor:
        return rope[None].expand(3, -1, -1)


@dataclass(kw_only=True)
class Qwen2(Qwen25):
    """Qwen2VLForConditionalGeneration."""

    host = (Qwen2VLConfig, Qwen2VLForConditionalGeneration)


@dataclass(kw_only=True)
class Qwen3(Qwen25):
    """Qwen3VLForConditionalGeneration."""

    host = (Qwen3VLConfig, Qwen3VLForConditionalGeneration)


def _in_cells(image: Image.Image, cell: int) -> Image.Image:
    """The image as qwen-vl-utils hands it over: sides of whole cells, 4 to 16384 in all. ValueError for an aspect ratio
    above 200."""
    height, width = smart_resize(image.height, image.width, cell, 4 * cell * cell, 16384 * cell * cell)
    return pixels.resized(image, width, height)


def processor_of(checkpoint: Checkpoint, config: Any) -> Any:
    """The checkpoint's image processor, under the registry's budget of pixels where it has one."""
    processor = checkpoint.image_processor()
    asked = {name: checkpoint.spec.options[name] for name in BUDGET if name in checkpoint.spec.options}
    if asked:
        processor = checkpoint.image_processor(
            **{n: getattr(processor.size, edge) for n, edge in BUDGET.items()} | asked
        )
    vision = config.vision_config
    if (processor.patch_size, processor.merge_size) != (vision.patch_size, vision.spatial_merge_size):
        raise VgError(
            f"The image processor of '{checkpoint.spec.name}' cuts other patches than its config says.",
            "Copy preprocessor_config.json from the original checkpoint.",
        )
    return processor
