"""ZJUI-AI4H/Hulu-Med: hulumed, or hulumed_qwen3; its vision encoder stands in a folder of its own there."""

import importlib
import json
import sys
from typing import Any

import torch
from PIL import Image

from drivers.surroundings import last, weights

TOKENS = 32


def opened(folder, checkout):
    """(model, name of the package)."""
    import timm.layers
    import transformers
    from safetensors.torch import save_file

    transformers.TRANSFORMERS_CACHE = ""  # of older versions; nothing looks there here
    transformers.image_utils.VideoInput = Any  # likewise
    sys.modules["timm.models.layers"] = timm.layers
    tensors = weights(folder)
    package = "hulumed_qwen3" if any(name.endswith("q_norm.weight") for name in tensors) else "hulumed"
    sys.path.insert(0, str(checkout / "src"))
    settings = json.loads((folder / "config.json").read_text())
    navit = folder.parent / "navit"
    navit.mkdir(exist_ok=True)
    (navit / "config.json").write_text(json.dumps(settings.pop("vision_encoder_config")))
    prepared = json.loads((folder / "preprocessor_config.json").read_text())
    del prepared["auto_map"]
    (navit / "preprocessor_config.json").write_text(json.dumps(prepared))
    prefix = "model.vision_encoder."
    inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    save_file(inner, navit / "model.safetensors", metadata={"format": "pt"})
    kinds = importlib.import_module(f"{package}.model.hulumed_qwen2")
    config = kinds.HulumedQwen2Config(
        **settings, mm_vision_encoder=str(navit), mm_attn_implementation="sdpa", torch_dtype=torch.float32
    )
    config.torch_dtype, config._attn_implementation = torch.float32, "eager"
    model = kinds.HulumedQwen2ForCausalLM(config).float().eval()
    outer = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    missing = model.load_state_dict(outer, strict=False).missing_keys
    assert all(".vision_encoder." in name for name in missing), missing
    return model, package


def hulu(folder, cases, checkout):
    from transformers import AutoTokenizer

    model, package = opened(folder, checkout)
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=False)
    processor = importlib.import_module(f"{package}.model.processor").HulumedProcessor(
        model.get_vision_encoder().image_processor, tokenizer
    )
    token = tokenizer.convert_tokens_to_ids("<image>")

    class Hulu:
        def given(self, prompt, image):
            said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
            given = processor(  # as its notebook calls it, but for a setting that older versions had by themselves
                images=[[image]], text=said, merge_size=1, padding_side="right", return_tensors="pt"
            )
            return {**given, "pixel_values": given["pixel_values"].float(), "modals": ["image"]}

        def ids(self, prompt):
            row = self.given(prompt, Image.new("RGB", (56, 56)))["input_ids"][0].tolist()
            at, count = row.index(token), row.count(token)
            return [*row[:at], -200, *row[at + count :]]

        def pixels(self, image):
            return self.given("x", Image.open(image).convert("RGB"))["pixel_values"]

        def forward(self, prompt, image):
            given = self.given(prompt, Image.open(image).convert("RGB"))
            row = given["input_ids"][0].tolist()
            out = model(**given, use_cache=False, output_attentions=True)
            return last(out, row.index(token), row.count(token))

        def answer(self, prompt, image):
            given = self.given(prompt, Image.open(image).convert("RGB"))
            out = model.generate(**given, do_sample=False, max_new_tokens=TOKENS, use_cache=True)
            return tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()

    return Hulu()
