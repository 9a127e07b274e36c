"""Checkpoints as the LLaVA repositories save them: HuatuoGPT-Vision, LLaVA-Med, LLaVA-Tri, the original LLaVA-1.5.

Hosted by the native LLaVA class under renamed weights. What is not in config.json (the shape of the tower) is read off
the weights. Prompts are tokenised in pieces around the image, as these repositories do with their sentinel.

LLaVA-Tri stacks features of three scales (S2): the image at 336, 672 and 1008 pixels in tiles of 336, pooled to one
24 x 24 grid of three times the channels. The projector's width tells it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, ViTConfig

from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.models import hub, parts, pixels
from vgtool.models.adapter import Adapter
from vgtool.models.chat import conversation
from vgtool.models.checkpoint import Checkpoint, Placement, shape, split_qkv
from vgtool.models.inputs import Vision
from vgtool.records import Grid
from vgtool.registry import ModelSpec

TOWER = "model.vision_tower.vision_tower."
CLIP = f"{TOWER}vision_model."
PROJECTOR = "model.mm_projector.0.weight"
HEAD = 64
"""Width of an attention head in every CLIP and ViT-B tower."""
OPENAI_CLIP = ModelSpec(
    name="clip-vit-large-patch14-336",
    title="CLIP ViT-L/14 336",
    adapter="",
    hub="openai/clip-vit-large-patch14-336",
    size_gb=1.7,
)
"""The tower of checkpoints that leave it out (original LLaVA-1.5)."""
LANGUAGE_MODEL = {
    r"^model\.mm_projector\.0": "model.multi_modal_projector.linear_1",
    r"^model\.mm_projector\.2": "model.multi_modal_projector.linear_2",
    r"^model\.embed_tokens": "model.language_model.embed_tokens",
    r"^model\.layers": "model.language_model.layers",
    r"^model\.norm": "model.language_model.norm",
}
TIMM = {
    r"^model\.vision_tower\.vision_tower\.(visual\.)?(trunk\.)?": "model.vision_tower.",
    r"^model\.vision_tower\.cls_token": "model.vision_tower.embeddings.cls_token",
    r"^model\.vision_tower\.pos_embed": "model.vision_tower.embeddings.position_embeddings",
    r"^model\.vision_tower\.patch_embed\.proj": "model.vision_tower.embeddings.patch_embeddings.projection",
    r"^model\.vision_tower\.norm\.": "model.vision_tower.layernorm.",
    r"^model\.vision_tower\.blocks\.": "model.vision_tower.layers.",
    r"\.norm1\.": ".layernorm_before.",
    r"\.norm2\.": ".layernorm_after.",
    r"\.attn\.proj\.": ".attention.o_proj.",
}
"""A ViT as timm names it, which is how open_clip keeps BiomedCLIP's."""


