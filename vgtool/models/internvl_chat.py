"""InternVL in the layout of its own repository (internvl_chat): 1.2 to 3.5 over Llama, InternLM2, Qwen2 and Qwen3.

MedRegA, Fleming-VL, Chiron-o1 and Lingshu-I stand in it. config.json names classes to import (auto_map); they are never
looked at, the weights go into the native class. Its `template` names the words of the chat, `ps_version` the order of
the tokens in a tile (v1: column by column, see merge.py), `dynamic_image_size`, `use_thumbnail` and `max_dynamic_patch`
the tiles. A language model saved with its LoRA beside it (`use_llm_lora`) is merged as its class adds it: alpha = 2 r.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig

from vgtool.errors import VgError
from vgtool.models import internlm, merge, parts, pixels, tiles
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation
from vgtool.models.checkpoint import Checkpoint, Placement, split_qkv
from vgtool.models.inputs import Vision
from vgtool.models.internvl import CLOSE, OPEN, token_grid
from vgtool.models.prompts import IMAGE, QUESTION
from vgtool.models.stored import merged
from vgtool.records import Grid

CONTEXT, END = "<IMG_CONTEXT>", "<|im_end|>"
FIRST = "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
SECOND = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
TEMPLATES = {"Hermes-2": (FIRST, ""), "internlm2-chat": (FIRST, ""), "internvl2_5": (SECOND, "\n")}
"""Name in config.json -> system message, and what follows the end of a turn."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How many tiles an image becomes."""

    least: int
    most: int
    thumbnail: bool


