"""Runs an original repository's own code on a checkpoint and cases that compare.py wrote. Imports nothing of vgtool.

    PYTHON drivers.py LAYOUT CHECKOUT WORK
PYTHON: an environment with what the repository asks for; CHECKOUT: a clone of it; WORK: the folder of compare.py.
Weights and pixels are float32 (the repositories ask for half precision, which no comparison at 1e-4 survives), a random
padding offset is its lower bound, and cuda() stays on the CPU: nothing else of the code that runs is changed.
Writes WORK/original.npz and WORK/original.json: ids per prompt (-200 for the image), and per case the last logits, the
last row of attention to the image by layer and head, and the greedy answer.
"""

import contextlib
import json
import random
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image

TOKENS = 32


def main(layout, checkout, work):
    sys.path.insert(0, str(checkout))
    torch.bfloat16 = torch.float16 = torch.float32
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **settings: self
    torch.Tensor.half = torch.Tensor.float
    random.randint = lambda low, high: low
    eager()
    stand_in("deepspeed", "wandb", "cv2", "datasets", "decord", "pytorchvideo")
    cases = json.loads((work / "cases.json").read_text())
    load = {"huatuo": huatuo, "llava-med": llava_med, "llava": llava, "vila": vila, "medrega": medrega}[layout]
    one = load(work / cases["folder"], cases)
    ids, rows, arrays = [], [], {}
    with torch.inference_mode():
        for prompt in cases["prompts"]:
            ids.append(one.ids(prompt))
        for case in cases["cases"]:
            prompt, image = cases["prompts"][case["prompt"]], work / case["image"]
            try:
                logits, attention = one.forward(prompt, image)
            except (RuntimeError, ValueError):  # a prompt that spells the image token; vgtool refuses it by name
                rows.append({**case, "answer": None})
                continue
            arrays[f"logits {len(rows)}"] = logits.float().numpy()
            arrays[f"attention {len(rows)}"] = attention.float().numpy()
            rows.append({**case, "answer": one.answer(case["asked"], image) if case.get("asked") else None})
    np.savez(work / "original.npz", **arrays)
    (work / "original.json").write_text(json.dumps({"ids": ids, "rows": rows}))


def eager():
    """Attention as matrices, which is what can be compared; some repositories ask for flash attention."""
    from transformers import PreTrainedModel

    def choose(cls, config, *args, **settings):
        config._attn_implementation = "eager"
        return config

    if hasattr(PreTrainedModel, "_autoset_attn_implementation"):
        PreTrainedModel._autoset_attn_implementation = classmethod(choose)


def stand_in(*names):
    """Empty modules for what the repositories import for training and never call here, where it is not installed; and
    the operators whose absence keeps a CPU build of torchvision from being imported."""
    import importlib.abc
    import importlib.machinery
    import importlib.util
    from unittest.mock import MagicMock

    absent = {name for name in names if importlib.util.find_spec(name) is None}

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path, target=None):
            if name.partition(".")[0] in absent:
                return importlib.machinery.ModuleSpec(name, self, is_package=True)

        def create_module(self, spec):
            module = MagicMock(name=spec.name)
            module.__path__, module.__spec__ = [], spec
            return module

        def exec_module(self, module):
            pass

    sys.meta_path.append(Finder())
    with contextlib.suppress(RuntimeError):
        global operator
        operator = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operator.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def last(out, start, tokens):
    """(last logits, attention of the last row to the image [layers, heads, tokens])."""
    attention = torch.stack([layer[0, :, -1, start : start + tokens] for layer in out.attentions])
    return out.logits[0, -1], attention


class Sentinel:
    """A repository that puts -200 in the place of the image."""

    def __init__(self, model, tokens):
        self.model, self.tokens = model, tokens

    def forward(self, prompt, image):
        ids = torch.tensor([self.ids(prompt)])
        out = self.model(ids, images=self.pixels(image), output_attentions=True, use_cache=False)
        return last(out, ids[0].tolist().index(-200), self.tokens)


def huatuo(folder, cases):
    import cli

    class Bot(Sentinel):
        def __init__(self):
            self.bot = cli.HuatuoChatbot(str(folder), "cpu")
            self.bot.gen_kwargs |= {"do_sample": False, "max_new_tokens": TOKENS, "repetition_penalty": 1.0}
            self.bot.gen_kwargs.pop("temperature")
            super().__init__(self.bot.model, self.bot.model.get_vision_tower().num_patches)

        def ids(self, prompt):
            text = self.bot.insert_image_placeholder(self.bot.input_moderation(prompt), 1)
            return self.bot.preprocess(self.bot.get_conv_without_history(text), return_tensors="pt").tolist()

        def pixels(self, image):
            return torch.stack(self.bot.get_image_tensors([str(image)]))

        def answer(self, prompt, image):
            return self.bot.inference(prompt, [str(image)])[0]

    return Bot()


