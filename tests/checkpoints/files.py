"""Weights, settings and places of a tiny checkpoint, as a published repository has them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


@dataclass
class Published:
    """A checkpoint on disk and the model it came from."""

    folder: Path
    twin: Any
    encode: Callable[[str], list[int]]
    """Ids of one stretch of text or special tokens, made without transformers."""
    layers: int
    heads: int


def randomised(model: Any, seed: int = 0) -> Any:
    """Weights large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1 if parameter.dim() > 1 else 0.3)
    return model.eval()


def published(twin: Any, table: tuple[tuple[str, str], ...], fused: str = "") -> dict[str, Tensor]:
    """The twin's weights under published names; `fused`: name of an attention block whose q, k, v are one tensor."""
    out: dict[str, Tensor] = {}
    split: dict[str, dict[str, Tensor]] = {}
    for name, value in twin.state_dict().items():
        for native, original in table:
            if native in name:
                name = name.replace(native, original, 1)
        block, _, rest = name.partition(".attention.")
        if fused and rest[1:].startswith("_proj."):
            split.setdefault(f"{block}{fused}.qkv.{rest[7:]}", {})[rest[0]] = value
        else:
            out[name] = value.contiguous()
    return out | {name: torch.cat([parts[one] for one in "qkv"]) for name, parts in split.items()}


def save(folder: Path, tensors: dict[str, Tensor], *, shards: int = 2, pickled: bool = False) -> None:
    """Weights as a repository has them: one file, or shards with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, ending = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    names, files = sorted(tensors), {}
    for shard in range(shards):
        file = f"{stem}.{ending}" if shards == 1 else f"{stem}-{shard + 1:05}-of-{shards:05}.{ending}"
        part = {name: tensors[name] for name in names[shard::shards]}
        if pickled:
            torch.save(part, folder / file)
        else:
            save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    if shards > 1:
        write(folder / f"{stem}.{ending}.index.json", {"metadata": {}, "weight_map": files})


def write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def text_fields(vocabulary: int, layers: int, heads: int, groups: int, **others: Any) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary, "hidden_size": 4 * heads, "intermediate_size": 64, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": groups, "max_position_embeddings": 4096,
        "hidden_act": "silu", "initializer_range": 0.02, "attention_dropout": 0.0, "tie_word_embeddings": False,
        **others,
    }  # fmt: skip


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_cache(cache: Path, hub: str, make: Callable[[Path], Any], kind: str = "models") -> Any:
    """Write a checkpoint (or one of the "datasets") where the Hugging Face cache would have it after a download."""
    home = cache / f"{kind}--{hub.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    return make(home / "snapshots" / COMMIT)
