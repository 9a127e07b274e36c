"""What the continuations of some images share: their heads and image tokens, through the model once, and its cache."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from vgtool.attention.tap import Tap, stopping, tapped
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Vision


@dataclass(slots=True)
class Prefix:
    """Images of one form, each behind the same head: P columns an image, laid one image after the other."""

    cache: list[tuple[Tensor, Tensor]]
    """Per layer, keys and values [1, Hk, images * P, D]."""
    images: int
    length: int
    """P"""
    head: int
    """Tokens before the first image token."""
    columns: Tensor
    """Where in each prefix its grid tokens stand, image-space order [N]."""
    overview: Tensor
    """Where in each prefix its overview tokens stand (thumbnail tiles)."""
    next_position: tuple[int, ...]
    """Of each image, the rope position of the first token that would follow."""
    sinks: dict[Any, Any] = field(default_factory=dict)
    """By kind, sink dimensions and which columns are sinks, once they were asked for (vgtool.attention.sinks)."""


class Behind(DynamicLayer):
    """A layer of a cache whose columns stand behind a prefix that it shares and never copies for good."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.before = (keys, values)
        self.again = False
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys[:, :, :0], values[:, :, :0]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append; everything there is, the prefix first. `again`: it has been appended, by a pass of all rows."""
        if not self.again:
            if self.keys.shape[2]:
                key_states, value_states = joined([self.keys, key_states]), joined([self.values, value_states])
            self.keys, self.values = key_states, value_states
        return joined([self.before[0], self.keys]), joined([self.before[1], self.values])

    def get_seq_length(self) -> int:
        return self.before[0].shape[2] + self.keys.shape[2]


def joined(states: Sequence[Tensor]) -> Tensor:
    """Keys or values [1, Hk, L, D] one after the other, a token's heads side by side in memory, as groups are read."""
    return torch.cat([one.transpose(1, 2) for one in states], 1).transpose(1, 2)


def behind(
    adapter: Adapter, before: Sequence[tuple[Tensor, Tensor]], own: Sequence[tuple[Tensor, Tensor]] = ()
) -> Cache:
    """A cache that continues what stands `before`, with `own` columns already there."""
    cache = adapter.cache()
    layers = [Behind(keys, values) for keys, values in before]
    for layer, (keys, values) in zip(layers, own, strict=False):
        layer.keys, layer.values = keys, values
    cache.layers = [*layers]
    return cache


def encode(adapter: Adapter, scenes: Sequence[Sequence[Vision]], head: Sequence[int]) -> Prefix:
    """Head and images of prompts of one form through the model, all in one batch."""
    inputs = adapter.together(scenes, head)
    cache = adapter.cache()
    with tapped(Tap(torch.empty(0), stop=adapter.layers - 1)), stopping():  # of the last layer, keys and values are all
        adapter.forward(inputs.kwargs, [inputs.length - 1], cache)
    empty = torch.empty(0, dtype=torch.long, device=adapter.device)
    flat = []
    layers: Sequence[Any] = cache.layers
    for layer in layers:
        flat.append((_laid(layer.keys), _laid(layer.values)))
        layer.keys = layer.values = None  # one layer at a time is there twice
    columns = torch.cat([*inputs.columns, empty])
    overview = torch.cat([*inputs.overview, empty])
    return Prefix(flat, len(scenes), inputs.length, len(head), columns, overview, inputs.next_positions)


def _laid(states: Tensor) -> Tensor:
    """[B, Hk, P, D] -> [1, Hk, B * P, D]"""
    batch, heads, length, dim = states.shape
    return states.transpose(1, 2).reshape(1, batch * length, heads, dim).transpose(1, 2)