@dataclass(kw_only=True)
class InternVLChat(Adapter):
    """InternVL as OpenGVLab's repository saves it."""

    side: int
    """Pixels a side of one tile."""
    tile: Grid
    """Tokens of one tile."""
    swapped: bool
    """True: the tokens of a tile stand column by column (ps_version v1)."""
    tiling: Tiling | None
    """None: one squash of the whole image, whatever its shape."""

    alpha = "drop"
    penalises_prompt = False
    settings = Adapter.settings | {"tiles", "max_tiles", "opening"}
    renames: ClassVar[Mapping[str, str]] = {
        **internlm.RENAMES,
        r"^language_model\.lm_head": "lm_head",
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

    @property
    def follows_image(self) -> bool:
        return self.tiling is not None

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        config = checkpoint.config()
        vision, llm = config.get("vision_config"), config.get("llm_config")
        if config.get("model_type") == "internvl":
            raise VgError(
                f"'{checkpoint.spec.name}' turns out to be in the native layout of InternVL (-hf).",
                f"Load its folder: --model {checkpoint.folder}.",
            )
        if not isinstance(vision, dict) or not isinstance(llm, dict):
            raise VgError(
                f"config.json of '{checkpoint.spec.name}' lacks vision_config or llm_config.", "Fetch it again."
            )
        parts.ask(config.get("downsample_ratio", 0.5), 0.5, "downsample_ratio", checkpoint)
        if "select_layer" not in config:
            raise VgError(
                f"config.json of '{checkpoint.spec.name}' lacks select_layer.",
                "InternVL's own code takes -1 where it is missing, MedRegA's -4; write the one it was trained with.",
            )
        version = config.get("ps_version", "v1")
        parts.ask(version, ("v1", "v2"), "ps_version", checkpoint)
        parts.ask(bool(config.get("pad2square", False)), False, "pad2square", checkpoint)
        parts.ask(config.get("use_backbone_lora") or 0, 0, "use_backbone_lora", checkpoint)
        internlm2 = llm.get("model_type") == internlm.KIND
        tokenizer = checkpoint.tokenizer(native=False, legacy=True if internlm2 else None, own=internlm2)
        context = tokenizer.get_vocab().get(CONTEXT)
        if context is None:
            raise VgError(f"The tokenizer of '{checkpoint.spec.name}' has no {CONTEXT}.", "Fetch it again.")
        text, tensors = _language(checkpoint, config, llm)
        host: Any = InternVLConfig(
            vision_config=_vision(checkpoint, vision, config),
            text_config=text,
            image_token_id=context,
            downsample_ratio=0.5,
            vision_feature_layer=parts.layer(
                config["select_layer"], int(vision.get("num_hidden_layers", 48)), "select_layer", checkpoint
            ),
            vision_feature_select_strategy="default",
            tie_word_embeddings=text.tie_word_embeddings,
        )
        end = tokenizer.get_vocab().get(END)
        words = conversation(
            checkpoint, tokenizer, context, llm.get("eos_token_id"), end, wrap=(OPEN, CLOSE),
            prompt=_prompt(checkpoint, config), strip="none",
        )  # fmt: skip
        model = checkpoint.build(
            InternVLForConditionalGeneration, host, placement, tensors=tensors, renames=cls.renames
        )
        if version == "v1":
            model.model.pixel_shuffle = merge.transposed
        return cls(
            model=model, side=host.vision_config.image_size[0], tile=token_grid(host), swapped=version == "v1",
            tiling=_tiling(checkpoint, config), **words,
        )  # fmt: skip

    def prepare(self, image: Image.Image) -> Vision:
        across, down = 1, 1
        if self.tiling:
            across, down = tiles.arrangement(image, self.side, self.tiling.least, self.tiling.most)
        thumbnail = self.tiling is not None and self.tiling.thumbnail and across * down > 1
        seen = tiles.cut(image, self.side, across, down, thumbnail)
        values = [pixels.normalised(one, pixels.IMAGENET_MEAN, pixels.IMAGENET_STD) for one in seen]
        geometry, order = tiles.laid(image, self.side, self.tile, across, down, column_major=self.swapped)
        return Vision({"pixel_values": torch.cat(values)}, geometry, order, self.tile.tokens if thumbnail else 0)


def _prompt(checkpoint: Checkpoint, config: Mapping[str, Any]) -> str | None:
    """The chat that the config's template makes; None where the entry has a prompt of its own."""
    if checkpoint.spec.prompt is not None:
        return None
    template = config.get("template")
    parts.ask(template, tuple(TEMPLATES), "template", checkpoint)
    system, after = TEMPLATES[str(template)]
    spec = checkpoint.spec
    message = config.get("system_message", system) if spec.system is None else spec.system
    opening = spec.options.get("opening", "")
    return (
        f"<|im_start|>system\n{message}{END}{after}<|im_start|>user\n{opening}{IMAGE}\n{QUESTION}{END}{after}"
        "<|im_start|>assistant\n"
    )


def _tiling(checkpoint: Checkpoint, config: Mapping[str, Any]) -> Tiling | None:
    """As the config says, unless the entry does."""
    options = checkpoint.spec.options
    if not options.get("tiles", config.get("dynamic_image_size", False)):
        return None
    least = parts.whole(config.get("min_dynamic_patch", 1), "min_dynamic_patch", checkpoint, 1)
    most = parts.whole(options.get("max_tiles", config.get("max_dynamic_patch", 6)), "max_tiles", checkpoint, least)
    return Tiling(least, most, bool(config.get("use_thumbnail", False)))


def _language(checkpoint: Checkpoint, config: Mapping[str, Any], llm: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The text config and the checkpoint's tensors, qkv in parts and LoRA merged."""
    kind, tensors = str(llm.get("model_type")), checkpoint.tensors()
    stored = any(name.endswith((".lm_head.weight", "language_model.output.weight")) for name in tensors)
    fields = {**llm, "tie_word_embeddings": bool(llm.get("tie_word_embeddings", False)) and not stored}
    text = (
        internlm.config(checkpoint, fields, "llm_config")
        if kind == internlm.KIND
        else parts.language(checkpoint, kind, fields, "llm_config")
    )
    if config.get("use_llm_lora"):  # its class wraps the language model in peft's: alpha is twice the rank
        wrapped = "language_model.base_model.model."
        tensors = {
            f"language_model.{name.removeprefix(wrapped)}" if name.startswith(wrapped) else name: tensor
            for name, tensor in tensors.items()
        }
        tensors = merged(tensors, 2.0)
    if kind == internlm.KIND:
        tensors = internlm.split(tensors, text)
    return text, split_qkv(tensors, ".attn.qkv.", [f".attention.{one}_proj." for one in "qkv"])


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
