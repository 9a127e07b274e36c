"""Tiny random checkpoints in layouts of repositories outside transformers, beside those of `checkpoints`."""

import json
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
    qwen25,
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
    own: dict[str, Any]
    if kind == "internlm2":
        remote = {"auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]}}
        added = ("<|im_start|>", "<|im_end|>", *INTERN_MARKS)
        own = {"tokenizer_class": "InternLM2Tokenizer", "additional_special_tokens": [*added], **remote}
        encode, vocabulary = sentence_piece(folder, (), added, **own)
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
        own = {"use_sliding_window": False, "sliding_window": None, "max_window_layers": 28}
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


def hulu(folder: Path, kind: str = "qwen2", **config: Any) -> Published:
    """Hulu-Med as the hub has it: its config.json holds the vision encoder's; model_type says qwen2 over Qwen3 too."""
    encode, vocabulary = byte_level(
        folder, [*QWEN_MARKS, "<image>", "<think>", "</think>"], kind="Qwen2Tokenizer", eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )  # fmt: skip
    text = text_fields(
        len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6, eos_token_id=vocabulary["<|im_end|>"]
    )
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}
    native |= {name: value for name, value in text.items() if name != "rope_theta"}
    own: dict[str, Any] = {"head_dim": 8, "attention_bias": False} if kind == "qwen3" else {"use_sliding_window": False}
    vision = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=14,
                  hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6, num_channels=3)  # fmt: skip
    host = tf.VideoLlama3Config(
        vision_config=tf.VideoLlama3VisionConfig(**vision),
        text_config=(tf.Qwen3Config if kind == "qwen3" else tf.Qwen2Config)(**native, **own),
        image_token_id=vocabulary["<image>"], tie_word_embeddings=False,
    )  # fmt: skip
    twin = randomised(tf.VideoLlama3ForConditionalGeneration(host))
    save(folder, published(twin, (
        ("model.language_model.", "model."), ("model.vision_model.", "model.vision_encoder."),
        ("model.projector.", "model.mm_projector."),
    )))  # fmt: skip
    remote = {"AutoConfig": "configuration_hulumed_qwen2.HulumedQwen2Config", "AutoModelForCausalLM": "modeling_x.M"}
    write(folder / "config.json", {
        "architectures": ["HulumedQwen2ForCausalLM"], "auto_map": remote, "model_type": "hulumed_qwen2", **text, **own,
        "vision_encoder_config": {"model_type": "hulumed_vision_encoder", **vision}, "mm_projector_type": "mlp2x_gelu",
        "use_token_compression": True, "image_token_index": vocabulary["<image>"], **config,
    })  # fmt: skip
    write(folder / "preprocessor_config.json", {
        "auto_map": {"AutoImageProcessor": "image_processing_hulumed.HulumedImageProcessor"}, "do_convert_rgb": True,
        "image_processor_type": "HulumedImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "min_tokens": 16, "max_tokens": 16384, "patch_size": 14, "resample": 3, "do_resize": True,
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)


def citrus(folder: Path, *, older: bool = False) -> Published:
    """Citrus-V: a Qwen2.5-VL under `mllm.` beside parts that segment. `older`: in the key names that transformers gave
    a Qwen2.5-VL before 4.52, and with a nested text_config."""
    made = qwen25(folder)
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    table = (("model.language_model.", "model."), ("model.visual.", "visual.")) if older else ()
    tensors = {f"mllm.{name}": value for name, value in published(made.twin, table).items()}
    tensors["seg_projector.0.weight"] = torch.ones(4, 4)
    tensors["grounding_encoder.sam2_model.memory_encoder.weight"] = torch.ones(3)
    save(folder, tensors)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "citrus_v", "architectures": ["CitrusV"], "seg_token_idx": 7, "use_seg_loss": True,
               "frozen_sam2_decoder": False, "loss_mask_config": {"reduction": "mean"}, "loss_dice_config": {},
               "grounding_encoder_config": {"cfg_path": "/home/somebody/sam2_hiera_l.yaml"}}  # fmt: skip
    if older:
        text = {*text_fields(9, 4, 4, 2), "rope_theta", "rope_scaling", "rms_norm_eps", "eos_token_id"}
        config["text_config"] = {"model_type": "qwen2_5_vl_text", **{name: config[name] for name in sorted(text)}}
    write(folder / "config.json", config)
    return made
