"""Answers that a pass is given instead of making them: which rows say how likely they are, and how likely that is."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Scored(Protocol):
    """A question, perhaps with an answer behind it."""

    @property
    def tail(self) -> tuple[int, ...]: ...

    @property
    def target(self) -> tuple[int, ...]: ...


def scored_rows(ask: Scored) -> range:
    """Rows of the tail whose logits are wanted: the prompt's last, and the target's but its last token."""
    return range(len(ask.tail) - max(len(ask.target), 1), len(ask.tail))


def likelihoods(asks: Sequence[Scored], logits: Tensor) -> tuple[Tensor, Tensor]:
    """From the logits of all scored rows [R, vocabulary]: those at each prompt's last token [Q, vocabulary], and the
    log-probability of each target, in nats, float64 [Q] on the CPU; 0 where there is none."""
    found = torch.zeros(len(asks), dtype=torch.float64)
    if not any(ask.target for ask in asks):
        return logits, found
    sizes = [len(scored_rows(ask)) for ask in asks]
    firsts = [sum(sizes[:at]) for at in range(len(sizes))]
    rows = [first + at for first, ask in zip(firsts, asks, strict=True) for at in range(len(ask.target))]
    tokens = torch.tensor([token for ask in asks for token in ask.target], device=logits.device)
    each = logits[rows].double().log_softmax(-1).gather(1, tokens[:, None])[:, 0].cpu()
    of = torch.tensor([at for at, ask in enumerate(asks) for _ in ask.target])
    return logits[firsts], found.index_add(0, of, each)
