"""The layouts that compare.py knows: who wrote them, who reads them, and how their tiny checkpoints are made."""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests import checkpoints, published
from vgtool.registry import ModelSpec, models

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no-prefix": {"prefix": False},
    "unlisted": {"listed": False},
    "no-prefix-unlisted": {"prefix": False, "listed": False},
    "nfkc": {"rule": "nmt_nfkc", "squeeze": True},
}
"""How tokenizer.model was trained, for layouts that have one."""


@dataclass(frozen=True)
class Layout:
    """One original repository's checkpoints."""

    driver: str
    """Module and function in drivers/."""
    spec: ModelSpec
    writer: Callable[..., Any]
    """Takes the folder, and how tokenizer.model was trained."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the driver has to know."""

    def write(self, folder: Path, kind: dict[str, Any], depth: int | None = None) -> None:
        """The checkpoint, of `depth` layers or 4 at most, with what only the original reads beside it."""
        fields = checkpoints.text_fields

        def small(vocabulary: int, layers: int, heads: int, groups: int, **others: Any) -> dict[str, Any]:
            return fields(vocabulary, depth or min(layers, 4), 4, min(groups, 4), **others)

        with ExitStack() as patched:
            for writers in (checkpoints.llava, checkpoints.internvl, checkpoints.qwen_gemma):
                patched.enter_context(patch.object(writers, "text_fields", small))
            self.writer(folder, **kind)
        beside(folder)


def known(driver: str, entry: str, writer: Callable[..., Any], **facts: Any) -> Layout:
    """A layout that the registry has an entry of."""
    return Layout(driver, models()[entry], writer, facts)


def newer(driver: str, name: str, adapter: str, writer: Callable[..., Any], **settings: Any) -> Layout:
    """A layout of an adapter, without an entry."""
    spec = ModelSpec(name=name, title=name, adapter=adapter)
    return Layout(driver, spec, lambda at, **kind: writer(at, **settings))


