"""Qwen2.5-VL by its own two packages (transformers 4, qwen-vl-utils), and what was built on it: jdh-algo/Citrus-V."""

import importlib
import json
import sys
import types
from unittest.mock import MagicMock

import torch
from PIL import Image

from drivers.surroundings import last, weights

TOKENS = 32


class Chat:
    """A processor of Qwen's kind: ids with a token for each part of the image."""

    def __init__(self, model, processor, **settings):
        self.model, self.processor, self.settings = model, processor, settings
        self.token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def given(self, prompt, image):
        raise NotImplementedError

    def ids(self, prompt):
        row = self.given(prompt, Image.new("RGB", (56, 56)))["input_ids"][0].tolist()
        at, count = row.index(self.token), row.count(self.token)
        return [*row[:at], -200, *row[at + count :]]

    def pixels(self, image):
        return self.given("", Image.open(image))["pixel_values"]

    def forward(self, prompt, image):
        given = self.given(prompt, Image.open(image))
        row = given["input_ids"][0].tolist()
        out = self.model(**given, output_attentions=True, use_cache=False)
        return last(out, row.index(self.token), row.count(self.token))

    def answer(self, prompt, image):
        given = self.given(prompt, Image.open(image))
        out = self.model.generate(**given, max_new_tokens=TOKENS, do_sample=False, **self.settings)
        made = out[:, given["input_ids"].shape[1] :]
        return self.processor.batch_decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]


def said(prompt, image):
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}]


def qwen(folder, cases, checkout):
    """As the README of Qwen2.5-VL has it."""
    from qwen_vl_utils import process_vision_info
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").float().eval()
    processor = AutoProcessor.from_pretrained(folder)

    class Qwen(Chat):
        def given(self, prompt, image):
            messages = said(prompt, image)
            text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            images, _ = process_vision_info(messages)
            return processor(text=[text], images=images, padding=True, return_tensors="pt")

    return Qwen(model, processor)


def citrus(folder, cases, checkout):
    """Citrus-V, its parts that segment replaced by nothing (they need packages and weights of their own)."""
    from transformers import (
        AutoTokenizer,
        GenerationConfig,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    class Nothing(torch.nn.Module):
        def __init__(self, **settings):
            super().__init__()
            self.sam2_model, self.hidden_dim = MagicMock(), 4

    package = types.ModuleType("architectures")  # without its own __init__, which imports SAM 2
    package.__path__ = [str(checkout / "architectures")]
    sys.modules["architectures"] = package
    sys.modules["architectures.sam2_train"] = MagicMock(SAM2TrainRunner=Nothing)
    sys.modules["architectures.third_parts.mmdet.models.losses"] = MagicMock()
    kinds = importlib.import_module("architectures.citrus_v_transformers")
    settings = json.loads((folder / "config.json").read_text())
    config = kinds.CitrusVConfig(**settings, torch_dtype="float32")
    model = kinds.CitrusV(config).float().eval()
    tensors = {name: value for name, value in weights(folder).items() if name.startswith("mllm.")}
    lacking = model.load_state_dict(tensors, strict=False)
    assert not lacking.unexpected_keys and all(name.startswith("seg_") for name in lacking.missing_keys), lacking
    model.mllm.set_attn_implementation("eager")
    prepared = json.loads((folder / "preprocessor_config.json").read_text())
    chat = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**prepared), AutoTokenizer.from_pretrained(folder, use_fast=False),
        Qwen2VLVideoProcessor(), chat_template=chat,
    )  # fmt: skip

    class Citrus(Chat):
        def given(self, prompt, image):
            text = processor.apply_chat_template(said(prompt, image), add_generation_prompt=True)
            return processor(images=[image], text=[text], return_tensors="pt")

    read = GenerationConfig.from_pretrained(folder)  # as the copy of ms-swift does that it is served with
    return Citrus(model.mllm, processor, generation_config=read)
