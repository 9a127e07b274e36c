"""The published code of a newer layout beside vgtool's reading of it: ids, pixels, logits, on a tiny random checkpoint.

    python perf/originals/newer.py write DIR [--layout internvl-qwen2 ...]
    python perf/originals/newer.py compare DIR --source CHECKOUT --layout internvl-qwen2
`write`, in vgtool's environment, makes a checkpoint of each layout and records what vgtool feeds its model and what
comes out. `compare`, in an environment in which the published code runs (an older transformers, as a rule), loads the
same checkpoint with the code of CHECKOUT, a checkout of the layout's repository, and prints how far the two are apart.
It fetches nothing. CHECKOUT's code is run: give one that you trust. 200 prompts are compared by their ids, or counted
as refused where vgtool refuses them by name.
"""

import argparse
import ast
import importlib
import json
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = 200
QUESTION = "Is there a lesion in the left lung?"
SIZES = ((330, 150), (140, 300), (240, 240))
LAYOUTS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "internvl-qwen2": ("intern_chat", "internvl-chat", "<IMG_CONTEXT>", {}),
    "internvl-qwen3": ("intern_chat", "internvl-chat", "<IMG_CONTEXT>", {"kind": "qwen3"}),
    "internvl-internlm2": ("intern_chat", "internvl-chat", "<IMG_CONTEXT>", {"kind": "internlm2"}),
    "internvl-lora": ("intern_chat", "internvl-chat", "<IMG_CONTEXT>", {"lora": 2}),
    "internvl-hermes": (
        "intern_chat", "internvl-chat", "<IMG_CONTEXT>", {"ps_version": "v1", "template": "Hermes-2"},
    ),
    "citrus": ("citrus", "citrus-v", "<|image_pad|>", {}),
    "hulu-qwen2": ("hulu", "hulu-med", "<image>", {}),
    "hulu-qwen3": ("hulu", "hulu-med", "<image>", {"kind": "qwen3"}),
}  # fmt: skip
"""Layout -> writer in tests/published.py, adapter, image token, arguments of the writer."""


# ---- vgtool's side ---------------------------------------------------------------------------------------------------


def write(folder: Path, layout: str) -> None:
    """A checkpoint, images, and vgtool's ids, pixels and logits on them."""
    sys.path.insert(0, str(ROOT))
    from prompts import prompts

    from tests import published
    from vgtool.errors import SampleError
    from vgtool.models.load import load
    from vgtool.registry import ModelSpec

    writer, key, image, settings = LAYOUTS[layout]
    made = getattr(published, writer)(folder / "checkpoint", **settings)
    image_token = made.encode(image)[0]
    adapter = load(ModelSpec(name=layout, title=layout, adapter=key), source=made.folder, device="cpu")
    prompt = adapter.prompt(QUESTION)
    asked: dict[str, Any] = {}
    for text in prompts(PROMPTS):
        try:
            found = adapter.prompt(text)
            asked[text] = [[*found.head], [*found.tail]]
        except SampleError as error:
            asked[text] = str(error).partition(":")[0]
    (folder / "prompts.json").write_text(json.dumps({"image": image_token, "asked": asked}))
    for number, (width, height) in enumerate(SIZES):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        image.save(folder / f"{number}.png")
        vision = adapter.prepare(image)
        with torch.inference_mode():
            logits = adapter.model(**adapter.inputs([vision], prompt.head, prompt.tail).kwargs).logits[0]
        ids = [*prompt.head, *[image_token] * vision.tokens, *prompt.tail]
        tensors = {name: value.numpy() for name, value in vision.tensors.items()}
        np.savez(folder / f"{number}.npz", ids=ids, logits=logits.numpy(), **tensors)


# ---- the published side ----------------------------------------------------------------------------------------------

Outcome = tuple[list[int], dict[str, np.ndarray], np.ndarray]
"""Ids of the prompt, what goes into the tower, logits of every place."""