def llava_med(folder, cases):
    from llava.constants import DEFAULT_IMAGE_TOKEN
    from llava.conversation import conv_templates
    from llava.mm_utils import process_images, tokenizer_image_token
    from llava.model import LlavaMistralForCausalLM
    from llava.model.builder import load_pretrained_model

    read = LlavaMistralForCausalLM.from_pretrained

    def whole(*args, device_map=None, **settings):  # the loader's own two settings exclude each other on a CPU
        return read(*args, **settings)

    LlavaMistralForCausalLM.from_pretrained = whole
    tokenizer, model, processor, _ = load_pretrained_model(str(folder), None, "llava-med-mistral", device="cpu")

    class Med(Sentinel):
        def ids(self, prompt):
            text = DEFAULT_IMAGE_TOKEN + "\n" + prompt.replace(DEFAULT_IMAGE_TOKEN, "").strip()  # model_vqa.py
            conversation = conv_templates["mistral_instruct"].copy()
            conversation.append_message(conversation.roles[0], text)
            conversation.append_message(conversation.roles[1], None)
            return tokenizer_image_token(conversation.get_prompt(), tokenizer)

        def pixels(self, image):
            opened = Image.open(image)
            if opened.mode == "L":
                opened = opened.convert("RGB")  # left grey, it is padded with another grey: docs/models.md
            return process_images([opened], processor, model.config)

        def answer(self, prompt, image):
            ids = torch.tensor([self.ids(prompt)])
            out = model.generate(ids, images=self.pixels(image), do_sample=False, max_new_tokens=TOKENS, use_cache=True)
            return tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()

    return Med(model, model.get_vision_tower().num_patches)


def llava(folder, cases):
    """haotian-liu/LLaVA (vicuna_v1) and MedTrinity-25M (llama3), whose loaders and tokenisation are alike."""
    from llava.constants import DEFAULT_IMAGE_TOKEN
    from llava.conversation import conv_templates
    from llava.mm_utils import process_images, tokenizer_image_token
    from llava.model.builder import load_pretrained_model

    tokenizer, model, processor, _ = load_pretrained_model(
        str(folder), None, "llava-llama", device_map="cpu"
    )
    model = model.float()
    model.config.attn_implementation = model.config._attn_implementation = "eager"

    class Llava(Sentinel):
        def ids(self, prompt):
            conversation = conv_templates[cases["conversation"]].copy()
            conversation.append_message(conversation.roles[0], DEFAULT_IMAGE_TOKEN + "\n" + prompt)
            conversation.append_message(conversation.roles[1], None)
            return tokenizer_image_token(conversation.get_prompt(), tokenizer)

        def pixels(self, image):
            return process_images([Image.open(image).convert("RGB")], processor, model.config)

        def answer(self, prompt, image):
            ids = torch.tensor([self.ids(prompt)])
            ends = {"eos_token_id": cases["ends"]} if cases.get("ends") else {}
            out = model.generate(
                ids, images=self.pixels(image), do_sample=False, max_new_tokens=TOKENS, use_cache=True, **ends
            )
            return tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()

    return Llava(model, cases["tokens"])


def vila(folder, cases):
    from llava.constants import IMAGE_TOKEN_INDEX
    from llava.conversation import SeparatorStyle, conv_templates
    from llava.mm_utils import KeywordsStoppingCriteria, process_images, tokenizer_image_token
    from llava.model.builder import load_pretrained_model

    tokenizer, model, processor, _ = load_pretrained_model(
        str(folder), "vila-llama", None, device_map="cpu"
    )
    model = model.float()

    class M3(Sentinel):
        def ids(self, prompt):
            conversation = conv_templates[cases["conversation"]].copy()
            conversation.append_message(conversation.roles[0], "<image>\n" + prompt)
            conversation.append_message(
                conversation.roles[1], "" if conversation.sep_style == SeparatorStyle.LLAMA_3 else None
            )
            self.conversation = conversation
            return tokenizer_image_token(conversation.get_prompt(), tokenizer, IMAGE_TOKEN_INDEX)

        def pixels(self, image):
            return process_images([Image.open(image).convert("RGB")], processor, model.config)

        def answer(self, prompt, image):
            ids = torch.tensor([self.ids(prompt)])
            chat = self.conversation
            stop = chat.sep2 if chat.sep_style == SeparatorStyle.TWO else chat.sep
            out = model.generate(
                ids, images=[self.pixels(image)], do_sample=False, max_new_tokens=TOKENS, use_cache=True,
                stopping_criteria=[KeywordsStoppingCriteria([stop], tokenizer, ids)],
                pad_token_id=tokenizer.eos_token_id, min_new_tokens=2,
            )  # fmt: skip
            text = tokenizer.batch_decode(out, skip_special_tokens=True)[0].strip()
            return text.removesuffix(stop).strip()

    return M3(model, cases["tokens"])


def medrega(folder, cases):
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


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]))
