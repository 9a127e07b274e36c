"""phantom-vlm before training: a small LLaVA with random weights, and the processor that reads for it."""

import math
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from vgtool.benchmarks.phantom import KINDS, Asked, ask, drawing
from vgtool.benchmarks.phantom.draw import STYLES, Part
from vgtool.records import GENERAL_QUESTION, QUESTION_SUFFIX

SIZE, PATCH = 112, 14
TOKENS = (SIZE // PATCH) ** 2
CHAT = (
    "{% for message in messages %}USER: {% for part in message.content %}{% if part.type == 'image' %}<image>\n"
    "{% else %}{{ part.text }}{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
GENERAL = f"{GENERAL_QUESTION} {QUESTION_SUFFIX}"


def processor() -> LlavaProcessor:
    """Word-level tokenizer over every word of every question, image processor that pads to a square, chat template."""
    split = pre_tokenizers.Whitespace()
    texts = [GENERAL, "USER: ASSISTANT:", " ".join(STYLES), "scene yes no left right A B C D"]
    for name in ("scenes", "phantom"):
        for index in range(60):
            for part in drawing(name, "train", index).parts:
                texts += [text for asked in every_question(name, part) for text in (asked.prompt, asked.answer)]
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    vocabulary = {word: index for index, word in enumerate([*special, *words])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = split
    raw.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", vocabulary["<s>"])])
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = CHAT
    images = LlavaImageProcessorPil(
        do_pad=True,
        do_center_crop=False,
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.45] * 3,
        image_std=[0.27] * 3,
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )


def every_question(name: str, part: Part) -> Iterator[Asked]:
    """Everything that can be asked of a part of a picture."""
    for kind in KINDS:
        if part.mark is not None or kind in ("exist", "side"):
            yield ask(name, kind, part)


def build(tokenizer: Any) -> LlavaForConditionalGeneration:
    """Random weights. Standard deviations follow fan-in: the usual 0.02 is far too small at width 96."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=288,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=SIZE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=1024,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=TOKENS,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if weight.dim() < 2:
            continue
        std = 0.12 if "embed" in name else 1 / math.sqrt(weight[0].numel())
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            std /= math.sqrt(12)
        nn.init.normal_(weight, std=std)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model
