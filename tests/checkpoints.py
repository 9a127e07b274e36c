"""Tiny random checkpoints in the layouts their models are published in. Built by code, nothing downloaded."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

CHAT = (
    "{% for m in messages %}USER: {% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}"
    "{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def byte_tokenizer(special: list[str], **settings: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer without merges: 256 byte tokens, then the special ones."""
    vocabulary = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)
    fast.add_special_tokens({"additional_special_tokens": [s for s in special if s not in settings.values()]})
    return fast


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