@dataclass(kw_only=True)
class Original(Adapter):
    """LLaVA's own layout over Llama, Mistral or Qwen2."""

    side: int
    """Pixels a side of the square that reaches the model; 3 x the tower's under S2."""
    grid: Grid
    scales: int = 1
    aspect: str = "pad"

    placeholder = False
    alpha = "drop"
    penalises_prompt = False
    settings = Adapter.settings | {"aspect"}
    renames: ClassVar[Mapping[str, str]] = {
        r"^model\.vision_tower\.vision_tower": "model.vision_tower"
    } | LANGUAGE_MODEL

    @classmethod
    def open(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        config = checkpoint.config()
        kind = str(config.get("model_type")).removeprefix("llava").removeprefix("_") or "llama"
        text = parts.language(checkpoint, kind, config, "config.json")
        parts.ask(config.get("mm_vision_select_feature", "patch"), "patch", "mm_vision_select_feature", checkpoint)
        parts.ask(bool(config.get("mm_use_im_start_end")), False, "mm_use_im_start_end", checkpoint)
        aspect = checkpoint.spec.options.get("aspect") or config.get("image_aspect_ratio") or "square"
        parts.ask(aspect, ("pad", "square"), "image_aspect_ratio", checkpoint)
        tensors, tower_revision = _tower(checkpoint, checkpoint.tensors())
        vision, renames = _vision_config(checkpoint, tensors, cls.renames)
        scales = _scales(checkpoint, config, tensors, vision)
        layer = parts.layer(
            config.get("mm_vision_select_layer", -2), vision.num_hidden_layers, "mm_vision_select_layer", checkpoint
        )
        host = LlavaConfig(
            vision_config=vision,
            text_config=text,
            vision_feature_layer=[layer] * scales if scales > 1 else layer,
            vision_feature_select_strategy="default",
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        )
        tokenizer = checkpoint.tokenizer(native=False)
        words = conversation(checkpoint, tokenizer, None, config.get("eos_token_id"), strip="none")
        words["revision"] += tower_revision
        side = vision.image_size // vision.patch_size
        return cls(
            model=checkpoint.build(
                LlavaForConditionalGeneration,
                host,
                placement,
                tensors=split_qkv(tensors, ".attn.qkv.", [f".attention.{one}_proj." for one in "qkv"]),
                renames=renames,
                missing=(r"vision_tower\.pooler\.",),
                unexpected=(r"vision_tower\.head\.",),
            ),
            side=vision.image_size * scales,
            grid=Grid(side, side),
            scales=scales,
            aspect=aspect,
            longest=parts.longest(config, checkpoint),
            **words,
        )

    @property
    def image_length(self) -> int:
        return self.grid.tokens

    def prepare(self, image: Image.Image) -> Vision:
        width, height = image.size
        if self.aspect == "pad":
            seen = pixels.pad(image, self.side, pixels.CLIP_MEAN)
            geometry = Geometry.pad(width, height, self.side, self.grid)
        else:
            seen = pixels.crop(image, self.side)
            geometry = Geometry.crop(width, height, self.side, self.side, self.grid)
        return Vision({"pixel_values": pixels.normalised(seen, pixels.CLIP_MEAN, pixels.CLIP_STD)}, geometry)

    @property
    def one_tower_call(self) -> bool:
        return self.scales == 1

    def features(self, vision: Vision) -> Tensor:
        if self.scales == 1:
            return super().features(vision)
        values = self.placed(vision)["pixel_values"]
        maps = [self._scale(values, times) for times in range(1, self.scales + 1)]
        return self.model.model.multi_modal_projector(torch.cat(maps, 1).flatten(2)[0].T)

    def _scale(self, values: Tensor, times: int) -> Tensor:
        """The tower's map [1, C, rows, cols] of the image at `times` the tower's size, from times x times tiles."""
        model, config = self.model.model, self.model.config
        size, rows, cols = config.vision_config.image_size, self.grid.rows, self.grid.cols
        scaled = interpolate(values.float(), (size * times, size * times), mode="bicubic").to(values.dtype)
        tiles = scaled.reshape(3, times, size, times, size).permute(1, 3, 0, 2, 4).reshape(-1, 3, size, size)
        hidden = model.vision_tower(tiles, output_hidden_states=True).hidden_states
        states = hidden[config.vision_feature_layer[times - 1]][:, 1:]
        board = states.reshape(times, times, rows, cols, -1).permute(4, 0, 2, 1, 3)
        whole = board.reshape(1, -1, times * rows, times * cols)
        return interpolate(whole.float(), (rows, cols), mode="area").to(values.dtype)


def _tower(checkpoint: Checkpoint, tensors: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The weights with a vision tower among them, and what a borrowed tower adds to the revision."""
    if any(name.startswith(TOWER) for name in tensors):
        return tensors, ""
    named = str(checkpoint.config().get("mm_vision_tower", ""))
    if Path(named).name != OPENAI_CLIP.name:  # public configs hold paths of their authors' machines
        raise VgError(
            f"The checkpoint of '{checkpoint.spec.name}' has no vision tower and asks for '{named}'.",
            f"vgtool adds {OPENAI_CLIP.hub} only.",
        )
    folder, commit = hub.locate(OPENAI_CLIP, None, checkpoint.offline)
    clip = Checkpoint(folder, OPENAI_CLIP, commit or "")
    tower = {name: value for name, value in clip.tensors(prefix=TOWER).items() if name.startswith(CLIP)}
    return tensors | tower, f"+clip-{commit}"


def _vision_config(
    checkpoint: Checkpoint, tensors: Mapping[str, Any], renames: Mapping[str, str]
) -> tuple[Any, Mapping[str, str]]:
    """The tower's config, read off its weights, and the names it goes by."""
    sizes = {name: shape(value) for name, value in tensors.items() if name.startswith(TOWER)}

    def one(pattern: str) -> list[int]:
        found = [size for name, size in sizes.items() if re.search(pattern, name)]
        if not found:
            raise VgError(
                f"The checkpoint of '{checkpoint.spec.name}' lacks {pattern.strip('.$').replace(chr(92), '')} of its "
                "vision tower.",
                "It is damaged, or of another layout than its config says; nothing was loaded.",
            )
        return found[0]

    timm = any(re.search(r"\.blocks\.\d+\.", name) for name in sizes)
    embedding = r"patch_embed\.proj\.weight$" if timm else r"embeddings\.patch_embedding\.weight$"
    width, _, patch, _ = one(embedding)
    places = one(r"pos_embed$")[1] if timm else one(r"embeddings\.position_embedding\.weight$")[0]
    layers = {match[1] for name in sizes if (match := re.search(r"\.(?:blocks|layers)\.(\d+)\.", name))}
    fields = {
        "hidden_size": width,
        "intermediate_size": one(r"mlp\.fc1\.weight$")[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": max(width // HEAD, 1),
        "patch_size": patch,
        "image_size": round((places - 1) ** 0.5) * patch,
    }
    if timm:
        return checkpoint.configured(ViTConfig, fields, layer_norm_eps=1e-6), TIMM | LANGUAGE_MODEL
    return checkpoint.configured(CLIPVisionConfig, fields), renames


def _scales(checkpoint: Checkpoint, config: Mapping[str, Any], tensors: Mapping[str, Any], vision: Any) -> int:
    """How many scales the projector takes: 3 under S2, otherwise 1. The weights decide, the config may not object."""
    if PROJECTOR not in tensors:
        return 1  # which the loader then names as missing
    times, rest = divmod(shape(tensors[PROJECTOR])[1], vision.hidden_size)
    listed = str(config.get("s2_scales") or "")
    expected = ",".join(str(vision.image_size * n) for n in range(1, times + 1))
    if rest or times not in (1, 3) or (times > 1 and listed and listed.replace(" ", "") != expected):
        raise VgError(
            f"The projector of '{checkpoint.spec.name}' takes {shape(tensors[PROJECTOR])[1]} channels from a tower of "
            f"{vision.hidden_size}" + (f" at scales {listed}." if listed else "."),
            "vgtool knows one scale, or three (S2).",
        )
    if times == 1 and config.get("s2"):
        raise VgError(
            f"config.json of '{checkpoint.spec.name}' asks for S2, but the projector takes one scale.",
            "The folder mixes files of two models.",
        )
    return times
