"""Tiny random multimodal models, one per text family, behind the plainest adapter there is.

The engine's and the session's tests run on these: the adapter feeds placeholder ids and pixels to the model as its own
processor would, so every reference can be a plain forward pass of the untouched model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf

from vgtool.grounding.geometry import Geometry
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Inputs, Vision
from vgtool.records import Grid
from vgtool.registry import ModelSpec

IMAGE_ID = 7
VOCABULARY = 199
TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=512,
)
CLIP = dict(
    hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=48, patch_size=8
)
SPEC = ModelSpec(name="zoo", title="zoo", adapter="zoo")
FAMILIES = (
    "llama",
    "llama-mha",
    "mistral-window",
    "qwen2",
    "granite",
    "qwen2.5-vl",
    "qwen3-vl",
    "gemma3",
    "gemma3-window",
    "internvl",
)


@dataclass(kw_only=True)
class ZooAdapter(Adapter):
    """Feeds a prompt as input ids with placeholders, exactly as the model's processor would."""

    extra: dict[str, Any] = field(default_factory=dict)

    embeds = False

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        ids, columns = list(head), []
        for vision in visions:
            columns.append(torch.arange(len(ids), len(ids) + vision.tokens))
            ids += [IMAGE_ID] * vision.tokens
        ids += list(tail)
        kwargs: dict[str, Any] = {"input_ids": torch.tensor([ids])}
        for name in visions[0].tensors if visions else ():
            kwargs[name] = torch.cat([vision.tensors[name] for vision in visions])
        positions = torch.arange(len(ids))[None]
        is_image = (kwargs["input_ids"] == IMAGE_ID).long()
        if "image_grid_thw" in kwargs:
            kwargs["mm_token_type_ids"] = is_image
            positions, _ = self.model.model.get_rope_index(
                kwargs["input_ids"], mm_token_type_ids=is_image, image_grid_thw=kwargs["image_grid_thw"]
            )
        if self.extra.get("types"):  # Gemma3: images are bidirectional blocks; PaliGemma: the whole prompt is one
            kwargs["token_type_ids"] = is_image if self.extra["types"] is True else torch.zeros_like(is_image)
        kwargs["position_ids"] = positions
        empty = torch.empty(0, dtype=torch.long)
        following = int(positions.max()) + 1
        return Inputs(kwargs, len(ids), tuple(columns), (empty,) * len(columns), following)

    def answered(self, kwargs: Any, made: int) -> Any:
        """An answer of PaliGemma is of the other token type, and causal."""
        if self.extra.get("types") != "prefix" or not made:
            return kwargs
        kinds = kwargs["token_type_ids"].clone()
        kinds[:, kinds.shape[1] - made :] = 1
        return {**kwargs, "token_type_ids": kinds}

    def positions(self, rope: torch.Tensor) -> torch.Tensor:
        return rope[None].expand(3, -1, -1) if "mrope" in self.extra else rope


def family(name: str, seed: int = 0) -> ZooAdapter:
    """A random model of one family, float32, eval mode."""
    torch.manual_seed(seed)
    model, extra = _build(name)
    model.eval()
    for parameter in model.parameters():  # larger than the usual 0.02, so that attention is far from uniform
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return ZooAdapter(model=model, tokenizer=None, spec=SPEC, template="", eos=frozenset({2}), extra=extra)


def vision(adapter: ZooAdapter, seed: int = 0, rows: int = 6, cols: int = 6) -> Vision:
    """A random image for `adapter`; only the Qwen families look at `rows` and `cols`."""
    generator = torch.Generator().manual_seed(seed)
    kind = adapter.extra.get("pixels", "square")
    if kind == "qwen":
        grid = Grid(rows, cols)
        patches = grid.tokens * 4
        width = 3 * 2 * adapter.extra["patch"] ** 2
        tensors = {
            "pixel_values": torch.randn(patches, width, generator=generator),
            "image_grid_thw": torch.tensor([[1, rows * 2, cols * 2]]),
        }
    else:
        grid = Grid(*adapter.extra["grid"])
        tensors = {"pixel_values": torch.randn(1, 3, 48, 48, generator=generator)}
    return Vision(tensors, Geometry.squash(48, 48, 48, 48, grid))


