"""Which adapter reads a checkpoint folder, told from its config.json alone. No torch here.

Every published layout names itself by `model_type`; the original LLaVA layouts of several models share one and are
told apart by their vocabulary, which fine-tunes grow by a token or more. The registry entry a layout is known from
lends its prompt; where none is known the user's own entry has to.
"""

from pathlib import Path
from typing import Any

from vgtool.errors import VgError
from vgtool.models.files import PARTS, read_json

NATIVE = {
    "llava": "llava",
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "internvl": "internvl",
    "gemma3": "gemma3",
}
"""model_type of a transformers-native checkpoint -> adapter key."""

VOCABULARIES = {
    range(32000, 33000): "llava-1.5-7b-original",
    range(64000, 65000): "huatuogpt-vision-34b",
    range(128000, 130000): "llava-tri",
}
"""Vocabulary of an original LLaVA over Llama -> registry entry whose language model it is: Vicuna, Yi, Llama 3."""


def recognise(folder: Path) -> tuple[str, str | None]:
    """(adapter key, registry entry that lends the prompt, if any) of a checkpoint folder."""
    config = _config(folder)
    kind = config.get("model_type")
    if all((folder / part).is_dir() for part in PARTS):
        layers = _config(folder / "llm").get("num_hidden_layers")
        return "vila", "vila-m3-13b" if layers == 40 else "vila-m3-8b"
    if kind == "llava" and "mm_projector_type" in config:  # the earliest LLaVA-1.5 files call themselves so
        return "llava-original", _original("llava_llama", config, folder)
    if kind in NATIVE:
        return NATIVE[kind], None
    if kind == "internvl_chat":
        return "internvl-chat", "medrega"
    if kind in ("llava_qwen2", "llava_mistral", "llava_llama"):
        return "llava-original", _original(kind, config, folder)
    raise VgError(
        f"'{folder}' is of a layout vgtool does not know (model_type {kind!r}).",
        f"Known: {', '.join(NATIVE)}, llava_qwen2, llava_mistral, llava_llama, internvl_chat, VILA's three folders.",
    )


def _original(kind: str, config: dict[str, Any], folder: Path) -> str:
    if kind == "llava_qwen2":
        tower = str(config.get("mm_vision_tower", "")).lower()
        return "huatuogpt-v-bio" if "biomedclip" in tower else "huatuogpt-vision-7b"
    if kind == "llava_mistral":
        return "llava-med"
    size = config.get("vocab_size", 32000)  # Llama's own, which LlamaConfig takes too
    for sizes, entry in VOCABULARIES.items():
        if size in sizes:
            return entry
    name = folder.resolve().name
    raise VgError(
        f"'{folder}' is an original LLaVA with a vocabulary of {size!r}, which no known prompt goes with.",
        f"Give its prompt in an entry '{name}' (adapter llava-original) of DIR/models.yaml, and add --registry DIR.",
    )


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not config:
        raise VgError(f"'{folder}' has no config.json.", "Give the folder of a whole checkpoint.")
    return config
