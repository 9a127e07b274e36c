"""The sizes of a model as its entry and files state them, and the memory and disk that follow. No weights are read."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgtool.errors import VgError
from vgtool.records import GENERAL_QUESTION
from vgtool.registry import ModelSpec
from vgtool.runs.dealing import CHARACTERS_PER_TOKEN, IMAGE_TOKENS, TEMPLATE_TOKENS

PACK_TOKENS = 512
"""Of an image's questions in one pass."""
MOST_IMAGES = 16
"""In one pass: more of them gain little."""
SHARE_OF_FREE = 0.5
"""Of the free memory that a batch is to take; what the arithmetic leaves out has the rest."""
WORKING = 20
"""Numbers a token that a layer works on, in widths of its hidden state."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that an estimate needs."""

    parameters: float
    bytes_per_weight: float
    layers: int
    heads: int
    kv_width: int
    """Keys and values of one token and layer, in numbers."""
    image_tokens: int
    width: int
    """Of the hidden states, in numbers."""
    assumed: str = ""
    """Why `image_tokens` is a guess; empty where the grid is known."""


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


def batch_bytes(shape: Shape, images: int, tail: int, methods: int) -> float:
    """Memory that a batch takes beside the weights, with `tail` tokens of questions an image: keys and values of
    prefixes and of every question, asked and edited twice a method; and what one layer of the longest pass works on."""
    general = TEMPLATE_TOKENS + math.ceil(len(GENERAL_QUESTION) / CHARACTERS_PER_TOKEN)
    asked = min(tail, PACK_TOKENS) + general
    edited = 2 * methods * min(tail, PACK_TOKENS)
    kept = shape.image_tokens + TEMPLATE_TOKENS + asked + edited
    caches = images * kept * shape.layers * shape.kv_width * 2 * shape.bytes_per_weight
    longest = images * max(shape.image_tokens + TEMPLATE_TOKENS, asked, min(edited, PACK_TOKENS))
    return caches + longest * WORKING * shape.width * shape.bytes_per_weight


def images_that_fit(shape: Shape, free: float, methods: int) -> int:
    """Images a pass, of four questions each, that `free` bytes are likely to hold; MOST_IMAGES at most."""
    tail = 4 * (TEMPLATE_TOKENS + 120 // CHARACTERS_PER_TOKEN)
    one = batch_bytes(shape, 1, tail, methods)
    return max(min(int(SHARE_OF_FREE * free / one), MOST_IMAGES), 1)


def free_memory() -> int:
    """Bytes of the host's memory that programs may still take; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def row_bytes(layers: int, heads: int, tokens: int, methods: int, maps: str) -> int:
    """Bytes that one sample adds to the parts: float32 maps, which hardly compress, and some text."""
    if methods:
        return (1 + methods) * 600 + methods * tokens * 8
    numbers = 3 * (layers + layers * heads)
    numbers += 2 * layers * tokens if maps != "none" else 0
    numbers += 2 * layers * heads * tokens if maps == "heads" else 0
    return 4 * numbers + 600
