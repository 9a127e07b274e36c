"""InternVL: native checkpoints with tiles, and MedRegA in the layout of InternVL's own repository.

Native (InternVL3 -hf): the image is squashed onto the tile layout nearest to its aspect ratio; tiles come row by row,
16 x 16 tokens each, and a thumbnail of the whole image last when there is more than one. The grid spans all tiles; the
thumbnail is an overview that metrics leave out and knockouts do not touch.

MedRegA (InternVL 1.2): one 448 x 448 squash, fused qkv weights, and by default a column-major grid (see merge.py). Its
config.json names classes to import (auto_map); they are never looked at, the weights go into the native class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models import merge, parts, pixels
from vgtool.models.adapter import Adapter, Vision
from vgtool.models.chat import conversation
from vgtool.models.checkpoint import Checkpoint, Placement, split_qkv
from vgtool.records import Grid

CONTEXT, OPEN, CLOSE = "<IMG_CONTEXT>", "<img>", "</img>"


@dataclass(kw_only=True)
class InternVL(Adapter):
    """InternVLForConditionalGeneration in the native layout."""

    image_processor: Any
    tile: Grid
    """Tokens of one tile."""
    tiles: bool
    """False: one squash of the whole image, whatever its shape."""

    settings = Adapter.settings | {"tiles"}

    @property
    def follows_image(self) -> bool:
        return self.tiles

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        checkpoint.refuse_remote_code("config.json")
        config = checkpoint.configured(InternVLConfig, checkpoint.config())
        processor = checkpoint.image_processor()
        side = config.vision_config.image_size[0]
        if (processor.size.height, processor.size.width) != (side, side) or not processor.do_resize:
            raise VgError(
                f"The image processor of '{checkpoint.spec.name}' does not make tiles of {side} x {side}.",
                "Copy preprocessor_config.json from the original checkpoint.",
            )
        words = conversation(
            checkpoint,
            checkpoint.tokenizer(),
            config.image_token_id,
            config.get_text_config().eos_token_id,
            wrap=(OPEN, CLOSE),
        )
        return cls(
            model=checkpoint.build(InternVLForConditionalGeneration, config, placement),
            image_processor=processor,
            tile=_grid(config),
            tiles=bool(checkpoint.spec.options.get("tiles", True)),
            **words,
        )

    def prepare(self, image: Image.Image) -> Vision:
        processor, rows, cols = self.image_processor, self.tile.rows, self.tile.cols
        out = processor(
            image, crop_to_patches=self.tiles, input_data_format="channels_last", return_tensors="pt"
        ).pixel_values
        across, down = 1, 1
        if self.tiles:
            size = (processor.size.height, processor.size.width)
            across, down = get_optimal_tiled_canvas(
                (image.height, image.width), size, processor.min_patches, processor.max_patches
            )
        thumbnail = across * down > 1
        if len(out) != across * down + thumbnail:
            raise SampleError("grid_mismatch", f"{len(out)} tiles where {across} x {down} were expected")
        grid = Grid(down * rows, across * cols)
        geometry = Geometry.squash(
            image.width, image.height, across * processor.size.width, down * processor.size.height, grid
        )
        index = torch.arange(grid.tokens).reshape(down, across, rows, cols)  # as the model has them
        order = index.permute(0, 2, 1, 3).reshape(-1)
        return Vision({"pixel_values": out}, geometry, order, self.tile.tokens if thumbnail else 0)


@dataclass(kw_only=True)
class InternVLChat(Adapter):
    """InternVL 1.2 with a Llama language model, as OpenGVLab's repository and MedRegA save it."""

    side: int
    grid: Grid
    swapped: bool
    """True: the token grid is column-major (ps_version v1)."""

    penalises_prompt = False
    renames: ClassVar[Mapping[str, str]] = {
        r"^language_model\.lm_head": "lm_head",
        r"^language_model\.model": "model.language_model",
        r"^mlp1\.0": "model.multi_modal_projector.layer_norm",
        r"^mlp1\.1": "model.multi_modal_projector.linear_1",
        r"^mlp1\.3": "model.multi_modal_projector.linear_2",
        r"^vision_model\.embeddings\.class_embedding": "model.vision_tower.embeddings.cls_token",
        r"^vision_model\.embeddings\.patch_embedding": "model.vision_tower.embeddings.patch_embeddings.projection",
        r"^vision_model\.embeddings\.position_embedding": "model.vision_tower.embeddings.position_embeddings",
        r"^vision_model\.encoder\.layers": "model.vision_tower.encoder.layer",
        r"\.norm1\.": ".layernorm_before.",
        r"\.norm2\.": ".layernorm_after.",
        r"\.ls1$": ".lambda_1",
        r"\.ls2$": ".lambda_2",
        r"\.attn\.proj\.": ".attention.projection_layer.",
        r"\.attn\.q_norm\.": ".attention.q_norm.",
        r"\.attn\.k_norm\.": ".attention.k_norm.",
    }

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        config = checkpoint.config()
        vision, llm = config.get("vision_config"), config.get("llm_config")
        if not isinstance(vision, dict) or not isinstance(llm, dict):
            raise VgError(
                f"config.json of '{checkpoint.spec.name}' lacks vision_config or llm_config.", "Fetch it again."
            )
        parts.ask(config.get("template", "Hermes-2"), "Hermes-2", "template", checkpoint)
        parts.ask(float(config.get("downsample_ratio", 0.5)), 0.5, "downsample_ratio", checkpoint)
        version = config.get("ps_version", "v1")
        parts.ask(version, ("v1", "v2"), "ps_version", checkpoint)
        parts.ask(bool(config.get("pad2square", False)), False, "pad2square", checkpoint)
        tokenizer = checkpoint.tokenizer(native=False)
        context = tokenizer.get_vocab().get(CONTEXT)
        if context is None:
            raise VgError(f"The tokenizer of '{checkpoint.spec.name}' has no {CONTEXT}.", "Fetch it again.")
        host: Any = InternVLConfig(
            vision_config=_vision(checkpoint, vision, config),
            text_config=parts.language(checkpoint, str(llm.get("model_type")), llm, "llm_config"),
            image_token_id=context,
            downsample_ratio=0.5,
            vision_feature_layer=int(config.get("select_layer", -1)),
            vision_feature_select_strategy="default",
            tie_word_embeddings=False,
        )
        words = conversation(
            checkpoint, tokenizer, context, llm.get("eos_token_id"), wrap=(OPEN, CLOSE), strip="none"
        )
        model = checkpoint.build(
            InternVLForConditionalGeneration,
            host,
            placement,
            tensors=split_qkv(checkpoint.tensors(), ".attn.qkv.", [f".attention.{one}_proj." for one in "qkv"]),
            renames=cls.renames,
        )
        if version == "v1":
            model.model.pixel_shuffle = merge.transposed
        return cls(
            model=model, side=host.vision_config.image_size[0], grid=_grid(host), swapped=version == "v1", **words
        )

    def prepare(self, image: Image.Image) -> Vision:
        values = pixels.normalised(pixels.squash(image, self.side), pixels.IMAGENET_MEAN, pixels.IMAGENET_STD)
        geometry = Geometry.squash(image.width, image.height, self.side, self.side, self.grid)
        return Vision({"pixel_values": values}, geometry, merge.column_major(self.grid) if self.swapped else None)


