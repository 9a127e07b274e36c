"""InternVL's own code: MedRegA's copy, and the later one of OpenGVLab/InternVL."""

import contextlib
import importlib
import json
import sys
import types

import torch
from PIL import Image

from drivers.surroundings import functions, last, weights

TOKENS = 32


def medrega(folder, cases, checkout):
    from internvl.model.internvl_chat import InternVLChatModel
    from internvl.train.dataset import build_transform
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=True, use_fast=False)
    model = InternVLChatModel.from_pretrained(str(folder), low_cpu_mem_usage=True, torch_dtype=torch.float32).eval()
    transform = build_transform(is_train=False, input_size=cases["side"])

    class Med:
        def query(self, prompt):
            """What `chat` gives to the tokenizer."""
            caught = {}

            def note(query, **settings):
                caught["query"] = query
                raise StopIteration

            note.convert_tokens_to_ids = tokenizer.convert_tokens_to_ids
            note.eos_token_id = tokenizer.eos_token_id
            fake = types.SimpleNamespace(shape=(1,))
            with contextlib.suppress(StopIteration):
                model.chat(note, fake, cases["opens"] + prompt, {})
            return caught["query"]

        def ids(self, prompt):
            ids = tokenizer(self.query(prompt)).input_ids
            context = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
            at, count = ids.index(context), ids.count(context)
            return [*ids[:at], -200, *ids[at + count :]]

        def forward(self, prompt, image):
            ids = tokenizer(self.query(prompt), return_tensors="pt").input_ids
            context = tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
            model.img_context_token_id = context
            out = model(
                self.pixels(image), input_ids=ids, attention_mask=torch.ones_like(ids),
                image_flags=torch.ones(1, 1, dtype=torch.long), output_attentions=True, return_dict=True,
            )  # fmt: skip
            row = ids[0].tolist()
            return last(out, row.index(context), row.count(context))

        def pixels(self, image):
            return transform(Image.open(image).convert("RGB"))[None]

        def answer(self, prompt, image):
            settings = {"num_beams": 1, "max_new_tokens": TOKENS, "min_new_tokens": 1, "do_sample": False}
            return model.chat(tokenizer, self.pixels(image), cases["opens"] + prompt, settings)

    return Med()


def opened(folder, checkout, settings):
    """(model, tokenizer) by the repository's classes."""
    from transformers import AutoTokenizer

    language = settings["llm_config"]["model_type"]
    sys.path.insert(0, str(checkout / ("internvl_chat_gpt_oss" if language == "qwen3" else "internvl_chat")))
    package = "internvl.model.internvl_chat."
    config = importlib.import_module(package + "configuration_internvl_chat").InternVLChatConfig(**settings)
    config.llm_config._attn_implementation = "eager"
    model = importlib.import_module(package + "modeling_internvl_chat").InternVLChatModel(config).float().eval()
    model.load_state_dict(weights(folder))
    if language == "internlm2":
        kind = importlib.import_module("internvl.model.internlm2.tokenization_internlm2").InternLM2Tokenizer
        model.language_model.generate = greedy(model.language_model)
        return model, kind.from_pretrained(folder)
    return model, AutoTokenizer.from_pretrained(folder, use_fast=False)


def greedy(language):
    """`generate`, which transformers from 4.50 on gives no class of a repository's own: whole passes, the likeliest
    token each time."""

    @torch.inference_mode()
    def generate(inputs_embeds, max_new_tokens, eos_token_id, **settings):
        found = []
        for _ in range(max_new_tokens):
            token = language(inputs_embeds=inputs_embeds, use_cache=False).logits[:, -1].argmax(-1)
            found.append(int(token))
            if found[-1] == eos_token_id:
                break
            inputs_embeds = torch.cat([inputs_embeds, language.get_input_embeddings()(token)[:, None]], 1)
        return torch.tensor([found])

    return generate


def tiling(checkout, side):
    """From a file to pixels, as every model card of the family writes it."""
    import torchvision.transforms as transforms
    from torchvision.transforms.functional import InterpolationMode

    cutting = functions(
        checkout / "internvl_chat" / "internvl" / "train" / "dataset.py",
        {"find_closest_aspect_ratio", "dynamic_preprocess"}, {},
    )["dynamic_preprocess"]  # fmt: skip
    transform = transforms.Compose([
        transforms.Resize((side, side), interpolation=InterpolationMode.BICUBIC), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip

    def tiled(image):
        parts = cutting(Image.open(image).convert("RGB"), image_size=side, use_thumbnail=True, max_num=12)
        return torch.stack([transform(part) for part in parts])

    return tiled


def later(folder, cases, checkout):
    """OpenGVLab/InternVL: internvl_chat, or internvl_chat_gpt_oss for what only that knows (Qwen3)."""
    settings = json.loads((folder / "config.json").read_text())
    model, tokenizer = opened(folder, checkout, settings)
    side = settings["force_image_size"]
    tiled, blank = tiling(checkout, side), torch.zeros(1, 3, side, side)

    class Later:
        def asked(self, prompt, pixels):
            """The ids that `chat` hands to `generate`."""
            seen, generate = {}, model.generate

            def note(**given):
                seen.update(given)
                return given["input_ids"]

            model.generate = note
            model.chat(tokenizer, pixels, f"<image>\n{prompt}", {})
            model.generate = generate
            return seen["input_ids"]

        def ids(self, prompt):
            ids = self.asked(prompt, blank)[0].tolist()
            at, count = ids.index(model.img_context_token_id), ids.count(model.img_context_token_id)
            return [*ids[:at], -200, *ids[at + count :]]

        def pixels(self, image):
            return tiled(image)

        def forward(self, prompt, image):
            pixels = self.pixels(image)
            ids = self.asked(prompt, pixels)
            row, context = ids[0].tolist(), model.img_context_token_id
            embeds = model.language_model.get_input_embeddings()(ids)
            embeds[ids == context] = model.extract_feature(pixels).flatten(0, 1)
            out = model.language_model(inputs_embeds=embeds, output_attentions=True, use_cache=False)
            return last(out, row.index(context), row.count(context))

        def answer(self, prompt, image):
            settings = {"max_new_tokens": TOKENS, "do_sample": False}
            return model.chat(tokenizer, self.pixels(image), f"<image>\n{prompt}", settings)

    return Later()
