"""Weights that a native class holds otherwise than a checkpoint stores them, made when they are used.

Each stands in for a tensor of `Checkpoint.tensors`: indexing reads it, `get_shape` does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vgtool.models.checkpoint import shape


@dataclass(frozen=True, slots=True)
class Grouped:
    """Queries, keys or values out of InternLM2's wqkv, whose rows are, for each key head: the queries that share it,
    the key, the value."""

    tensor: Any
    groups: int
    """Query heads for each key head."""
    width: int
    """Rows of one head."""
    part: str
    """q, k or v."""

    def __getitem__(self, index: Any) -> torch.Tensor:
        whole = self.tensor[...]
        heads = whole.reshape(-1, self.groups + 2, self.width, *whole.shape[1:])
        taken = {"q": slice(0, self.groups), "k": slice(-2, -1), "v": slice(-1, None)}[self.part]
        return heads[:, taken].reshape(-1, *whole.shape[1:])[index]

    def get_shape(self) -> list[int]:
        """As a safetensors slice has it."""
        rows, *rest = shape(self.tensor)
        return [rows // (self.groups + 2) * (self.groups if self.part == "q" else 1), *rest]


@dataclass(frozen=True, slots=True)
class Merged:
    """A linear layer's weight with its low-rank update: base + scale * high @ low, worked out in float32."""

    base: Any
    low: Any
    high: Any
    scale: float

    def __getitem__(self, index: Any) -> torch.Tensor:
        base = self.base[...]
        update = self.high[...].float() @ self.low[...].float()
        return (base.float() + self.scale * update).to(base.dtype)[index]

    def get_shape(self) -> list[int]:
        """As a safetensors slice has it."""
        return shape(self.base)


def merged(tensors: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Weights as peft leaves them in an unmerged model, under the names of the model itself.

    NAME.base_layer.weight (NAME.weight in older versions), NAME.lora_A.default.weight and NAME.lora_B.default.weight
    become NAME.weight. What lacks a part keeps its name, under which no model has a place for it.
    """
    out = dict(tensors)
    for name in tensors:
        stem, found, _ = name.partition(".lora_A.default.weight")
        high, bases = f"{stem}.lora_B.default.weight", [f"{stem}{middle}.weight" for middle in (".base_layer", "")]
        base = next((one for one in bases if one in out), None)
        if found and high in out and base is not None:
            out[f"{stem}.weight"] = Merged(out.pop(base), out.pop(name), out.pop(high), scale)
            if f"{stem}.base_layer.bias" in out:
                out[f"{stem}.bias"] = out.pop(f"{stem}.base_layer.bias")
    return out
