"""Two decodings as one, so that rows of one session can be guided by rows of another (another picture)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vgtool.attention.decode import Steps


@dataclass(slots=True)
class Beside:
    """The rows of `first`, then those of `second`."""

    first: Steps
    second: Steps
    logits: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.logits = torch.cat([self.first.logits, self.second.logits])

    def step(self, rows: Sequence[int], tokens: Tensor) -> Tensor:
        """As session.Decoding.step; `rows` ascend."""
        count = len(self.first.logits)
        own = sum(row < count for row in rows)
        made = []
        if own:
            made.append(self.first.step(rows[:own], tokens[:own]))
        if own < len(rows):
            made.append(self.second.step([row - count for row in rows[own:]], tokens[own:]))
        return torch.cat(made)
