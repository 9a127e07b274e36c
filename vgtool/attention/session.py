"""Several images, many questions, many methods: an image's prefix is computed once and everything continues from it.

    encode   heads and image tokens through the model, images of one form in one batch
    ask      questions and general prompts of all images in one row behind the prefixes; rows read, hidden states kept
    rerun    the same questions with edited attention, from the first edited layer up (below it nothing changed)
    decode   greedy answers of every pass at once

A pass is one row [q1 | q2 | ...] without padding, rope positions restarting for each question; attention takes it apart
(packing.py). One image is a session of one. A model whose image tokens see the question cannot share a prefix;
`whole.WholeSession` is the same interface over whole-prompt passes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from vgtool.attention.asked import Asked, spans_of
from vgtool.attention.asks import Ask, Change
from vgtool.attention.decode import Answer
from vgtool.attention.edits import edits_of, picked
from vgtool.attention.layers import kept, narrowed, resumed
from vgtool.attention.packing import Ints, Part, pack
from vgtool.attention.prefix import Prefix, behind, encode, joined
from vgtool.attention.sinks import Flags, Kind, of_pass, of_step, watching
from vgtool.attention.tap import Edit, Tap, stopping, tapped
from vgtool.attention.targets import likelihoods, scored_rows
from vgtool.attention.tilt import tilted
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Vision


@dataclass(slots=True)
class Session:
    """Prompts of one form under one chat head, each with an image (or several). Run inside torch.inference_mode."""

    adapter: Adapter
    scenes: Sequence[Sequence[Vision]]
    """The images of each prompt."""
    head: tuple[int, ...]
    prefix: Prefix = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = encode(self.adapter, self.scenes, self.head)

    # ---- passes ------------------------------------------------------------------------------------------------

    def ask(self, asks: Sequence[Ask], read: frozenset[int] = frozenset(), keep: frozenset[int] = frozenset()) -> Asked:
        """One pass over all `asks`. `read`: layers to read; `keep`: layers whose input a rerun will start from."""
        return self._pass(tuple(asks), 0, None, [], read, keep, (None,) * len(asks))

    def look(self, asks: Sequence[Ask], read: frozenset[int]) -> dict[int, Tensor]:
        """The maps of `ask` alone: the pass ends in the last layer that is read."""
        cache = behind(self.adapter, self.prefix.cache)
        tap, fed, _ = self._ready(tuple(asks), read, (None,) * len(asks))
        tap.stop = max(read)
        with tapped(tap), stopping():
            self.adapter.forward(fed, [0], cache)
        return {layer: values.cpu() for layer, values in tap.maps.items()}

    def rerun(self, asked: Asked, changes: Sequence[Change], read: frozenset[int] = frozenset()) -> Asked:
        """The questions again under edited attention, restarted at the first edited layer, whose input `asked` kept."""
        start = min(change.start for change in changes)
        spans = asked.spans
        columns = np.concatenate([np.arange(*spans[change.index]) for change in changes])
        index = torch.from_numpy(columns).to(self.adapter.device)
        low = [tuple(picked(one, index, 2) for one in pair) for pair in asked.cache[:start]]
        hidden = asked.hidden[start]
        asks = tuple(asked.asks[change.index] for change in changes)
        return self._pass(asks, start, picked(hidden, index, hidden.dim() - 2), low, read, frozenset(), tuple(changes))

    def first(self, asked: Asked, count: int) -> Asked:
        """The first `count` questions of a pass; what the others held is let go."""
        columns = sum(len(ask.tail) for ask in asked.asks[:count])
        cache = [tuple(joined([one[:, :, :columns]]) for one in pair) for pair in asked.cache]
        sinks = {kind: {layer: one[:columns] for layer, one in flags.items()} for kind, flags in asked.sinks.items()}
        return asked.first(count, cache, sinks)

    def _pass(
        self,
        asks: tuple[Ask, ...],
        start: int,
        given: Tensor | None,
        low: list[Any],
        read: frozenset[int],
        keep: frozenset[int],
        changes: tuple[Change | None, ...],
    ) -> Asked:
        tap, fed, scored = self._ready(asks, read, changes)
        cache: Any = behind(self.adapter, self.prefix.cache, low)
        inner: Any = self.adapter.text.layers
        hidden: dict[int, Tensor] = {}
        tap.sinks = of_pass(self, changes)
        told = [*tap.sinks.values(), *tilted(self, asks, tap, spans_of(asks))]
        seen, narrow = watching(inner, [one.see for one in told]), self._narrow(asks, cache, tap, changes)
        with tapped(tap), resumed(inner, start, given), kept(inner, keep, hidden), seen, narrow:
            logits = self.adapter.forward(fed, scored, cache)
        own = [(layer.keys, layer.values) for layer in cache.layers]
        maps = {layer: values.cpu() for layer, values in tap.maps.items()}
        last, likelihood = likelihoods(asks, logits[0])
        sinks = {kind: one.own(sum(len(ask.tail) for ask in asks)) for kind, one in tap.sinks.items()}
        return Asked(asks, last, maps, own, hidden, changes, likelihood, sinks)

    def _narrow(
        self, asks: tuple[Ask, ...], cache: Any, tap: Tap, changes: tuple[Change | None, ...]
    ) -> AbstractContextManager[None]:
        """The last layer for the rows of each question whose logits are wanted, and for those that are read there.
        What is tilted knows its rows by their place in the whole pass."""
        inner: Any = self.adapter.text.layers
        layer = len(inner) - 1
        first = [min(ask.rows(ask.read), default=len(ask.tail)) if layer in tap.read else len(ask.tail) for ask in asks]
        sizes = [max(len(ask.tail) - row, len(scored_rows(ask))) for ask, row in zip(asks, first, strict=True)]
        stops = list(accumulate(len(ask.tail) for ask in asks))
        if 2 * sum(sizes) > stops[-1] or tap.tilts:
            return nullcontext()
        here = tuple(change if change and layer in change.layers else None for change in changes)
        short = self._tapping(Places.of(self.prefix, asks), sizes, tap.read & {layer}, here)
        short.stop, short.sinks = layer, tap.sinks
        rows = np.concatenate([np.arange(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)])
        return narrowed(inner[layer], cache.layers[layer], rows, tap, short)

    def _ready(
        self, asks: tuple[Ask, ...], read: frozenset[int], changes: tuple[Change | None, ...]
    ) -> tuple[Tap, dict[str, Any], list[int]]:
        """A pass: what it reads and edits, what goes in, and the rows whose logits are wanted."""
        places = Places.of(self.prefix, asks)
        sizes = [len(ask.tail) for ask in asks]
        tap = self._tapping(places, sizes, read, changes)
        ids = torch.tensor([[token for ask in asks for token in ask.tail]], device=self.adapter.device)
        rope = np.concatenate([np.arange(size) + at for size, at in zip(sizes, places.rope, strict=True)])
        fed = self.adapter.continuation(ids, torch.from_numpy(rope)[None].to(self.adapter.device))
        spans = spans_of(asks)
        return tap, fed, [at + row for ask, (at, _) in zip(asks, spans, strict=True) for row in scored_rows(ask)]

    def _tapping(
        self, places: "Places", sizes: Sequence[int], read: frozenset[int], changes: Sequence[Change | None]
    ) -> Tap:
        """What a pass over the last `sizes` tokens of each question reads and edits, with the keys of all tokens."""
        asks = places.asks
        lasts = list(accumulate(sizes))
        first = [last - len(ask.tail) for ask, last in zip(asks, lasts, strict=True)]  # of its first token, fed or not
        wanted = [ask.rows(ask.read) if read else () for ask in asks]
        reading = [[at + row for row in rows] for rows, at in zip(wanted, first, strict=True)]
        edited = [
            (change, [at + row for row in ask.rows(change.rows) if row >= len(ask.tail) - size])
            for ask, change, at, size in zip(asks, changes, first, sizes, strict=True)
            if change is not None
        ]
        tap = self._tap(places.parts(sizes), edits_of(edited))
        tap.read, tap.rows = read, [row for rows in reading for row in rows]
        tap.slots = np.repeat(np.arange(len(asks)), [len(rows) for rows in reading])
        return tap

    def _tap(self, parts: Sequence[Part], edits: Sequence[Edit]) -> Tap:
        prefix, adapter = self.prefix, self.adapter
        groups = pack(parts, prefix.images, prefix.length, prefix.head, adapter.device, adapter.dtype)
        return Tap(prefix.columns, edits=edits, pack=groups, overview=prefix.overview)

    # ---- answers -----------------------------------------------------------------------------------------------

    def state(self, packs: Sequence[Asked], keep: frozenset[int] = frozenset()) -> "Decoding":
        """All questions of `packs` side by side, ready to take one token each. Their caches go into it, a layer at a
        time: take one state of a pass. `keep`: layers whose input, kept by all of `packs`, is kept on."""
        asks = [ask for one in packs for ask in one.asks]
        before: list[tuple[Tensor, Tensor]] = []
        for layer, shared in enumerate(self.prefix.cache):
            own = [one.cache[layer] for one in packs]
            keys, values = (joined([pair[side] for pair in (shared, *own)]) for side in range(2))
            before.append((keys, values))
            for one in packs:
                one.cache[layer] = None
        places = Places.of(self.prefix, asks)
        stops = list(accumulate(len(ask.tail) for ask in asks))
        columns = [np.arange(stop - len(ask.tail), stop) for ask, stop in zip(asks, stops, strict=True)]
        changes = [change for one in packs for change in one.changes]
        cache = behind(self.adapter, before)
        logits = torch.cat([one.logits for one in packs])
        sinks = [(sum(len(ask.tail) for ask in one.asks), one.sinks) for one in packs]
        hidden = {layer: [one.hidden[layer] for one in packs] for layer in keep}
        return Decoding(self, cache, places, columns, stops[-1], changes, logits, sinks, hidden)


@dataclass(frozen=True, slots=True)
class Places:
    """Where questions continue: the first place and the first rope position of each."""

    asks: Sequence[Ask]
    first: Sequence[int]
    rope: Sequence[int]

    @classmethod
    def of(cls, prefix: Prefix, asks: Sequence[Ask]) -> "Places":
        """A blind prompt closes up: its tail follows the head as if no image had stood between."""
        first = [prefix.head if ask.blind else prefix.length for ask in asks]
        rope = [prefix.head if ask.blind else prefix.next_position[ask.image] for ask in asks]
        return cls(asks, first, rope)

    def parts(self, sizes: Sequence[int]) -> list[Part]:
        """Of a pass over the last `sizes` tokens of each question."""
        made, row, column = [], 0, 0
        for ask, first, size in zip(self.asks, self.first, sizes, strict=True):
            queries, keys = np.arange(row, row + size), np.arange(column, column + len(ask.tail))
            made.append(Part(ask.image, queries, keys, first, ask.blind))
            row, column = row + size, column + len(ask.tail)
        return made


@dataclass(slots=True)
class Decoding:
    """Answers under way: one row per question, fed one token each per step."""

    session: Session
    cache: Cache
    places: Places
    columns: list[Ints]
    """Of each question, behind the prefixes."""
    total: int
    changes: Sequence[Change | None]
    logits: Tensor
    """Of the next token, float32 [Q, vocabulary]."""
    sinks: Sequence[tuple[int, Mapping[Kind, Flags]]] = ()
    """How many columns each pass has, and which are sinks; side by side."""
    hidden: dict[int, list[Tensor]] = field(default_factory=dict)
    """Layer -> its inputs so far, for the layers asked to be kept: columns one after the other, as in the cache."""

    def step(self, rows: Sequence[int], tokens: Tensor) -> Tensor:
        """Append one token to each of `rows` (questions still open) and return their next logits."""
        session, places = self.session, self.places
        device = session.adapter.device
        held = [(change, [at]) for at, row in enumerate(rows) if (change := self.changes[row]) and change.decode]
        parts, rope = [], []
        for at, row in enumerate(rows):
            rope.append(places.rope[row] + len(self.columns[row]))
            self.columns[row] = np.append(self.columns[row], self.total + at)
            ask = places.asks[row]
            parts.append(Part(ask.image, np.array([at]), self.columns[row], places.first[row], ask.blind))
        self.total += len(rows)
        tap = session._tap(parts, edits_of(held))
        tap.sinks = of_step(session, [change for change, _ in held], self.sinks, self.total)
        told = tilted(session, [places.asks[row] for row in rows], tap, [(at, at + 1) for at in range(len(rows))])
        fed = session.adapter.continuation(tokens[None], torch.tensor([rope]).to(device))
        inner: Any = session.adapter.text.layers
        made: dict[int, Tensor] = {}
        with tapped(tap), watching(inner, [one.see for one in told]), kept(inner, frozenset(self.hidden), made):
            logits = session.adapter.forward(fed, range(len(rows)), self.cache)[0]
        for layer, one in made.items():
            self.hidden[layer].append(one)
        return logits

    def answered(self, answers: Mapping[int, Answer]) -> Asked:
        """Rows with what they answered, in that order, as one pass over both gives it: a rerun starts from it, and
        nothing goes through the model twice."""
        asks = tuple(self.places.asks[row].answered(one.tokens) for row, one in answers.items())
        columns = [self.columns[row][: len(ask.tail)] for row, ask in zip(answers, asks, strict=True)]
        index = torch.from_numpy(np.concatenate(columns)).to(self.session.adapter.device)
        layers: list[Any] = self.cache.layers
        shared = self.session.prefix.images * self.session.prefix.length
        cache = [
            tuple(
                picked(joined([before[:, :, shared:], own]), index, 2)
                for before, own in zip(layer.before, (layer.keys, layer.values), strict=True)
            )
            for layer in layers
        ]
        hidden = {layer: _columns(some, index) for layer, some in self.hidden.items()}
        rows = list(answers)
        likelihood = torch.tensor([one.likelihood for one in answers.values()], dtype=torch.float64)
        return Asked(asks, self.logits[rows], {}, cache, hidden, (None,) * len(asks), likelihood)


def _columns(states: Sequence[Tensor], index: Tensor) -> Tensor:
    """Some columns of hidden states [.., S, hidden] that stand one after the other."""
    whole = torch.cat(list(states), -2)
    return picked(whole, index, whole.dim() - 2)
