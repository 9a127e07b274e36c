"""Which adapter reads a checkpoint folder, told from its config.json alone. No torch here.

Every published layout names itself by `model_type`; the original LLaVA layouts of several models share one and are
told apart by their vocabulary. The registry entry a layout is known from lends its prompt.
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


def recognise(folder: Path) -> tuple[str, str | None]:
    """(adapter key, registry entry that lends the prompt, if any) of a checkpoint folder."""
    config = _config(folder)
    kind = config.get("model_type")
    if all((folder / part).is_dir() for part in PARTS):
        layers = _config(folder / "llm").get("num_hidden_layers")
        return "vila", "vila-m3-13b" if layers == 40 else "vila-m3-8b"
    if kind == "llava" and "mm_projector_type" in config:  # the earliest LLaVA-1.5 files call themselves so
        return "llava-original", _original("llava_llama", config)
    if kind in NATIVE:
        return NATIVE[kind], None
    if kind == "internvl_chat":
        return "internvl-chat", "medrega"
    if kind in ("llava_qwen2", "llava_mistral", "llava_llama"):
        return "llava-original", _original(kind, config)
    raise VgError(
        f"'{folder}' is of a layout vgtool does not know (model_type {kind!r}).",
        f"Known: {', '.join(NATIVE)}, llava_qwen2, llava_mistral, llava_llama, internvl_chat, VILA's three folders.",
    )


def _original(kind: str, config: dict[str, Any]) -> str:
    if kind == "llava_qwen2":
        tower = str(config.get("mm_vision_tower", "")).lower()
        return "huatuogpt-v-bio" if "biomedclip" in tower else "huatuogpt-vision-7b"
    if kind == "llava_mistral":
        return "llava-med"
    by_vocabulary = {64000: "huatuogpt-vision-34b", 128256: "llava-tri"}
    return by_vocabulary.get(config.get("vocab_size", 0), "llava-1.5-7b-original")


def _config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if not config:
        raise VgError(f"'{folder}' has no config.json.", "Give the folder of a whole checkpoint.")
    return config
