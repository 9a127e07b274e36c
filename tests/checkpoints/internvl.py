"""InternVL and relatives: VILA in three folders, MedRegA in InternVL's own layout, InternVL3 as transformers has it."""

from pathlib import Path
from typing import Any

import transformers as tf
from transformers import LlamaConfig

from .files import Published, published, randomised, save, text_fields, write
from .llava import LEGACY
from .tokens import LLAMA3_MARKS, QWEN_MARKS, byte_level, sentence_piece

VILA = (
    ("model.language_model.", "llm/model."),
    ("lm_head.", "llm/lm_head."),
    ("model.vision_tower.", "vision_tower/vision_model."),
    ("model.multi_modal_projector.layer_norm.", "mm_projector/layers.1."),
    ("model.multi_modal_projector.linear_1.", "mm_projector/layers.2."),
    ("model.multi_modal_projector.linear_2.", "mm_projector/layers.4."),
)
INTERN_CHAT = (
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.multi_modal_projector.layer_norm.", "mlp1.0."),
    ("model.multi_modal_projector.linear_1.", "mlp1.1."),
    ("model.multi_modal_projector.linear_2.", "mlp1.3."),
    ("model.vision_tower.embeddings.cls_token", "vision_model.embeddings.class_embedding"),
    ("model.vision_tower.embeddings.patch_embeddings.projection.", "vision_model.embeddings.patch_embedding."),
    ("model.vision_tower.embeddings.position_embeddings", "vision_model.embeddings.position_embedding"),
    ("model.vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("lambda_1", "ls1"),
    ("lambda_2", "ls2"),
    ("attention.projection_layer.", "attn.proj."),
    ("attention.q_norm.", "attn.q_norm."),
    ("attention.k_norm.", "attn.k_norm."),
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}IMAGE"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vila(folder: Path, *, sentence: bool, **kind: Any) -> Published:
    """VILA's three folders. `sentence`: the 13B kind (Vicuna); otherwise the 8B kind (Llama 3)."""
    if sentence:
        encode, vocabulary = sentence_piece(folder / "llm", **kind)
        text = text_fields(len(vocabulary), 4, 4, 4, rope_theta=10000.0, rms_norm_eps=1e-5, eos_token_id=2)
    else:
        encode, vocabulary = byte_level(
            folder / "llm", LLAMA3_MARKS, bos="<|begin_of_text|>", eos_token="<|end_of_text|>"
        )
        text = text_fields(
            len(vocabulary), 4, 4, 2, rope_theta=500000.0, rms_norm_eps=1e-5,
            eos_token_id=vocabulary["<|end_of_text|>"],
        )  # fmt: skip
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=104,
                  patch_size=14, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)  # fmt: skip
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]}}
    host = tf.InternVLConfig(
        vision_config=tf.SiglipVisionConfig(**vision),
        text_config=LlamaConfig(**native, **{k: v for k, v in text.items() if k != "rope_theta"}),
        downsample_ratio=0.5, vision_feature_layer=-2, vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(host))
    tensors = published(twin, VILA)
    for part, shards in (("llm", 2), ("vision_tower", 1), ("mm_projector", 1)):
        own = {n.removeprefix(f"{part}/"): v for n, v in tensors.items() if n.startswith(f"{part}/")}
        save(folder / part, own, shards=shards)
    write(folder / "llm" / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **text})
    write(folder / "llm" / "generation_config.json", {"eos_token_id": text["eos_token_id"], "temperature": 0.6})
    write(folder / "vision_tower" / "config.json", {"model_type": "siglip_vision_model", **vision})
    write(
        folder / "mm_projector" / "config.json", {"model_type": "v2l_projector", "mm_projector_type": "mlp_downsample"}
    )
    root = {"architectures": ["LlavaLlamaModel"], "model_type": "llava_llama", "image_aspect_ratio": "resize",
            "mm_vision_select_layer": -2, "mm_vision_select_feature": "cls_patch", "num_video_frames": 8}  # fmt: skip
    write(folder / "config.json", {**root, "llm_cfg": {}, "vision_tower_cfg": {}, "mm_projector_cfg": {}})
    return Published(folder, twin, encode, 4, 4)


def medrega(folder: Path, **kind: Any) -> Published:
    added = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
    encode, vocabulary = sentence_piece(folder, ("<|im_start|>", "<|im_end|>"), added, add_bos_token=False, **kind)
    text = text_fields(
        len(vocabulary), 4, 4, 2, rope_theta=5000000.0, rms_norm_eps=1e-5, bos_token_id=1,
        eos_token_id=vocabulary["<|im_end|>"],
    )  # fmt: skip
    vision = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=64, layer_norm_eps=1e-6)
    native = {"rope_parameters": {"rope_type": "default", "rope_theta": text["rope_theta"]}}
    host = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(
            **vision, use_qk_norm=True, norm_type="rms_norm", attention_bias=False, image_size=112, patch_size=14
        ),
        text_config=LlamaConfig(**native, **{k: v for k, v in text.items() if k != "rope_theta"}),
        image_token_id=vocabulary["<IMG_CONTEXT>"], vision_feature_layer=-1, tie_word_embeddings=False,
    )  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(host))
    save(folder, published(twin, INTERN_CHAT, ".attn"))
    remote = {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig", "AutoModel": "modeling_chat.Model"}
    write(folder / "config.json", {
        "architectures": ["InternVLChatModel"], "auto_map": remote, "model_type": "internvl_chat",
        "downsample_ratio": 0.5, "dynamic_image_size": False, "force_image_size": 112, "select_layer": -1,
        "template": "Hermes-2", "use_backbone_lora": 0, "pad2square": False,
        "llm_config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "top_k": 50, **text},
        "vision_config": {"model_type": "intern_vit_6b", "qkv_bias": False, "qk_normalization": True,
                          "norm_type": "rms_norm", "patch_size": 14, "image_size": 112, **vision},
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)


def internvl3(folder: Path) -> Published:
    marks = [*QWEN_MARKS, "<IMG_CONTEXT>", "<img>", "</img>", "<video>"]
    extra = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    encode, vocabulary = byte_level(
        folder, marks, kind="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={**extra, "video_token": "<video>"},
    )  # fmt: skip
    (folder / "chat_template.jinja").write_text(CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"), encoding="utf-8")
    text = text_fields(len(vocabulary), 4, 4, 2, rope_theta=1000000.0, rms_norm_eps=1e-6, use_sliding_window=False)
    vision = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=[56, 56],
                  patch_size=[14, 14], attention_bias=True)  # fmt: skip
    fields = {
        "image_token_id": vocabulary["<IMG_CONTEXT>"], "downsample_ratio": 0.5, "image_seq_length": 4,
        "vision_feature_layer": -1, "vision_feature_select_strategy": "default", "tie_word_embeddings": False,
        "text_config": {"model_type": "qwen2", **text}, "vision_config": {"model_type": "internvl_vision", **vision},
    }  # fmt: skip
    twin = randomised(tf.InternVLForConditionalGeneration(tf.InternVLConfig.from_dict(fields)))
    save(folder, published(twin, LEGACY))
    write(folder / "config.json", {"model_type": "internvl", **fields})
    write(folder / "preprocessor_config.json", {
        "image_processor_type": "GotOcr2ImageProcessorFast", "processor_class": "InternVLProcessor",
        "size": {"height": 56, "width": 56}, "crop_to_patches": False, "min_patches": 1, "max_patches": 12,
        "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    })  # fmt: skip
    return Published(folder, twin, encode, 4, 4)
