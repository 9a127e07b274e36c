"""LLaVA as transformers has it, and in the original layout that HuatuoGPT-Vision, LLaVA-Med and others have."""

from pathlib import Path
from typing import Any

import torch
import transformers as tf
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from .files import Published, published, randomised, save, text_fields, write
from .tokens import LLAMA3_MARKS, QWEN_MARKS, byte_level, byte_tokenizer, converted, sentence_piece

CHAT = (
    "{% for m in messages %}USER: {% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}"
    "{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def tiny_llava(
    path: Path, *, pad: bool = True, size: int = 56, layers: int = 4, heads: int = 4, kv_heads: int = 2, seed: int = 0
) -> LlavaForConditionalGeneration:
    """Native LLaVA: CLIP tower (grid size/14), Llama text model, LlavaProcessor. Returns the model it saved."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer(["<image>"], bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = CHAT
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            patch_size=14,
            image_size=size,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8 * heads,
            intermediate_size=64,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(size // 14) ** 2,
    )
    model = LlavaForConditionalGeneration(config).eval()
    processor = LlavaProcessor(
        LlavaImageProcessorPil(
            do_pad=pad, size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_resize=True
        ),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return model


CLIP_TOWER = (
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("model.language_model.", "model."),
)
TIMM_TOWER = (
    ("model.vision_tower.embeddings.cls_token", "model.vision_tower.vision_tower.cls_token"),
    ("model.vision_tower.embeddings.position_embeddings", "model.vision_tower.vision_tower.pos_embed"),
    ("model.vision_tower.embeddings.patch_embeddings.projection.", "model.vision_tower.vision_tower.patch_embed.proj."),
    ("model.vision_tower.layernorm.", "model.vision_tower.vision_tower.norm."),
    ("model.vision_tower.layers.", "model.vision_tower.vision_tower.blocks."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.o_proj.", "attn.proj."),
    *CLIP_TOWER[1:],
)
LEGACY = (  # transformers 4: what llava-hf, InternVL -hf and Gemma 3 repositories hold
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
)
LEGACY_TOWER = (("model.vision_tower.", "vision_tower.vision_model."), *LEGACY)
MM = {
    "freeze_mm_mlp_adapter": False,
    "image_aspect_ratio": "pad",
    "mm_hidden_size": 128,
    "mm_patch_merge_type": "flat",
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.37.2",
    "tune_mm_mlp_adapter": False,
    "use_cache": True,
    "use_mm_proj": True,
}
VIT = dict(hidden_size=128, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2)


def original(
    folder: Path, kind: str, architecture: str, text: dict[str, Any], encode: Any, *, scales: int = 1,
    timm: bool = False, tower: bool = True, pickled: bool = False, shards: int = 2, **config: Any
) -> Published:  # fmt: skip
    """LLaVA's own layout. `tower` False: as LLaVA-1.5, whose tower stands in another repository."""
    configs = {"llava_qwen2": tf.Qwen2Config, "llava_mistral": tf.MistralConfig, "llava_llama": LlamaConfig}
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]}}
    native |= {name: value for name, value in text.items() if name != "rope_theta"}
    vision = tf.ViTConfig(**VIT, patch_size=16, image_size=96, layer_norm_eps=1e-6) if timm else tf.CLIPVisionConfig(
        **VIT, patch_size=14, image_size=84
    )  # fmt: skip
    host = LlavaConfig(
        vision_config=vision,
        text_config=configs[kind](**native),
        vision_feature_layer=[-2] * scales if scales > 1 else -2,
        vision_feature_select_strategy="default",
    )
    twin = randomised(LlavaForConditionalGeneration(host))
    tensors = published(twin, TIMM_TOWER if timm else CLIP_TOWER, ".attn" if timm else "")
    tensors = {name: value for name, value in tensors.items() if ".pooler." not in name}  # timm's ViT has none
    if not timm:  # buffers that such files carry
        tensors["model.vision_tower.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(37)[None]
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    if not tower:
        lacking = {n for n in tensors if n.startswith("model.vision_tower.")}
        clip = {n.removeprefix("model.vision_tower.vision_tower."): tensors.pop(n) for n in lacking}
        save(folder.parent / "clip", {**clip, "logit_scale": torch.ones(())}, shards=1, pickled=True)
        write(folder.parent / "clip" / "config.json", {"model_type": "clip"})
    save(folder, tensors, shards=shards, pickled=pickled)
    if pickled:
        projector = {n: v for n, v in tensors.items() if "mm_projector" in n}
        torch.save(projector, folder / "mm_projector.bin")  # beside the shards, and listed nowhere
    write(folder / "config.json", {"architectures": [architecture], "model_type": kind, **MM, **text, **config})
    write(folder / "generation_config.json", {"_from_model_config": True, "transformers_version": "4.37.2"})
    return Published(folder, twin, encode, text["num_hidden_layers"], text["num_attention_heads"])


def huatuo_7b(folder: Path) -> Published:
    encode, vocabulary = byte_level(
        folder, QWEN_MARKS, kind="Qwen2Tokenizer", eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        add_prefix_space=False, errors="replace", split_special_tokens=False,
    )  # fmt: skip
    text = text_fields(
        len(vocabulary), 28, 28, 4, rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False,
        sliding_window=131072, max_window_layers=28, eos_token_id=vocabulary["<|endoftext|>"],
    )  # fmt: skip
    made = original(
        folder, "llava_qwen2", "LlavaQwen2ForCausalLM", text, encode, image_aspect_ratio="square",
        mm_vision_tower="./vit/clip_vit_large_patch14_336",
    )  # fmt: skip
    write(folder / "vit" / "clip_vit_large_patch14_336" / "preprocessor_config.json", {"do_center_crop": True})
    return made


def huatuo_34b(folder: Path, *, prepends: bool = True, **kind: Any) -> Published:
    encode, vocabulary = sentence_piece(folder, ("<|im_start|>", "<|im_end|>"), **kind)
    converted(folder, prepends=prepends)
    text = text_fields(
        len(vocabulary), 60, 56, 8, rope_theta=5000000.0, rms_norm_eps=1e-6, bos_token_id=1, eos_token_id=2,
        pad_token_id=0, pretraining_tp=1, rope_scaling=None, attention_bias=False,
    )  # fmt: skip
    return original(folder, "llava_llama", "LlavaLlamaForCausalLM", text, encode, shards=3)


def huatuo_bio(folder: Path) -> Published:
    encode, vocabulary = byte_level(folder, QWEN_MARKS, kind="Qwen2Tokenizer", eos_token="<|endoftext|>")
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False)
    return original(
        folder, "llava_qwen2", "LlavaQwen2ForCausalLM", text, encode, timm=True,
        mm_vision_tower="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    )  # fmt: skip


def llava_med(folder: Path, **kind: Any) -> Published:
    encode, vocabulary = sentence_piece(folder, **kind)
    text = text_fields(
        len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-5, sliding_window=None, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    return original(folder, "llava_mistral", "LlavaMistralForCausalLM", text, encode)


def llava_tri(folder: Path) -> Published:
    encode, vocabulary = byte_level(folder, LLAMA3_MARKS, bos="<|begin_of_text|>", eos_token="<|end_of_text|>")
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=500000.0, rms_norm_eps=1e-5, rope_scaling=None)
    return original(
        folder, "llava_llama", "LlavaLlamaForCausalLM", text, encode, scales=3, s2=True, s2_scales="84,168,252"
    )


def llava_original(folder: Path, **kind: Any) -> Published:
    encode, vocabulary = sentence_piece(folder, **kind)
    text = text_fields(len(vocabulary), 4, 4, 4, rope_theta=10000.0, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
    return original(folder, "llava_llama", "LlavaLlamaForCausalLM", text, encode, tower=False, pickled=True)


def llava_hf(folder: Path) -> Published:
    encode, vocabulary = sentence_piece(folder, (), ("<image>", "<pad>"), pad_token="<pad>")
    converted(folder)
    text = text_fields(len(vocabulary), 4, 4, 4, rope_theta=10000.0, rms_norm_eps=1e-5)
    fields = {
        "image_token_index": vocabulary["<image>"], "vision_feature_layer": -2, "projector_hidden_act": "gelu",
        "vision_feature_select_strategy": "default", "ignore_index": -100, "pad_token_id": vocabulary["<pad>"],
        "text_config": {"model_type": "llama", **text},
        "vision_config": {"model_type": "clip_vision_model", **VIT, "patch_size": 14, "image_size": 84,
                          "projection_dim": 768, "vocab_size": 32000},
    }  # fmt: skip
    twin = randomised(LlavaForConditionalGeneration(LlavaConfig.from_dict(fields)))
    save(folder, published(twin, LEGACY_TOWER), shards=3)
    write(folder / "config.json", {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], **fields})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor", "do_center_crop": True, "crop_size": {"height": 84, "width": 84},
        "size": {"shortest_edge": 84}, "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 3,
        "do_convert_rgb": True, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)
