"""The session's interface over whole-prompt passes, for models whose image tokens see the question (prefix LMs).

Nothing is shared between questions: every question and every change is a pass over the full prompt, with the same
reading and editing. Exact for every family, and as slow as not sharing is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from vgtool.attention.asking import Ask, Asked, Change, edits_of
from vgtool.attention.tap import Tap, tapped
from vgtool.models.adapter import Adapter, Inputs, Vision


@dataclass(slots=True)
class _Thread:
    """One question's own cache and place."""

    cache: Cache
    inputs: Inputs
    columns: Tensor


@dataclass(slots=True)
class WholeSession:
    """Prompts under one chat head, each with an image (or several), nothing shared. Run inside torch.inference_mode."""

    adapter: Adapter
    scenes: Sequence[Sequence[Vision]]
    head: tuple[int, ...]

    def ask(self, asks: Sequence[Ask], read: frozenset[int] = frozenset(), keep: frozenset[int] = frozenset()) -> Asked:
        """As Session.ask; `keep` is not needed, since a rerun starts over."""
        return self._passes(tuple(asks), read, (None,) * len(asks))

    def look(self, asks: Sequence[Ask], read: frozenset[int]) -> dict[int, Tensor]:
        """As Session.look, by whole passes."""
        return self.ask(asks, read).maps

    def rerun(self, asked: Asked, changes: Sequence[Change], read: frozenset[int] = frozenset()) -> Asked:
        """As Session.rerun, from the first layer."""
        return self._passes(tuple(asked.asks[change.index] for change in changes), read, tuple(changes))

    def first(self, asked: Asked, count: int) -> Asked:
        """As Session.first."""
        maps = {layer: one[:count] for layer, one in asked.maps.items()}
        return Asked(asked.asks[:count], asked.logits[:count], maps, asked.cache[:count], {}, asked.changes[:count])

    def _passes(self, asks: tuple[Ask, ...], read: frozenset[int], changes: tuple[Change | None, ...]) -> Asked:
        done = [self._pass(ask, change, read) for ask, change in zip(asks, changes, strict=True)]
        maps = {layer: torch.cat([maps[layer] for _, maps, _ in done]) for layer in read}
        return Asked(asks, torch.cat([logits for logits, _, _ in done]), maps, [t for _, _, t in done], {}, changes)

    def _pass(self, ask: Ask, change: Change | None, read: frozenset[int]) -> tuple[Tensor, dict[int, Tensor], _Thread]:
        visions = () if ask.blind else self.scenes[ask.image]
        inputs = self.adapter.inputs(visions, self.head, ask.tail)
        device, first = self.adapter.device, inputs.length - len(ask.tail)
        columns = torch.cat([*inputs.columns, torch.empty(0, dtype=torch.long, device=device)])
        rows = [first + row for row in ask.rows(ask.read)]
        edits = edits_of([(change, [first + row for row in ask.rows(change.rows)])] if change else [])
        tap = Tap(columns, read, rows, np.zeros(len(rows), np.int64), edits)
        cache = self.adapter.cache()
        with tapped(tap):
            logits = self.adapter.forward(inputs.kwargs, [inputs.length - 1], cache)
        maps = {layer: values.cpu() for layer, values in tap.maps.items()}
        return logits[0], maps, _Thread(cache, inputs, columns)

    def state(self, packs: Sequence[Asked]) -> "Decoding":
        """All questions of `packs`, each over its own cache. The packs' caches grow: take one state per pack."""
        threads = [thread for pack in packs for thread in pack.cache]
        changes = [change for pack in packs for change in pack.changes]
        return Decoding(self, threads, changes, torch.cat([pack.logits for pack in packs]))


@dataclass(slots=True)
class Decoding:
    """Answers under way, one forward pass per row and token."""

    session: WholeSession
    threads: list[_Thread]
    changes: Sequence[Change | None]
    logits: Tensor

    def step(self, rows: Sequence[int], tokens: Tensor) -> Tensor:
        """As session.Decoding.step."""
        return torch.cat([self._one(row, token) for row, token in zip(rows, tokens, strict=True)])

    def _one(self, row: int, token: Tensor) -> Tensor:
        adapter, thread, change = self.session.adapter, self.threads[row], self.changes[row]
        made = thread.cache.get_seq_length() - thread.inputs.length
        position = torch.tensor([[thread.inputs.next_position + made]], device=adapter.device)
        edits = edits_of([(change, [0])] if change and change.decode else [])
        with tapped(Tap(thread.columns, edits=edits)):
            return adapter.forward(adapter.continuation(token[None, None], position), [0], thread.cache)[0]
