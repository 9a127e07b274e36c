"""The sizes of a model as its entry and files state them. No weights are read."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vgtool.errors import VgError
from vgtool.registry import ModelSpec
from vgtool.runs.deal import IMAGE_TOKENS
from vgtool.runs.memory import Shape


def shape(spec: ModelSpec, folder: Path | None) -> Shape:
    """Sizes of a model from its registry entry, and from its config and weight headers where it is on disk."""
    config = _json(folder / "config.json") if folder else {}
    text = config.get("text_config") or config.get("llm_config") or config
    parameters = spec.parameters * 1e9 if spec.parameters else (_parameters(folder) if folder else 0)
    if not parameters:
        raise VgError(
            f"The size of '{spec.name}' is not known: models.yaml has no `parameters` and no weights are on disk.",
            "Add `parameters` (in billions) to its entry, or fetch the model.",
        )
    layers = int(spec.layers or text.get("num_hidden_layers") or 32)
    heads = int(spec.heads or text.get("num_attention_heads") or 32)
    width = int(text.get("head_dim") or text.get("hidden_size", 128 * heads) / heads)
    kv = int(text.get("num_key_value_heads") or heads) * width
    tokens, assumed = _image_tokens(spec.grid or "", config.get("vision_config") or {})
    hidden = int(text.get("hidden_size") or 128 * heads)
    return Shape(parameters, 4.0 if spec.embedded else 2.0, layers, heads, kv, tokens, hidden, assumed)


def _image_tokens(grid: str, vision: Mapping[str, Any]) -> tuple[int, str]:
    """Tokens of an image, and where they are a guess what the grid follows."""
    stated = re.match(r"(\d+) x (\d+)(.*)", grid)
    if stated:
        return int(stated[1]) * int(stated[2]), grid if "tile" in stated[3] else ""
    size, patch = vision.get("image_size"), vision.get("patch_size")
    if not grid and isinstance(size, int) and isinstance(patch, int):
        return (size // patch) ** 2, ""
    return IMAGE_TOKENS, grid or "not stated"


def _parameters(folder: Path) -> int:
    """Numbers in a folder's safetensors, from their headers."""
    total = 0
    for path in folder.rglob("*.safetensors"):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > 100_000_000:
                raise VgError(f"'{path}' is not a whole safetensors file.", "Fetch it again.")
            header = json.loads(file.read(size) or b"{}")
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise VgError(f"Cannot read '{path}': {error}.", "Fetch the checkpoint again.") from None
    return value if isinstance(value, dict) else {}
