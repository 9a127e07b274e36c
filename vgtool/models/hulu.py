"""Hulu-Med: a SigLIP with two-dimensional rope (as VideoLLaMA 3 has it), an MLP, and Qwen2 or Qwen3.

Hosted by the native LLaVA class around VideoLLaMA 3's vision tower. The image keeps no size of its own: both sides
become multiples of the patch within a budget of tokens, and every patch is a token. The published code takes the sides
of an opened image file the wrong way round, so that a wide image is squashed onto a tall canvas; the models were made
with it, and so is this (`sides: kept` turns it off, as that code does for an image handed over as an array).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaConfig, LlavaForConditionalGeneration, VideoLlama3VisionConfig

from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models import parts, pixels
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.inputs import Vision
from vgtool.models.original import LANGUAGE_MODEL
from vgtool.models.prompts import IMAGE, QUESTION
from vgtool.records import Grid

CHAT = f"<|im_start|>user\n{IMAGE}\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
"""The repository's chat, for a checkpoint without a template of its own."""
SIDES = ("swapped", "kept")


@dataclass(kw_only=True)
class Hulu(Adapter):
    """HulumedQwen2ForCausalLM."""

    patch: int
    budget: tuple[int, int]
    """Least and most tokens of an image."""
    normal: tuple[Tensor, Tensor]
    """Mean and deviation of the pixels [3, 1, 1]."""
    sides: str = "swapped"

    alpha = "drop"
    settings = Adapter.settings | {"sides"}
    renames: ClassVar[Mapping[str, str]] = {
        r"^model\.vision_encoder\.(vision_encoder\.)?": "model.vision_tower.",
        r"^model\.mm_projector\.readout\.": "model.mm_projector.",
    } | LANGUAGE_MODEL

    @property
    def follows_image(self) -> bool:
        return True

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        config, prepared = checkpoint.config(), checkpoint.json("preprocessor_config.json")
        fields = config.get("vision_encoder_config")
        if not isinstance(fields, dict) or not prepared:
            raise VgError(
                f"'{checkpoint.folder}' lacks vision_encoder_config in config.json, or preprocessor_config.json.",
                "Give a checkpoint as the hub has it, its vision encoder inside.",
            )
        parts.ask(config.get("mm_projector_type", "mlp2x_gelu"), "mlp2x_gelu", "mm_projector_type", checkpoint)
        parts.ask(prepared.get("patch_size", 14), fields.get("patch_size", 16), "patch_size", checkpoint)
        sides = checkpoint.spec.options.get("sides", "swapped")
        parts.ask(sides, SIDES, "option sides", checkpoint)
        tensors = checkpoint.tensors()
        kind = "qwen3" if any(name.endswith(".self_attn.q_norm.weight") for name in tensors) else "qwen2"
        vision = parts.config(checkpoint, VideoLlama3VisionConfig, fields, "vision_encoder_config")
        tokenizer = checkpoint.tokenizer(native=False)
        image = tokenizer.get_vocab().get(IMAGE)
        if image is None:
            raise VgError(f"The tokenizer of '{checkpoint.spec.name}' has no {IMAGE}.", "Fetch it again.")
        host = LlavaConfig(
            vision_config=vision,
            text_config=parts.language(checkpoint, kind, config, "config.json"),
            image_token_index=image,
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        )
        own = checkpoint.chat_template() or tokenizer.chat_template
        words = conversation(
            checkpoint, tokenizer, image, config.get("eos_token_id"), prompt=None if own else CHAT, strip="none"
        )
        least = parts.whole(prepared.get("min_tokens", 16), "min_tokens", checkpoint, 1)
        most = parts.whole(prepared.get("max_tokens", 16384), "max_tokens", checkpoint, least)
        return cls(
            model=checkpoint.build(
                LlavaForConditionalGeneration, host, placement, tensors=tensors, renames=cls.renames
            ),
            patch=vision.patch_size,
            budget=(least, most),
            normal=(_channels(prepared, "image_mean", checkpoint), _channels(prepared, "image_std", checkpoint)),
            sides=sides,
            **words,
        )

    def prepare(self, image: Image.Image) -> Vision:
        first, second = image.size if self.sides == "swapped" else image.size[::-1]
        rows, cols = patches(first, second, self.patch, *self.budget)
        canvas = pixels.resized(image, cols * self.patch, rows * self.patch)
        values = pixels.scaled(canvas, *self.normal)
        cells = values.reshape(3, rows, self.patch, cols, self.patch).permute(1, 3, 0, 2, 4)
        geometry = Geometry.squash(image.width, image.height, *canvas.size, Grid(rows, cols))
        return Vision(
            {
                "pixel_values": cells.reshape(rows * cols, -1),
                "grid_thw": torch.tensor([[1, rows, cols]]),
                "merge_sizes": torch.tensor([1]),
            },
            geometry,
        )

    def features(self, vision: Vision) -> Tensor:
        inner = self.model.model
        return inner.multi_modal_projector(inner.vision_tower(**self.placed(vision)).last_hidden_state)


def _channels(prepared: Mapping[str, Any], name: str, checkpoint: Checkpoint) -> Tensor:
    """Three numbers of preprocessor_config.json, [3, 1, 1]."""
    values = prepared.get(name)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(one, float | int) for one in values):
        raise VgError(
            f"preprocessor_config.json of '{checkpoint.spec.name}' has {name} {values!r}, not three numbers.",
            "Fetch it again.",
        )
    return torch.tensor(values, dtype=torch.float32).reshape(3, 1, 1)


def patches(height: int, width: int, patch: int, least: int, most: int) -> tuple[int, int]:
    """(rows, columns) of patches: the sides rounded to whole ones, scaled into the budget of tokens."""
    rows, cols = round(height / patch), round(width / patch)
    if rows * cols > most:
        shrink = math.sqrt(height * width / (most * patch * patch))
        rows, cols = math.floor(height / shrink / patch), math.floor(width / shrink / patch)
    if rows * cols < least:
        grow = math.sqrt(least * patch * patch / (height * width))
        rows, cols = math.ceil(height * grow / patch), math.ceil(width * grow / patch)
    return rows, cols