def untrained(writer: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
    """Of a checkpoint whose tokenizer is no sentencepiece model."""
    return lambda at, **kind: writer(at, **settings)


def vila(sentence: bool) -> Callable[..., Any]:
    return lambda at, **kind: checkpoints.vila(at, sentence=sentence, **(kind if sentence else {}))


def intern(name: str, **settings: Any) -> Layout:
    return newer("internvl.later", f"internvl-{name}", "internvl-chat", published.intern_chat, **settings)


MEDREGA = (
    "You are a helpful medical assistant. You are required to answer the question based on the medical image. <image>\n"
)
LAYOUTS = {
    "huatuogpt-vision-7b": known("llava.huatuo", "huatuogpt-vision-7b", untrained(checkpoints.huatuo_7b)),
    "huatuogpt-vision-34b": known("llava.huatuo", "huatuogpt-vision-34b", checkpoints.huatuo_34b),
    "huatuogpt-vision-34b-plain-json": known(
        "llava.huatuo", "huatuogpt-vision-34b", lambda at, **kind: checkpoints.huatuo_34b(at, prepends=False, **kind)
    ),
    "llava-med": known("llava.med", "llava-med", checkpoints.llava_med),
    "llava-1.5": known(
        "llava.llava", "llava-1.5-7b-original", checkpoints.llava_original, conversation="vicuna_v1"
    ),
    "llava-tri": known("llava.llava", "llava-tri", untrained(checkpoints.llava_tri), conversation="llama3"),
    "vila-m3-8b": known("llava.vila", "vila-m3-8b", vila(False), conversation="llama_3"),
    "vila-m3-13b": known("llava.vila", "vila-m3-13b", vila(True), conversation="vicuna_v1"),
    "medrega": known("internvl.medrega", "medrega", checkpoints.medrega, opens=MEDREGA, side=112),
    "qwen2.5-vl": known("qwen.qwen", "qwen2.5-vl-7b", untrained(checkpoints.qwen, kind="qwen2_5_vl")),
    "internvl-qwen2": intern("qwen2"),
    "internvl-qwen3": intern("qwen3", kind="qwen3"),
    "internvl-internlm2": intern("internlm2", kind="internlm2"),
    "internvl-lora": intern("lora", lora=2),
    "internvl-hermes": intern("hermes", ps_version="v1", template="Hermes-2"),
    "citrus": newer("qwen.citrus", "citrus", "citrus-v", published.citrus),
    "hulu-qwen2": newer("hulu.hulu", "hulu-qwen2", "hulu-med", published.hulu),
    "hulu-qwen3": newer("hulu.hulu", "hulu-qwen3", "hulu-med", published.hulu, kind="qwen3"),
}  # fmt: skip


def beside(folder: Path) -> None:
    """What published folders hold beside what vgtool reads."""
    config = json.loads((folder / "config.json").read_text())
    path = folder / "tokenizer_config.json"
    if path.exists() and (told := json.loads(path.read_text()))["tokenizer_class"] == "Qwen2Tokenizer":
        marks = [
            token["content"] for token in told["added_tokens_decoder"].values()
        ]  # as the published files list them
        checkpoints.write(path, told | {"additional_special_tokens": marks})
    if (folder / "llm").is_dir():
        vila_parts(folder, config)
    if "mm_vision_tower" in config:
        clip_tower(folder, config)


def vila_parts(folder: Path, config: dict[str, Any]) -> None:
    """What VILA's own saves say of each part."""
    for part, name in {"vision_tower": "SiglipVisionModel", "mm_projector": "MultimodalProjector"}.items():
        own = json.loads((folder / part / "config.json").read_text())
        checkpoints.write(folder / part / "config.json", own | {"architectures": [name]})
        config[f"{part}_cfg"] = own | {"architectures": [name]}
    config["llm_cfg"] = json.loads((folder / "llm" / "config.json").read_text())
    made = folder / "llm" / "generation_config.json"
    checkpoints.write(made, ends(folder / "llm") | json.loads(made.read_text()))  # published ones name both
    side = config["vision_tower_cfg"]["image_size"]
    checkpoints.write(folder / "vision_tower" / "preprocessor_config.json", {
        "image_processor_type": "SiglipImageProcessor", "size": {"height": side, "width": side}, "resample": 3,
        "do_normalize": True, "do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })  # fmt: skip
    checkpoints.write(folder / "config.json", config)


def clip_tower(folder: Path, config: dict[str, Any]) -> None:
    """The CLIP folder that LLaVA's loaders ask for, from the checkpoint's own tower, and weights as safetensors:
    pickles are read by a torch of the repository's own time only."""
    at = folder / "vit" / "clip_vit_large_patch14_336"
    at.mkdir(parents=True, exist_ok=True)
    vision = {"hidden_size": 128, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    others = {"model_type": "clip_vision_model", "image_size": 84, "patch_size": 14, "hidden_act": "quick_gelu"}
    checkpoints.write(at / "config.json", {**vision, **others})
    checkpoints.write(
        at / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor", "crop_size": 84, "size": 84, "resample": 3,
            "do_center_crop": True, "do_normalize": True, "do_resize": True, "do_convert_rgb": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )  # fmt: skip
    tower = {}
    for file in [*folder.glob("*.safetensors"), *(folder.parent / "clip").glob("*.bin")]:
        for name, value in (load_file(file) if file.suffix == ".safetensors" else torch.load(file)).items():
            short = name.removeprefix("model.vision_tower.vision_tower.")
            if short.startswith("vision_model.") and "position_ids" not in short:
                tower[short] = value
    save_file(tower, at / "model.safetensors", {"format": "pt"})
    width = {"mm_hidden_size": 384} if config.get("s2") else {}
    checkpoints.write(folder / "config.json", config | {"mm_vision_tower": str(at)} | width)
    checkpoints.write(folder / "generation_config.json", {"_from_model_config": True, **ends(folder)})
    plain = {}
    for file in folder.glob("pytorch_model*.bin"):
        plain |= torch.load(file)
        file.unlink()
    if plain:  # its tower stands in another repository, which vgtool would look for among the models on disk
        plain |= {f"model.vision_tower.vision_tower.{name}": value for name, value in tower.items()}
        save_file(plain, folder / "model.safetensors", {"format": "pt"})
        (folder / "pytorch_model.bin.index.json").unlink()


def ends(folder: Path) -> dict[str, int]:
    """Ids of the first and the last token of a text, by the tokenizer's settings."""
    named = json.loads((folder / "tokenizer_config.json").read_text())
    known = {token["content"]: int(index) for index, token in named["added_tokens_decoder"].items()}
    return {f"{name}_token_id": known[named[f"{name}_token"]] for name in ("bos", "eos") if named.get(f"{name}_token")}
