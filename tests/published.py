"""Tiny random checkpoints in layouts of repositories outside transformers, beside those of `checkpoints`."""

from pathlib import Path
from typing import Any

import torch
import transformers as tf
from torch import Tensor

from tests.checkpoints import (
    INTERN_CHAT,
    QWEN_MARKS,
    Published,
    byte_level,
    published,
    randomised,
    save,
    sentence_piece,
    text_fields,
    write,
)

INTERN_MARKS = (
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>",
)  # fmt: skip
ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "internlm2": "InternLM2ForCausalLM"}


def intern_chat(folder: Path, kind: str = "qwen2", *, lora: int = 0, tied: bool = False, **config: Any) -> Published:
    """InternVL 2 to 3.5 as its own repository saves it, over Qwen2, Qwen3 or InternLM2. `lora`: rank of a LoRA left
    unmerged in the language model, as fine-tuning scripts of that repository leave it."""
    if kind == "internlm2":
        remote = {"auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}}
        encode, vocabulary = sentence_piece(
            folder, (), ("<|im_start|>", "<|im_end|>", *INTERN_MARKS), tokenizer_class="InternLM2Tokenizer", **remote
        )
    else:
        encode, vocabulary = byte_level(
            folder, [*QWEN_MARKS, *INTERN_MARKS], kind="Qwen2Tokenizer", eos_token="<|im_end|>",
            pad_token="<|endoftext|>", add_prefix_space=False, errors="replace", split_special_tokens=False,
        )  # fmt: skip
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6, tie_word_embeddings=tied)
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}
    native |= {name: value for name, value in text.items() if name != "rope_theta"}
    vision = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, layer_norm_eps=1e-6)
    if kind == "qwen2":
        own: dict[str, Any] = {"use_sliding_window": False, "sliding_window": None, "max_window_layers": 28}
        language: Any = tf.Qwen2Config(**native, **own)
    elif kind == "qwen3":
        own = {"head_dim": 8, "attention_bias": False}
        language = tf.Qwen3Config(**native, **own)
    else:
        own = {"bias": False, "rope_scaling": {"factor": 2.0, "type": "dynamic"}}
        language = tf.LlamaConfig(**native)
    host = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(
            **vision, use_qk_norm=False, norm_type="layer_norm", attention_bias=True, image_size=56, patch_size=14
        ),
        text_config=language, image_token_id=vocabulary["<IMG_CONTEXT>"], vision_feature_layer=-1,
        tie_word_embeddings=tied,
    )  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(host))
    tensors = published(twin, INTERN_CHAT, ".attn")
    tensors = internlm2(tensors, 2) if kind == "internlm2" else with_lora(tensors, lora) if lora else tensors
    if tied:
        tensors.pop("language_model.lm_head.weight")
    save(folder, tensors)
    write(folder / "config.json", {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat", "downsample_ratio": 0.5,
        "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig", "AutoModel": "modeling_x.Model"},
        "dynamic_image_size": True, "force_image_size": 56, "max_dynamic_patch": 12, "min_dynamic_patch": 1,
        "pad2square": False, "ps_version": "v2", "select_layer": -1, "template": "internvl2_5", "use_thumbnail": True,
        "use_backbone_lora": 0, "use_llm_lora": lora,
        "llm_config": {"architectures": [ARCHITECTURES[kind]], "model_type": kind, "top_k": 50, **text, **own},
        "vision_config": {"architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "patch_size": 14,
                          "image_size": 56, "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm",
                          **vision},
        **config,
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)


def internlm2(tensors: dict[str, Tensor], groups: int) -> dict[str, Tensor]:
    """Llama's weights under InternLM2's names; `groups`: key heads, four channels wide."""
    names = (
        (".model.embed_tokens.", ".model.tok_embeddings."), ("language_model.lm_head.", "language_model.output."),
        (".self_attn.o_proj.", ".attention.wo."), (".mlp.gate_proj.", ".feed_forward.w1."),
        (".mlp.down_proj.", ".feed_forward.w2."), (".mlp.up_proj.", ".feed_forward.w3."),
        (".input_layernorm.", ".attention_norm."), (".post_attention_layernorm.", ".ffn_norm."),
    )  # fmt: skip
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for llama, intern in names if name.startswith("language_model.") else ():
            name = name.replace(llama, intern)
        if ".self_attn.q_proj." in name:
            stem = name.partition(".self_attn.")[0]
            keys, values = (tensors[f"{stem}.self_attn.{one}_proj.weight"] for one in "kv")
            each = len(value) // groups
            blocks = []
            for group in range(groups):
                width = len(keys) // groups
                blocks += [value[group * each : (group + 1) * each]]
                blocks += [one[group * width : (group + 1) * width] for one in (keys, values)]
            out[f"{stem}.attention.wqkv.weight"] = torch.cat(blocks)
        elif ".self_attn." not in name:
            out[name] = value
    return out


def with_lora(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The same language model with part of its weights in a LoRA of alpha 2 r, wrapped as peft wraps it."""
    generator, out = torch.Generator().manual_seed(3), {}
    for name, value in tensors.items():
        if not name.startswith("language_model."):
            out[name] = value
            continue
        name = name.replace("language_model.", "language_model.base_model.model.", 1)
        stem = name.removesuffix(".weight")
        if ".self_attn." in name or ".mlp." in name:
            if name.endswith(".bias"):
                out[f"{name.removesuffix('.bias')}.base_layer.bias"] = value
                continue
            low = torch.randn(rank, value.shape[1], generator=generator)
            high = torch.randn(value.shape[0], rank, generator=generator)
            out[f"{stem}.base_layer.weight"] = value - 2 * (high @ low)
            out[f"{stem}.lora_A.default.weight"], out[f"{stem}.lora_B.default.weight"] = low, high
        else:
            out[name] = value
    return out
