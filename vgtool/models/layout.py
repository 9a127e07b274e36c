"""Which adapter reads a checkpoint folder, told from its config.json alone. No torch here.

Every published layout names itself by `model_type`; the original LLaVA layouts of several models share one and are
told apart by their vocabulary, which fine-tunes grow by a token or more. The registry entry a layout is known from
lends its prompt; where none is known the user's own entry has to. A folder called as an entry's repository is that
entry's, if its layout is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgtool.errors import VgError
from vgtool.models.files import PARTS, read_json, refuse_hlora
from vgtool.registry import ModelSpec

NATIVE = {
    "llava": "llava",
    "qwen2_vl": "qwen2-vl",
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "internvl": "internvl",
    "gemma3": "gemma3",
}
"""model_type of a transformers-native checkpoint -> adapter key."""

CHAT = {
    "internvl_chat": "internvl-chat",
    "hulumed_qwen2": "hulu-med",
    "hulumed_qwen3": "hulu-med",
    "citrus_v": "citrus-v",
}
"""model_type of a layout that names the code of its repository -> adapter key."""

ORIGINAL = ("llava_qwen2", "llava_mistral", "llava_llama")
"""model_type of checkpoints as the LLaVA repositories save them."""

VOCABULARIES = {
    range(32000, 33000): "llava-1.5-7b-original",
    range(64000, 65000): "huatuogpt-vision-34b",
    range(128000, 130000): "llava-tri",
}
"""Vocabulary of an original LLaVA over Llama -> registry entry whose language model it is: Vicuna, Yi, Llama 3."""


def recognise(folder: Path, entries: Mapping[str, ModelSpec] | None = None) -> tuple[str, str | None]:
    """(adapter key, registry entry that lends the prompt, if any) of a checkpoint folder."""
    config = _config(folder)
    adapter = _adapter(config, folder)
    name = folder.resolve().name.lower()
    for entry, spec in (entries or {}).items():
        if spec.adapter == adapter and spec.hub and spec.hub.rpartition("/")[2].lower() == name:
            return adapter, entry
    if adapter == "vila":
        layers = _config(folder / "llm").get("num_hidden_layers")
        return adapter, "vila-m3-13b" if layers == 40 else "vila-m3-8b"
    return adapter, _original(config, folder) if adapter == "llava-original" else None


def _adapter(config: dict[str, Any], folder: Path) -> str:
    kind = config.get("model_type")
    if all((folder / part).is_dir() for part in PARTS):
        return "vila"
    if kind in ORIGINAL or (kind == "llava" and "mm_projector_type" in config):  # as the earliest LLaVA-1.5 files do
        return "llava-original"
    vision = config.get("vision_config")
    if kind == "llava" and isinstance(vision, dict) and vision.get("model_type") == "pixtral":
        return "native"  # keeps the image's shape, which no square of the llava adapter does
    if isinstance(kind, str):
        return (NATIVE | CHAT).get(kind, "native")  # which asks transformers whether it knows the type
    raise VgError(
        f"config.json of '{folder}' names no model_type.",
        f"Known: {', '.join((*NATIVE, *ORIGINAL, *CHAT))}, VILA's three folders, image-text types of transformers.",
    )


def _original(config: dict[str, Any], folder: Path) -> str:
    kind, name = config["model_type"], folder.resolve().name
    entry = f"Give its prompt in an entry '{name}' (adapter llava-original) of DIR/models.yaml, and add --registry DIR."
    aspect = str(config.get("image_aspect_ratio"))
    if aspect.startswith("anyres"):  # LLaVA-1.6, which shares model_type and vocabulary with other models
        raise VgError(f"'{folder}' cuts its image into views (image_aspect_ratio {aspect!r}), and no known prompt goes "
                      "with it.", "Use its -hf repository.")  # fmt: skip
    if kind == "llava_qwen2":
        tower = str(config.get("mm_vision_tower", "")).lower()
        return "huatuogpt-v-bio" if "biomedclip" in tower else "huatuogpt-vision-7b"
    if kind == "llava_mistral":
        return "llava-med"
    size = config.get("vocab_size", 32000)  # Llama's own, which LlamaConfig takes too
    found = next((known for sizes, known in VOCABULARIES.items() if size in sizes), None)
    if found == "llava-tri" and not config.get("s2"):
        raise VgError(f"'{folder}' is an original LLaVA over Llama 3 (vocabulary {size}) without S2, which models with "
                      "several prompts are.", entry)  # fmt: skip
    if found is None:
        raise VgError(
            f"'{folder}' is an original LLaVA with a vocabulary of {size!r}, which no known prompt goes with.", entry
        )
    return found


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not config:
        refuse_hlora(folder)
        raise VgError(f"'{folder}' has no config.json.", "Give the folder of a whole checkpoint.")
    return config
