"""VILA-M3 in the three folders that VILA saves: llm/, vision_tower/, mm_projector/, each a save of its own.

Hosted by the native InternVL class: its projector is VILA's, all but the 2 x 2 merge, which is put in place here. The
image is squashed to 384 x 384, of which the tower reads 27 x 14 = 378; the grid is column-major (see merge.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration, SiglipVisionConfig

from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models import merge, parts, pixels
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation
from vgtool.models.checkpoint import Checkpoint, Placement
from vgtool.models.files import PARTS
from vgtool.models.inputs import Vision
from vgtool.records import Grid

LATER = frozenset(
    {"image_encoder", "video_encoder", "dynamic_s2", "min_tiles", "max_tiles", "s2_resize_output_to_scale_idx"}
)
"""Fields that VILA's config has since the commit that turned the grid of `mlp_downsample` (NVlabs/VILA 36f6adc)."""


@dataclass(kw_only=True)
class Vila(Adapter):
    """VILA 1.5 with SigLIP and the mlp_downsample projector over Llama."""

    size: int
    patch: int

    placeholder = False
    alpha = "drop"
    penalises_prompt = False
    renames: ClassVar[Mapping[str, str]] = {
        r"^llm\.lm_head": "lm_head",
        r"^llm\.model": "model.language_model",
        r"^vision_tower\.vision_model": "model.vision_tower",
        r"^mm_projector\.layers\.1": "model.multi_modal_projector.layer_norm",
        r"^mm_projector\.layers\.2": "model.multi_modal_projector.linear_1",
        r"^mm_projector\.layers\.4": "model.multi_modal_projector.linear_2",
    }

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        root, llm = checkpoint.config(), checkpoint.config("llm/")
        if later := sorted(LATER & root.keys()):
            raise VgError(
                f"'{checkpoint.spec.name}' was saved by VILA of December 2024 or later (config.json has '{later[0]}'), "
                "whose projector lays tokens row by row and whose chat is another.",
                "vgtool reads VILA 1.5 as VILA-M3 is saved: column by column.",
            )
        parts.ask(root.get("image_aspect_ratio", "resize"), "resize", "image_aspect_ratio", checkpoint)
        parts.ask(root.get("mm_vision_select_feature", "cls_patch"), "cls_patch", "vision feature", checkpoint)
        parts.ask(bool(root.get("s2", False)), False, "s2", checkpoint)
        projector = checkpoint.config("mm_projector/").get("mm_projector_type")
        parts.ask(projector, "mlp_downsample", "mm_projector_type", checkpoint)
        vision = parts.config(
            checkpoint, SiglipVisionConfig, checkpoint.config("vision_tower/"), "vision_tower/config.json"
        )
        text = parts.language(checkpoint, str(llm.get("model_type")), llm, "llm/config.json")
        grid = _grid(vision.image_size // vision.patch_size)
        host = InternVLConfig(
            vision_config=vision,
            text_config=text,
            downsample_ratio=0.5,
            vision_feature_layer=parts.layer(
                root.get("mm_vision_select_layer", -2), vision.num_hidden_layers, "mm_vision_select_layer", checkpoint
            ),
            vision_feature_select_strategy="full",
            image_seq_length=grid.tokens,
            tie_word_embeddings=False,
        )
        tokenizer = checkpoint.tokenizer("llm/", native=False, legacy=False)
        words = conversation(checkpoint, tokenizer, None, llm.get("eos_token_id"), sub="llm/", strip="none")
        tensors: dict[str, Any] = {}
        for part in PARTS:
            tensors |= checkpoint.tensors(part, f"{part}.")
        model = checkpoint.build(
            InternVLForConditionalGeneration, host, placement, tensors=tensors, renames=cls.renames
        )
        model.model.pixel_shuffle = merge.transposed
        longest = parts.longest(llm, checkpoint)
        return cls(model=model, size=vision.image_size, patch=vision.patch_size, longest=longest, **words)

    @property
    def image_length(self) -> int:
        return _grid(self.size // self.patch).tokens

    def prepare(self, image: Image.Image) -> Vision:
        squashed = pixels.squash(image, self.size)
        across = self.size // self.patch
        grid, cell = _grid(across), 2 * self.patch
        geometry = Geometry.squash(
            image.width, image.height, self.size, self.size, grid, cell=cell, seen=across * self.patch
        )
        values = pixels.normalised(squashed, pixels.SIGLIP_MEAN, pixels.SIGLIP_STD)
        return Vision({"pixel_values": values}, geometry, merge.column_major(grid))


def _grid(patches: int) -> Grid:
    """Tokens after the merge; an odd side is filled up."""
    return Grid((patches + 1) // 2, (patches + 1) // 2)
