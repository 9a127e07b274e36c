"""The session's interface over whole-prompt passes, for models whose image tokens see the question (prefix LMs).

Nothing is shared between questions: every question and every change is a pass over the full prompt, with the same
reading and editing. Exact for every family, and as slow as not sharing is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask, Change
from vgtool.attention.decode import Answer
from vgtool.attention.session import edits_of
from vgtool.attention.sinks import Kind, Sinks, dimensions, massive, watching
from vgtool.attention.tap import Tap, tapped
from vgtool.attention.targets import likelihoods, scored_rows
from vgtool.errors import SampleError
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Inputs, Vision


@dataclass(slots=True)
class _Thread:
    """One question's own cache and place."""

    cache: Cache
    inputs: Inputs
    columns: Tensor
    sinks: dict[Kind, Sinks] = field(default_factory=dict)


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
        return asked.first(count, asked.cache[:count], asked.sinks)

    def _passes(self, asks: tuple[Ask, ...], read: frozenset[int], changes: tuple[Change | None, ...]) -> Asked:
        done = [self._pass(ask, change, read) for ask, change in zip(asks, changes, strict=True)]
        maps = {layer: torch.cat([maps[layer] for _, maps, _ in done]) for layer in read}
        last, likelihood = likelihoods(asks, torch.cat([logits for logits, _, _ in done]))
        return Asked(asks, last, maps, [thread for _, _, thread in done], {}, changes, likelihood)

    def _pass(self, ask: Ask, change: Change | None, read: frozenset[int]) -> tuple[Tensor, dict[int, Tensor], _Thread]:
        if change is not None and change.tilt is not None:
            raise SampleError("no_shared_prefix", "tilting needs an image whose prefix questions share")
        visions = () if ask.blind else self.scenes[ask.image]
        inputs = self.adapter.inputs(visions, self.head, ask.tail)
        device, first = self.adapter.device, inputs.length - len(ask.tail)
        columns = torch.cat([*inputs.columns, torch.empty(0, dtype=torch.long, device=device)])
        rows = [first + row for row in ask.rows(ask.read)]
        edits = edits_of([(change, [first + row for row in ask.rows(change.rows)])] if change else [])
        tap = Tap(columns, read, rows, np.zeros(len(rows), np.int64), edits, overview=overview_of(inputs))
        cache, seen = self.adapter.cache(), []
        if change is not None and change.reweigh is not None:
            tap.sinks = self._sinks(change.reweigh.kind, inputs)
            seen = [one.see for one in tap.sinks.values()]
        with tapped(tap), watching(self.adapter.text.layers, seen):  # type: ignore[arg-type]
            kwargs = self.adapter.answered(inputs.kwargs, max(len(ask.target) - 1, 0))
            logits = self.adapter.forward(kwargs, [first + row for row in scored_rows(ask)], cache)
        maps = {layer: values.cpu() for layer, values in tap.maps.items()}
        return logits[0], maps, _Thread(cache, inputs, columns, tap.sinks)

    def _sinks(self, kind: Kind, inputs: Inputs) -> dict[Kind, Sinks]:
        """What a pass will see of its sinks; dimensions that are not listed take another pass."""
        states, layers = dict[int, Tensor](), self.adapter.text.layers
        if kind[1] is None:
            with watching(layers, [lambda at, hidden: states.update({at: massive(hidden, kind[0])})]):  # type: ignore[arg-type]
                self.adapter.forward(inputs.kwargs, [inputs.length - 1])
        return {kind: Sinks(kind[0], dimensions(kind, states), {})}

    def state(self, packs: Sequence[Asked], keep: frozenset[int] = frozenset()) -> "Decoding":
        """All questions of `packs`, each over its own cache. The packs' caches grow: take one state per pack. `keep` is
        not needed, since a rerun starts over."""
        threads = [thread for pack in packs for thread in pack.cache]
        changes = [change for pack in packs for change in pack.changes]
        asks = [ask for pack in packs for ask in pack.asks]
        return Decoding(self, threads, changes, torch.cat([pack.logits for pack in packs]), asks)


def overview_of(inputs: Inputs) -> Tensor | None:
    """Columns of the overview tokens of all images; None without any."""
    return torch.cat(inputs.overview) if inputs.overview else None


@dataclass(slots=True)
class Decoding:
    """Answers under way, one forward pass per row and token."""

    session: WholeSession
    threads: list[_Thread]
    changes: Sequence[Change | None]
    logits: Tensor
    asks: Sequence[Ask]

    def answered(self, answers: Mapping[int, Answer]) -> Asked:
        """As session.Decoding.answered; a rerun takes the asks alone."""
        asks = tuple(self.asks[row].answered(one.tokens) for row, one in answers.items())
        likelihood = torch.tensor([one.likelihood for one in answers.values()], dtype=torch.float64)
        return Asked(asks, self.logits[list(answers)], {}, [], {}, (None,) * len(asks), likelihood)

    def step(self, rows: Sequence[int], tokens: Tensor) -> Tensor:
        """As session.Decoding.step."""
        return torch.cat([self._one(row, token) for row, token in zip(rows, tokens, strict=True)])

    def _one(self, row: int, token: Tensor) -> Tensor:
        adapter, thread, change = self.session.adapter, self.threads[row], self.changes[row]
        made = thread.cache.get_seq_length() - thread.inputs.length
        position = torch.tensor([[thread.inputs.next_position + made]], device=adapter.device)
        edits = edits_of([(change, [0])] if change and change.decode else [])
        tap = Tap(thread.columns, edits=edits, overview=overview_of(thread.inputs))
        for kind, known in thread.sinks.items():  # no generated token is one
            tap.sinks[kind] = Sinks(kind[0], known.dims, {})
            for layer, flags in known.flags.items():
                tap.sinks[kind].flags[layer] = torch.cat([flags, flags.new_zeros(made + 1)])
        with tapped(tap):
            return adapter.forward(adapter.continuation(token[None, None], position), [0], thread.cache)[0]
