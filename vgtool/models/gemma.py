"""Gemma 3 and MedGemma in the native layout: squashed to 896 x 896, 64 x 64 patches pooled 4 x 4 to 16 x 16 tokens.

Image tokens see each other in both directions, which the model is told by token types. Pan-and-scan stays off, as in
the checkpoint's own processor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from PIL import Image
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation, ends, token
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.inputs import Inputs, Vision
from vgtool.records import Grid


@dataclass(kw_only=True)
class Gemma3(Adapter):
    """Gemma3ForConditionalGeneration."""

    image_processor: Any
    grid: Grid

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        checkpoint.refuse_remote_code("config.json")
        config = checkpoint.configured(Gemma3Config, checkpoint.config(native=True))
        processor, side = checkpoint.image_processor(), config.vision_config.image_size
        if (processor.size.height, processor.size.width) != (side, side) or getattr(
            processor, "do_pan_and_scan", False
        ):
            raise VgError(
                f"The image processor of '{checkpoint.spec.name}' does not make one image of {side} x {side}.",
                "Copy preprocessor_config.json from the original checkpoint.",
            )
        tokenizer = checkpoint.tokenizer()
        around = (config.boi_token_index, config.eoi_token_index)
        opening, closing = (token(checkpoint, tokenizer, index) for index in around)
        words = conversation(
            checkpoint,
            tokenizer,
            config.image_token_index,
            *ends(config),
            wrap=(f"\n\n{opening}", f"{closing}\n\n"),
            written=opening,
        )
        rows = math.isqrt(config.mm_tokens_per_image)
        return cls(
            model=checkpoint.build(Gemma3ForConditionalGeneration, config, placement),
            image_processor=processor,
            grid=Grid(rows, rows),
            **words,
        )

    def prepare(self, image: Image.Image) -> Vision:
        processor = self.image_processor
        values = processor(image, input_data_format="channels_last", return_tensors="pt").pixel_values
        geometry = Geometry.squash(image.width, image.height, processor.size.width, processor.size.height, self.grid)
        return Vision({"pixel_values": values}, geometry)

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        made = super().inputs(visions, head, tail)
        kinds = torch.zeros((1, made.length), dtype=torch.long, device=self.device)
        for columns in made.columns:
            kinds[0, columns] = 1
        return replace(made, kwargs={**made.kwargs, "token_type_ids": kinds})
