"""The LLaVA of random weights that scripts here measure on: a tower next to nothing, a Llama of the size asked for."""

from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration


def llava(args: Any, side: int) -> LlavaForConditionalGeneration:
    """`side` x `side` image tokens; `args`: hidden, layers, heads, kv_heads, device, dtype. Seeds torch with 0."""
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=14 * side,
            patch_size=14,
        ),
        text_config=LlamaConfig(
            vocab_size=2048, hidden_size=args.hidden, intermediate_size=3 * args.hidden, num_hidden_layers=args.layers,
            num_attention_heads=args.heads, num_key_value_heads=args.kv_heads,
        ),
        image_token_index=7,
        vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config).eval().to(args.device, getattr(torch, args.dtype))
