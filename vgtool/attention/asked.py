"""A pass over questions, once it is through the model: what was read, and what continues or runs again from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from torch import Tensor

from vgtool.attention.asks import Ask, Change
from vgtool.attention.sinks import Flags, Kind


@dataclass(slots=True)
class Asked:
    """Questions that have been through the model: what was read, and what a continuation needs."""

    asks: tuple[Ask, ...]
    logits: Tensor
    """At each question's last prompt token, float32 [Q, vocabulary]."""
    maps: dict[int, Tensor]
    """Layer -> float32 [Q, H, N], rows read; image-space token order."""
    cache: list[Any]
    """What the session that made it continues from: per layer, keys and values of the pass's columns [1, Hk, S, D]."""
    hidden: dict[int, Tensor]
    """Layer -> its input [1, S, hidden], for the layers asked to be kept."""
    changes: tuple[Change | None, ...]
    """What each question's attention was edited by."""
    likelihood: Tensor
    """Log-probability of each question's target in nats, float64 [Q]; 0 where it has none."""
    sinks: dict[Kind, Flags] = field(default_factory=dict)
    """Which of the pass's columns are sinks, where a change asks."""

    def first(self, count: int, cache: list[Any], sinks: dict[Kind, Flags]) -> "Asked":
        """The first `count` questions, with what continues them; hidden states are let go."""
        maps = {layer: one[:count] for layer, one in self.maps.items()}
        asks, changes, likelihood = self.asks[:count], self.changes[:count], self.likelihood[:count]
        return Asked(asks, self.logits[:count], maps, cache, {}, changes, likelihood, sinks)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """[start, stop) of each question's columns in the pass."""
        return spans_of(self.asks)


def spans_of(asks: Sequence[Ask]) -> list[tuple[int, int]]:
    """[start, stop) of each question's rows in a pass."""
    stops = list(accumulate(len(ask.tail) for ask in asks))
    return list(zip([0, *stops[:-1]], stops, strict=True))
