"""InternLM2, the language model of InternVL 1.5 to 2.5, as a Llama: its arithmetic is Llama's under other names.

Queries, keys and values are one weight (wqkv). Its tokenizer class is code of the checkpoint, and reads as the slow
Llama tokenizer of transformers did before `legacy` was a setting.
"""

from collections.abc import Mapping
from typing import Any

from transformers import LlamaConfig

from vgtool.models import parts
from vgtool.models.checkpoint import Checkpoint
from vgtool.models.stored import Grouped

KIND = "internlm2"
RENAMES = {
    r"^language_model\.output": "lm_head",
    r"^language_model\.model\.tok_embeddings": "model.language_model.embed_tokens",
    r"^language_model\.model": "model.language_model",
    r"\.attention\.wo\.": ".self_attn.o_proj.",
    r"\.feed_forward\.w1\.": ".mlp.gate_proj.",
    r"\.feed_forward\.w2\.": ".mlp.down_proj.",
    r"\.feed_forward\.w3\.": ".mlp.up_proj.",
    r"\.attention_norm\.": ".input_layernorm.",
    r"\.ffn_norm\.": ".post_attention_layernorm.",
}
"""Published weight name (regex) -> native name."""


def config(checkpoint: Checkpoint, fields: Mapping[str, Any], where: str) -> Any:
    """The config of the Llama that computes the same."""
    return parts.config(checkpoint, LlamaConfig, fields, where, attention_bias=bool(fields.get("bias", True)))


def split(tensors: Mapping[str, Any], text: Any) -> dict[str, Any]:
    """Every wqkv as q_proj, k_proj and v_proj of the Llama with config `text`; the others as they are."""
    groups = text.num_attention_heads // text.num_key_value_heads
    width = text.hidden_size // text.num_attention_heads
    out: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if ".attention.wqkv." in name:
            for part in "qkv":
                native = name.replace(".attention.wqkv.", f".self_attn.{part}_proj.")
                out[native] = Grouped(tensor, groups, width, part)
        else:
            out[name] = tensor
    return out
