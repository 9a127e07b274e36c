"""Qwen-VL of three generations, and MedGemma."""

from pathlib import Path
from typing import Any

import transformers as tf

from .files import Published, published, randomised, save, text_fields, write
from .internvl import CHATML
from .llava import LEGACY_TOWER
from .tokens import QWEN_MARKS, byte_level, gemma_like

QWEN25 = (("model.language_model.", "model."), ("model.visual.", "visual."))


def qwen(folder: Path, *, kind: str) -> Published:
    """Qwen2-VL and Qwen2.5-VL in their flat config.json and first key layout, Qwen3-VL in its nested one."""
    third = kind == "qwen3_vl"
    marks = [*QWEN_MARKS, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    assistant = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    system = "" if third else f"{{% if messages[0].role != 'system' %}}{assistant}{{% endif %}}"
    chat = system + CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    encode, ids = byte_level(
        folder, marks, kind="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=chat
    )
    write(folder / "chat_template.json", {"chat_template": chat})
    text = text_fields(len(ids), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6)
    text |= {"hidden_size": 32, "eos_token_id": ids["<|im_end|>"]}
    common = {
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"], "vision_end_token_id": ids["<|vision_end|>"],
    }  # fmt: skip
    vision: dict[str, Any] = dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=32,
                                  spatial_merge_size=2, temporal_patch_size=2, in_channels=3)  # fmt: skip
    if third:
        vision |= dict(patch_size=16, num_position_embeddings=64, deepstack_visual_indexes=[0, 1])
        rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        fields = {"text_config": {"model_type": "qwen3_vl_text", **text, "head_dim": 8, "rope_scaling": rope}, **common}
        config: Any = tf.Qwen3VLConfig.from_dict({**fields, "vision_config": vision})
        twin = randomised(tf.Qwen3VLForConditionalGeneration(config))
        save(folder, published(twin, ()))
        patch, budget = 16, {"size": {"shortest_edge": 65536, "longest_edge": 16777216}}
        processor = "Qwen2VLImageProcessorFast"
    else:
        vision |= dict(patch_size=14)
        if kind == "qwen2_vl":  # names its widths otherwise
            vision |= {"embed_dim": 32, "mlp_ratio": 2, "spatial_patch_size": 14, "in_chans": 3}
            for other in ("intermediate_size", "out_hidden_size"):
                del vision[other]
        else:
            vision |= dict(window_size=112, fullatt_block_indexes=[1])
        fields = {**text, **common, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
        fields |= {"use_sliding_window": False, "sliding_window": 32768, "max_window_layers": 28}
        second = kind == "qwen2_vl"
        config = (tf.Qwen2VLConfig if second else tf.Qwen2_5_VLConfig).from_dict({**fields, "vision_config": vision})
        host = tf.Qwen2VLForConditionalGeneration if second else tf.Qwen2_5_VLForConditionalGeneration
        twin = randomised(host(config))
        save(folder, published(twin, QWEN25))
        patch, budget = 14, {"min_pixels": 3136, "max_pixels": 12845056}
        processor = "Qwen2VLImageProcessor"
    write(folder / "config.json", {"model_type": kind, **fields, "vision_config": vision})
    write(folder / "generation_config.json", {"repetition_penalty": 1.05, "eos_token_id": [ids["<|im_end|>"]]})
    mean = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    sizes = {"patch_size": patch, "temporal_patch_size": 2, "merge_size": 2}
    write(folder / "preprocessor_config.json", {"image_processor_type": processor, **budget, **sizes, **mean})
    return Published(folder, twin, encode, 4, 4)


GEMMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<start_of_image>{% else %}{{ c.text | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def medgemma(folder: Path) -> Published:
    marks = [
        "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
        "<image_soft_token>",
    ]  # fmt: skip
    encode, ids = gemma_like(
        folder, marks, eos_token="<eos>", pad_token="<pad>", boi_token="<start_of_image>",
        eoi_token="<end_of_image>", image_token="<image_soft_token>",
    )  # fmt: skip
    (folder / "chat_template.jinja").write_text(GEMMA_CHAT, encoding="utf-8")
    text = text_fields(
        len(ids), 6, 4, 2, rms_norm_eps=1e-6, head_dim=8, sliding_window=1024, query_pre_attn_scalar=8,
        rope_theta=1000000.0, rope_local_base_freq=10000.0,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
    )  # fmt: skip
    del text["tie_word_embeddings"], text["hidden_act"]
    text["hidden_activation"] = "gelu_pytorch_tanh"
    fields = {
        "boi_token_index": ids["<start_of_image>"], "eoi_token_index": ids["<end_of_image>"],
        "image_token_index": ids["<image_soft_token>"], "mm_tokens_per_image": 16,
        "eos_token_id": [ids["<eos>"], ids["<end_of_turn>"]],
        "text_config": {"model_type": "gemma3_text", **text},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48,
                          "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 112, "patch_size": 7,
                          "vision_use_head": False},
    }  # fmt: skip
    twin = randomised(tf.Gemma3ForConditionalGeneration(tf.Gemma3Config.from_dict(fields)))
    tensors = published(twin, LEGACY_TOWER)
    tensors.pop("language_model.lm_head.weight")  # tied
    save(folder, tensors)
    write(folder / "config.json", {"model_type": "gemma3", **fields})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "Gemma3ImageProcessor", "processor_class": "Gemma3Processor", "image_seq_length": 16,
        "size": {"height": 112, "width": 112}, "resample": 2, "do_pan_and_scan": None, "do_convert_rgb": None,
        "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })  # fmt: skip
    return Published(folder, twin, encode, 6, 4)
