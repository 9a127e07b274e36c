"""The released code of the methods that vgtool compares with: one question on one image in, one answer out.

PAI (LALBJ/PAI, pope_chat_eval.py), AdaptVis (shiqichen17/AdaptVis, the adapt_vis branch of model_zoo/llava15.py),
ViCrop (saccharomycetes/mllms_know, vicrop_qa of run.py). What is fixed in their files for the released models alone
(counts of image tokens, ids) is set to the checkpoint's; the steps between are theirs.
"""

import importlib
import json
import sys
from unittest.mock import MagicMock

import torch
from PIL import Image

from drivers.surroundings import stand_in

TOKENS = 32


def facts(folder):
    """(config, image tokens of a square input) of a LLaVA checkpoint."""
    config = json.loads((folder / "config.json").read_text())
    vision = config.get("vision_config") or json.loads(
        (folder / "vit" / "clip_vit_large_patch14_336" / "config.json").read_text()
    )
    return config, (vision["image_size"] // vision["patch_size"]) ** 2


def first(output):
    """The largest probability of the first token."""
    return float(output["scores"][0].softmax(-1).max())


def pai(folder, cases, checkout):
    """`settings`: alpha, gamma (None: no guidance) and start, as its command line has them."""
    for name in ("minigpt4", "minigpt4.common", "minigpt4.common.eval_utils", "mllm", "mllm.models"):
        sys.modules[name] = MagicMock()  # other models
    import model_loader as code
    from attention import llama_modify
    from constants import INSTRUCTION_TEMPLATE, SYSTEM_MESSAGE
    from llava.model.builder import load_pretrained_model
    from transformers.generation.logits_process import LogitsProcessorList

    settings, name = cases["settings"], "llava-1.5"
    _, code.IMAGE_TOKEN_LENGTH = facts(folder)
    loader = object.__new__(code.ModelLoader)  # whose own __init__ holds a path
    loader.model_name = name
    loader.tokenizer, model, loader.image_processor, _ = load_pretrained_model(
        str(folder), None, name, device_map=None, device="cpu"
    )
    loader.vlm_model = loader.llm_model = model.float()
    guided, layers = settings["gamma"] is not None, len(model.model.layers)

    def answer(question, image):
        pixels = loader.image_processor(Image.open(image).convert("RGB"), return_tensors="pt")["pixel_values"]
        questions, given = loader.prepare_inputs_for_model(
            SYSTEM_MESSAGE + INSTRUCTION_TEMPLATE[name], [question], {"pixel_values": [pixels]}
        )
        llama_modify(
            model, settings["start"], layers, True, settings["alpha"], guided, loader.img_start_idx, loader.img_end_idx
        )
        if guided:
            processor = loader.init_cfg_processor(questions, settings["gamma"], 1, settings["start"], layers)
            given["logits_processor"] = LogitsProcessorList([processor])
        with torch.inference_mode():
            out = model.generate(do_sample=False, max_new_tokens=TOKENS, use_cache=True, num_beams=1, **given)
        return loader.decode(out)[0]

    return answer


def adaptvis(folder, cases, checkout):
    """`settings`: threshold, weight1 and weight2, as its run.sh gives them."""
    from transformers import AutoProcessor

    stand_in("clip")  # another model's
    code = importlib.import_module("model_zoo.llava15")
    importlib.import_module("model_zoo.llama.modeling_llama_add_attn").SAVE_ATTN = False  # a file a layer and step
    host, settings = importlib.import_module("model_zoo.llava.modeling_llava_scal"), cases["settings"]
    sizes, fixed = facts(folder)[0]["text_config"], host.LLaMAConfig
    host.LLaMAConfig = lambda: fixed(**{name: value for name, value in sizes.items() if name != "model_type"})
    model = code.LlavaForConditionalGenerationScal.from_pretrained(folder, ignore_mismatched_sizes=True).eval()
    processor = AutoProcessor.from_pretrained(folder)
    code.change_greedy_to_add_weight()

    def answer(question, image):
        prompt = f"USER: <image>\n{question} ASSISTANT:"
        single_input = processor(
            text=prompt, images=Image.open(image).convert("RGB"), padding="max_length", return_tensors="pt",
            max_length=77,
        )  # fmt: skip
        keys = [torch.where(ids == model.config.image_token_index, 1, 0) for ids in single_input["input_ids"]]
        common = {"max_new_tokens": TOKENS, "output_scores": True, "return_dict_in_generate": True}
        with torch.no_grad():
            output = model.generate(**single_input, weight=1.0, **common)
            sure = code.np.round(float(max(torch.nn.functional.softmax(output["scores"][0], dim=-1)[0])), 2)
            weight = settings["weight1"] if sure < settings["threshold"] else settings["weight2"]
            output = model.generate(**single_input, keys=keys, weight=weight, **common)
        made = output["sequences"][0][len(single_input["input_ids"][-1]) :]
        return processor.decode(made, skip_special_tokens=True), first(output)

    return answer


def vicrop_llava(folder, cases, checkout):
    import llava_methods as code
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    config, code.NUM_IMG_TOKENS = facts(folder)
    code.NUM_PATCHES, code.IMAGE_TOKEN_INDEX = round(code.NUM_IMG_TOKENS**0.5), config["image_token_index"]
    model = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").float().eval()
    processor = AutoProcessor.from_pretrained(folder)
    return _vicrop("llava", model, Trimmed(processor))


class Trimmed:
    """A processor whose answers begin as trained models' do. vicrop_qa takes what stands behind "ASSISTANT: ", blank
    and all, which a random model does not write."""

    def __init__(self, processor):
        self.processor, self.length = processor, 0

    def __call__(self, *args, **settings):
        out = self.processor(*args, **settings)
        self.length = out["input_ids"].shape[1]
        return out

    def batch_decode(self, ids, **settings):
        return [f"ASSISTANT: {text}" for text in self.processor.batch_decode(ids[:, self.length :], **settings)]


def vicrop_qwen(folder, cases, checkout):
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

    most = 256 * 28 * 28
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").float().eval()
    processor = AutoProcessor.from_pretrained(folder, max_pixels=most)
    processor.image_processor.size["longest_edge"] = most  # as its main has it
    return _vicrop("qwen2_5", model, processor)


def _vicrop(family, model, processor):
    run, generate, seen = importlib.import_module("run"), model.generate, {}

    def noted(**given):
        given["max_new_tokens"] = TOKENS  # 20 there
        out = generate(**given, output_scores=True, return_dict_in_generate=True)
        seen["confidence"] = first(out)
        return out["sequences"]

    model.generate = noted

    def answer(question, image):
        short = question.removesuffix(" Answer the question using a single word or phrase.")
        with torch.inference_mode():
            return run.vicrop_qa(family, "rel_att", str(image), short, model, processor, short)[1], seen["confidence"]

    return answer