def tails(seed: int, *sizes: int) -> list[tuple[int, ...]]:
    """Random prompt tails of the given lengths, without special ids."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(20, VOCABULARY, (size,), generator=generator).tolist()) for size in sizes]


def head(seed: int = 0, size: int = 5) -> tuple[int, ...]:
    return (1, *tails(seed + 1000, size)[0])


def _build(name: str) -> tuple[Any, dict[str, Any]]:
    if name in ("llama", "llama-mha", "mistral-window", "qwen2", "granite"):
        text = dict(TEXT, num_key_value_heads=4 if name == "llama-mha" else 2)
        if name == "mistral-window":
            text["sliding_window"] = 12  # shorter than the image: most of the prefix is out of sight
        kinds = {"mistral-window": tf.MistralConfig, "qwen2": tf.Qwen2Config, "granite": tf.GraniteConfig}
        kind = kinds.get(name, tf.LlamaConfig)
        if name in ("qwen2", "granite"):
            text.pop("head_dim")
        if name == "granite":  # scales whatever embeddings it is given
            text |= {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 0.25}
        config = tf.LlavaConfig(
            vision_config=tf.CLIPVisionConfig(**CLIP),
            text_config=kind(**text),
            image_token_index=IMAGE_ID,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        )
        return tf.LlavaForConditionalGeneration(config), {"grid": (6, 6)}
    if name == "qwen2.5-vl":
        config = tf.Qwen2_5_VLConfig(
            text_config=dict(
                {k: v for k, v in TEXT.items() if k != "head_dim"},
                rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
            ),
            vision_config=dict(
                depth=2, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4, out_hidden_size=32,
                spatial_merge_size=2, temporal_patch_size=2, window_size=16, fullatt_block_indexes=[1],
            ),
            image_token_id=IMAGE_ID, video_token_id=8, vision_start_token_id=9, vision_end_token_id=10,
        )  # fmt: skip
        return tf.Qwen2_5_VLForConditionalGeneration(config), {"pixels": "qwen", "patch": 4, "mrope": True}
    if name == "qwen3-vl":
        config = tf.Qwen3VLConfig(
            text_config=dict(
                TEXT, rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
            ),
            vision_config=dict(
                depth=3, hidden_size=16, intermediate_size=16, num_heads=2, patch_size=4, out_hidden_size=32,
                spatial_merge_size=2, temporal_patch_size=2, deepstack_visual_indexes=[0, 1],
                num_position_embeddings=64,
            ),
            image_token_id=IMAGE_ID, video_token_id=8, vision_start_token_id=9, vision_end_token_id=10,
        )  # fmt: skip
        return tf.Qwen3VLForConditionalGeneration(config), {"pixels": "qwen", "patch": 4, "mrope": True}
    if name in ("gemma3", "gemma3-window"):
        window = 12 if name == "gemma3-window" else 256
        config = tf.Gemma3Config(
            text_config=dict(
                TEXT, sliding_window=window, query_pre_attn_scalar=8,
                layer_types=["sliding_attention", "full_attention"] * 2,
            ),
            vision_config=dict(CLIP),
            mm_tokens_per_image=9, image_token_index=IMAGE_ID, boi_token_index=9, eoi_token_index=10,
        )  # fmt: skip
        return tf.Gemma3ForConditionalGeneration(config), {"grid": (3, 3), "types": True}
    if name == "internvl":
        config = tf.InternVLConfig(
            text_config=tf.Qwen2Config(**{k: v for k, v in TEXT.items() if k != "head_dim"}),
            vision_config=dict(
                hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                image_size=[48, 48], patch_size=[4, 4],
            ),
            image_token_id=IMAGE_ID, downsample_ratio=0.5, vision_feature_layer=-1,
        )  # fmt: skip
        return tf.InternVLForConditionalGeneration(config), {"grid": (6, 6)}
    if name == "paligemma":
        config = tf.PaliGemmaConfig(
            text_config=tf.GemmaConfig(**TEXT),
            vision_config=tf.SiglipVisionConfig(**CLIP),
            image_token_index=IMAGE_ID, projection_dim=32,
        )  # fmt: skip
        return tf.PaliGemmaForConditionalGeneration(config), {"grid": (6, 6), "types": "prefix"}
    raise ValueError(name)