def _vision(checkpoint: Checkpoint, fields: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """InternViT's config under its native names; what a file leaves out is InternVL's own default."""
    native = {
        "hidden_size": fields.get("hidden_size", 3200),
        "num_hidden_layers": fields.get("num_hidden_layers", 48),
        "num_attention_heads": fields.get("num_attention_heads", 25),
        "intermediate_size": fields.get("intermediate_size", 12800),
        "attention_bias": bool(fields.get("qkv_bias", False)),
        "use_qk_norm": bool(fields.get("qk_normalization", True)),
        "norm_type": fields.get("norm_type", "rms_norm"),
        "hidden_act": fields.get("hidden_act", "gelu"),
        "layer_norm_eps": fields.get("layer_norm_eps", 1e-6),
        "image_size": root.get("force_image_size") or fields.get("image_size", 448),
        "patch_size": fields.get("patch_size", 14),
        "use_mean_pooling": True,
    }
    return checkpoint.configured(InternVLVisionConfig, native, "vision_config")


def _grid(config: Any) -> Grid:
    """Tokens of one tile."""
    rows, cols = (
        int(side // patch * config.downsample_ratio)
        for side, patch in zip(config.vision_config.image_size, config.vision_config.patch_size, strict=True)
    )
    return Grid(rows, cols)
