"""Tiny random checkpoints of the image-text families of the installed transformers, saved as its own classes save them.

`families.yaml` says what each family needs beside its default config, whose sizes are shrunk here. Nothing of vgtool is
used, so that a checkpoint is what transformers makes it.
"""

import copy
import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}MARK"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
BOTH = dict.fromkeys(("hidden_size", "d_model", "embed_dim", "word_embed_proj_dim", "moe_intermediate_size",
                      "shared_expert_intermediate_size", "encoder_hidden_size", "projection_dim"), 32)  # fmt: skip
BOTH |= dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "mlp_hidden_size"), 48)
BOTH |= dict.fromkeys(("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads", "moe_num_experts",
                       "num_experts", "num_local_experts", "n_routed_experts", "linear_num_value_heads",
                       "mamba_num_heads"), 4)  # fmt: skip
BOTH |= dict.fromkeys(("head_dim", "query_pre_attn_scalar", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
                       "linear_key_head_dim", "linear_value_head_dim", "hidden_size_per_layer_input",
                       "global_head_dim", "mamba_head_dim", "ssm_state_size"), 8)  # fmt: skip
BOTH |= dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_head_dim", "index_head_dim", "latent_dim"), 16)
BOTH |= dict.fromkeys(("num_experts_per_tok", "moe_k", "index_n_heads", "linear_num_key_heads", "encoder_layers",
                       "decoder_layers", "num_global_key_value_heads"), 2)  # fmt: skip
BOTH |= dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "n_groups"), 1)
BOTH |= {"vocab_size": 512, "vocab_size_per_layer_input": 512, "max_position_embeddings": 4096, "index_topk": 1024}
TEXT = BOTH | {"num_hidden_layers": 4, "n_layers": 4, "num_key_value_heads": 2, "num_kv_shared_layers": 0}
VISION = BOTH | dict.fromkeys(("out_hidden_size", "mm_hidden_size", "hidden_dim", "output_dim"), 32)
VISION |= {"num_hidden_layers": 2, "depth": 2, "num_heads": 4, "num_key_value_heads": 4, "num_position_embeddings": 64}
PER_LAYER = ("per_layer_config", "mlp_layer_types", "kv_source_layers", "indexer_types", "activation_sparsity_pattern",
             "no_rope_layers", "moe_layers")  # fmt: skip
"""Lists as long as the default config is deep; without them the class makes its own."""
SEEING = ("vision", "audio", "qformer", "perceiver", "vq", "adapter")


@cache
def known() -> Mapping[str, Mapping[str, Any]]:
    """What is known of each family, by name."""
    return yaml.safe_load((Path(__file__).parent / "families.yaml").read_text("utf-8"))


def write(name: str, folder: Path, **settings: Any) -> None:
    """Save a family's checkpoint. `settings`: config fields over the family's own. Raises what transformers raises."""
    family = known()[name]
    tokenizer = _tokenizer(family)
    config = _config(name, family, tokenizer, settings)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for at, parameter in model.named_parameters():
            if parameter.is_floating_point():
                scale = 1.0 if parameter.dim() == 1 and "norm" in at and "weight" in at else 0.0
                parameter.copy_(scale + 0.1 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    _save_processor(name, family, tokenizer, folder)


def _tokenizer(family: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """One byte a token, and the family's special tokens."""
    named, mark = family.get("tokens", {}), family.get("mark", "")
    backend = Tokenizer(models.BPE({s: i for i, s in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    placeholder = named.get("image_token", mark)
    backend.add_special_tokens(
        list(dict.fromkeys(filter(None, [*SPECIAL, *named.values(), *family.get("more", ()), placeholder])))
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        extra_special_tokens=dict(named) or None,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    made.chat_template = CHAT.replace("MARK", mark)
    return made


def _config(name: str, family: Mapping[str, Any], tokenizer: Any, settings: Mapping[str, Any]) -> Any:
    kind = CONFIG_MAPPING[family.get("type", name)]
    fields = _shrunk(kind().to_dict(), TEXT)
    _merge(fields, family.get("config", {}))
    _merge(fields, settings)
    text = fields["text_config"] if isinstance(fields.get("text_config"), dict) else fields

    def ids(token: Any) -> Any:
        return [ids(one) for one in token] if isinstance(token, list) else tokenizer.convert_tokens_to_ids(token)

    for field, token in family.get("ids", {}).items():
        if field in fields or field in ("image_token_id", "image_token_index"):
            fields[field] = ids(token)
        if field in text and field.startswith("image"):
            text[field] = ids(token)
    for part in (fields, text):
        for field, token in (("pad_token_id", "<pad>"), ("bos_token_id", "<s>"), ("eos_token_id", "</s>")):
            if field in part or part is not fields:
                part[field] = ids(token)
    return kind.from_dict(fields)


def _shrunk(fields: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in copy.deepcopy(dict(fields)).items():
        if isinstance(value, dict) and ("model_type" in value or name.endswith("_config")):
            sees = name == "encoder" or any(part in name for part in SEEING)
            out[name] = _shrunk(value, VISION if sees else TEXT)
        else:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            out[name] = sizes[name] if number and name in sizes else value
    if isinstance(out.get("layer_types"), list):
        kinds = list(dict.fromkeys(out["layer_types"]))
        out["layer_types"] = [kinds[at % len(kinds)] for at in range(out.get("num_hidden_layers", 4))]
    return {name: value for name, value in out.items() if name not in PER_LAYER}


def _merge(fields: dict[str, Any], others: Mapping[str, Any]) -> None:
    for name, value in others.items():
        if name.startswith("-"):
            fields.pop(name[1:], None)
        elif name.endswith("!"):
            fields[name[:-1]] = copy.deepcopy(value)
        elif isinstance(value, dict) and isinstance(fields.get(name), dict):
            _merge(fields[name], value)
        else:
            fields[name] = copy.deepcopy(value)


def _save_processor(name: str, family: Mapping[str, Any], tokenizer: Any, folder: Path) -> None:
    """The files of a processor, each part by itself: a whole one needs its video part's packages."""
    kind = family.get("type", name)
    backends: Any = IMAGE_PROCESSOR_MAPPING_NAMES.get(kind) or {}
    own = family.get("image_processor_class") or backends.get("pil") or backends.get("torchvision")
    tokenizer.save_pretrained(folder)
    getattr(transformers, own)(**copy.deepcopy(family.get("image_processor", {}))).save_pretrained(folder)
    if importlib.util.find_spec("torchvision"):
        videos: Any = VIDEO_PROCESSOR_MAPPING_NAMES.get(family.get("video", kind))
        videos = videos.get("torchvision") if isinstance(videos, Mapping) else videos
        if videos and kind != "ernie4_5_vl_moe":  # whose default asks for a font
            getattr(transformers, videos)().save_pretrained(folder)
    fields = {"processor_class": family.get("processor_class") or PROCESSOR_MAPPING_NAMES[kind]}
    (folder / "processor_config.json").write_text(json.dumps(fields | family.get("processor", {})), "utf-8")