def functions(path: Path, names: set[str], given: dict[str, Any]) -> dict[str, Any]:
    """Some functions of a module whose imports need not be there."""
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in names]
    exec(compile(tree, str(path), "exec"), given)
    return given


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint."""
    from safetensors.torch import load_file

    return {name: value for file in checkpoint.glob("*.safetensors") for name, value in load_file(file).items()}


def internvl(source: Path, checkpoint: Path) -> Callable[[Image.Image, str], Outcome]:
    """OpenGVLab/InternVL: internvl_chat, or internvl_chat_gpt_oss for what only that knows (Qwen3)."""
    import torchvision.transforms as transforms
    from torchvision.transforms.functional import InterpolationMode
    from transformers import AutoTokenizer

    settings = json.loads((checkpoint / "config.json").read_text())
    older = settings["llm_config"]["model_type"] != "qwen3"
    sys.path.insert(0, str(source / ("internvl_chat" if older else "internvl_chat_gpt_oss")))
    package = "internvl.model.internvl_chat."
    config = importlib.import_module(package + "configuration_internvl_chat").InternVLChatConfig(**settings)
    model = importlib.import_module(package + "modeling_internvl_chat").InternVLChatModel(config).float().eval()
    model.load_state_dict(weights(checkpoint))
    if settings["llm_config"]["model_type"] == "internlm2":
        kind = importlib.import_module("internvl.model.internlm2.tokenization_internlm2").InternLM2Tokenizer
        tokenizer = kind.from_pretrained(checkpoint)
    else:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, use_fast=False)
    cutting = functions(
        source / "internvl_chat" / "internvl" / "train" / "dataset.py",
        {"find_closest_aspect_ratio", "dynamic_preprocess"}, {},
    )["dynamic_preprocess"]  # fmt: skip
    side, seen = settings["force_image_size"], {}
    transform = transforms.Compose([  # as every model card of the family writes it
        transforms.Resize((side, side), interpolation=InterpolationMode.BICUBIC), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip

    def generate(**given: Any) -> torch.Tensor:
        seen.update(given)
        return given["input_ids"]

    model.generate = generate

    def run(image: Image.Image, question: str) -> Outcome:
        parts = cutting(image, image_size=side, use_thumbnail=True, max_num=12)
        pixels = torch.stack([transform(part) for part in parts])
        model.chat(tokenizer, pixels, f"<image>\n{question}", {})
        embeds = model.language_model.get_input_embeddings()(seen["input_ids"])
        embeds[seen["input_ids"] == model.img_context_token_id] = model.extract_feature(pixels).flatten(0, 1)
        logits = model.language_model(inputs_embeds=embeds, use_cache=False).logits[0]
        return seen["input_ids"][0].tolist(), {"pixel_values": pixels.numpy()}, logits.numpy()

    return run


def citrus(source: Path, checkpoint: Path) -> Callable[[Image.Image, str], Outcome]:
    """jdh-algo/Citrus-V, its parts that segment replaced by nothing (they need packages and weights of their own)."""
    from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    class Nothing(torch.nn.Module):
        def __init__(self, **settings: Any) -> None:
            super().__init__()
            self.sam2_model, self.hidden_dim = MagicMock(), 4

    package = types.ModuleType("architectures")  # without its own __init__, which imports SAM 2
    package.__path__ = [str(source / "architectures")]
    sys.modules["architectures"] = package
    sys.modules["architectures.sam2_train"] = MagicMock(SAM2TrainRunner=Nothing)
    sys.modules["architectures.third_parts.mmdet.models.losses"] = MagicMock()
    kinds = importlib.import_module("architectures.citrus_v_transformers")
    settings = json.loads((checkpoint / "config.json").read_text())
    model = kinds.CitrusV(kinds.CitrusVConfig(**settings, torch_dtype="float32")).float().eval()
    tensors = {name: value for name, value in weights(checkpoint).items() if name.startswith("mllm.")}
    lacking = model.load_state_dict(tensors, strict=False)
    assert not lacking.unexpected_keys and all(name.startswith("seg_") for name in lacking.missing_keys), lacking
    prepared = json.loads((checkpoint / "preprocessor_config.json").read_text())
    chat = json.loads((checkpoint / "chat_template.json").read_text())["chat_template"]
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**prepared), AutoTokenizer.from_pretrained(checkpoint, use_fast=False),
        Qwen2VLVideoProcessor(), chat_template=chat,
    )  # fmt: skip

    def run(image: Image.Image, question: str) -> Outcome:
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        given = processor(
            images=[image], text=[processor.apply_chat_template(said, add_generation_prompt=True)], return_tensors="pt"
        )
        logits = model.mllm(**given).logits[0]
        return given["input_ids"][0].tolist(), {"pixel_values": given["pixel_values"].numpy()}, logits.numpy()

    return run


def hulu(source: Path, checkpoint: Path) -> Callable[[Image.Image, str], Outcome]:
    """ZJUI-AI4H/Hulu-Med: hulumed, or hulumed_qwen3; its vision encoder stands in a folder of its own there."""
    import timm.layers
    import transformers
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    transformers.TRANSFORMERS_CACHE = ""  # type: ignore[attr-defined]  # of older versions; nothing looks there here
    transformers.image_utils.VideoInput = Any  # type: ignore[attr-defined]  # likewise
    sys.modules["timm.models.layers"] = timm.layers
    for video in ("decord", "cv2", "ffmpeg", "imageio", "nibabel", "moviepy", "moviepy.editor"):
        sys.modules[video] = MagicMock()
    tensors = weights(checkpoint)
    package = "hulumed_qwen3" if any(name.endswith("q_norm.weight") for name in tensors) else "hulumed"
    sys.path.insert(0, str(source / "src"))
    settings = json.loads((checkpoint / "config.json").read_text())
    navit = checkpoint.parent / "navit"
    navit.mkdir(exist_ok=True)
    (navit / "config.json").write_text(json.dumps(settings.pop("vision_encoder_config")))
    prepared = json.loads((checkpoint / "preprocessor_config.json").read_text())
    del prepared["auto_map"]
    (navit / "preprocessor_config.json").write_text(json.dumps(prepared))
    prefix = "model.vision_encoder."
    inner = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    save_file(inner, navit / "model.safetensors", metadata={"format": "pt"})
    kinds = importlib.import_module(f"{package}.model.hulumed_qwen2")
    config = kinds.HulumedQwen2Config(
        **settings, mm_vision_encoder=str(navit), mm_attn_implementation="sdpa", torch_dtype=torch.float32
    )
    config.torch_dtype = torch.float32
    model = kinds.HulumedQwen2ForCausalLM(config).float().eval()
    outer = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    missing = model.load_state_dict(outer, strict=False).missing_keys
    assert all(".vision_encoder." in name for name in missing), missing
    processor = importlib.import_module(f"{package}.model.processor").HulumedProcessor(
        model.get_vision_encoder().image_processor, AutoTokenizer.from_pretrained(checkpoint, use_fast=False)
    )

    def run(image: Image.Image, question: str) -> Outcome:
        said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
        given = processor(  # as its notebook calls it, but for a setting that older versions had by themselves
            images=[[image]], text=said, merge_size=1, padding_side="right", return_tensors="pt"
        )
        pixels = given["pixel_values"].float()
        out = model(**{**given, "pixel_values": pixels, "modals": ["image"]}, use_cache=False)
        return given["input_ids"][0].tolist(), {"pixel_values": pixels.numpy()}, out.logits[0].numpy()

    return run


def compare(folder: Path, layout: str, source: Path) -> None:
    """One line: how far the two sides are apart at most."""
    run = globals()[layout.partition("-")[0]](source, folder / "checkpoint")
    apart = {"ids": 0, "pixels": 0.0, "logits": 0.0}
    for number, _ in enumerate(SIZES):
        ours = np.load(folder / f"{number}.npz")
        with torch.inference_mode():
            ids, tensors, logits = run(Image.open(folder / f"{number}.png"), QUESTION)
        apart["ids"] += ids != ours["ids"].tolist()
        for name, value in tensors.items():
            apart["pixels"] = max(apart["pixels"], float(np.abs(value - ours[name]).max()))
        scale = float(np.abs(logits).max())
        apart["logits"] = max(apart["logits"], float(np.abs(logits - ours["logits"]).max()) / scale)
    known = json.loads((folder / "prompts.json").read_text())
    small, equal, refused, other = Image.new("RGB", (56, 56)), 0, Counter[str](), []
    for text, ours in known["asked"].items():
        if isinstance(ours, str):
            refused[ours] += 1
            continue
        with torch.inference_mode():
            ids = run(small, text)[0]
        head, tail = ours
        middle = [known["image"]] * (len(ids) - len(head) - len(tail))
        equal += ids == [*head, *middle, *tail]
        other += [] if ids == [*head, *middle, *tail] else [text]
    print(
        f"{layout}: {len(SIZES)} images, ids that differ {apart['ids']}, pixels {apart['pixels']:.1e}, logits "
        f"{apart['logits']:.1e} of the largest; prompts equal {equal}, refused {dict(refused)}, other {other[:5]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("write", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layout", nargs="+", choices=[*LAYOUTS], default=[*LAYOUTS])
    parser.add_argument("--source", type=Path)
    asked = parser.parse_args()
    for layout in asked.layout:
        if asked.step == "write":
            write(asked.folder / layout, layout)
        else:
            compare(asked.folder / layout, layout, asked.source)


if __name__ == "__main__":
    main()
