"""Several images, many questions, many methods: an image's prefix is computed once and everything continues from it.

    encode   heads and image tokens through the model, images of one form in one batch
    ask      questions and general prompts of all images in one row behind the prefixes; rows read, hidden states kept
    rerun    the same questions with edited attention, from the first edited layer up (below it nothing changed)
    decode   greedy answers of every pass at once

A pass is one row [q1 | q2 | ...] without padding, rope positions restarting for each question; attention takes it apart
(packing.py). One image is a session of one. A model whose image tokens see the question cannot share a prefix;
`whole.WholeSession` is the same interface over whole-prompt passes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from vgtool.attention.layers import kept, resumed
from vgtool.attention.packing import Ints, Part, pack
from vgtool.attention.prefix import Prefix, behind, encode, joined
from vgtool.attention.tap import Edit, Tap, stopping, tapped
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Vision

Rows = Literal["last", "question", "text", "none"]
"""The last prompt token; the tokens of the user's text; every token after the image."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One continuation of an image's prefix."""

    tail: tuple[int, ...]
    question: tuple[int, int] = (0, 0)
    """Where the user's text stands in the tail, [start, stop)."""
    read: Rows = "last"
    """Rows of the tail whose attention is read and averaged (paper section 3: the last prompt token)."""
    blind: bool = False
    """True: the prompt without its image; the image columns are hidden and positions close up."""
    image: int = 0
    """Which of the session's images."""

    def rows(self, which: Rows) -> range:
        """Rows of the tail."""
        size = len(self.tail)
        named = {"last": range(size - 1, size), "question": range(*self.question), "text": range(size)}
        return named.get(which, range(0))


@dataclass(frozen=True, slots=True)
class Change:
    """Edited attention for one question of an earlier pass (knockout; PAI and AdaptVis rescore)."""

    layers: frozenset[int]
    cut: Tensor | None = None
    """bool [N]: image tokens that the edited rows may not attend to."""
    rescore: Callable[[Tensor], Tensor] | None = None
    """New scaled scores of edited rows from the old, float32 [r, H, N], rows of several questions together."""
    rows: Rows = "text"
    """Which rows of the question are edited; `text` is every token after the image, `none` leaves them alone."""
    renormalise: bool = True
    decode: bool = False
    """True: the edit also holds for generated tokens."""
    index: int = 0
    """Which question of the pass."""

    @property
    def start(self) -> int:
        return min(self.layers)

    @property
    def empty(self) -> bool:
        """Nothing to do: the answer is the unedited one, bit for bit."""
        return not self.layers or (self.rescore is None and (self.cut is None or not bool(self.cut.any())))


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

    @property
    def spans(self) -> list[tuple[int, int]]:
        """[start, stop) of each question's columns in the pass."""
        stops = list(accumulate(len(ask.tail) for ask in self.asks))
        return list(zip([0, *stops[:-1]], stops, strict=True))


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
        tap, fed, lasts = self._ready(asks, read, changes)
        cache = behind(self.adapter, self.prefix.cache, low)
        inner: Any = self.adapter.text.layers
        hidden: dict[int, Tensor] = {}
        with tapped(tap), resumed(inner, start, given), kept(inner, keep, hidden):
            logits = self.adapter.forward(fed, lasts, cache)
        grown: Any = cache.layers
        own = [(layer.keys, layer.values) for layer in grown]
        maps = {layer: values.cpu() for layer, values in tap.maps.items()}
        return Asked(asks, logits[0], maps, own, hidden, changes)

    def _ready(
        self, asks: tuple[Ask, ...], read: frozenset[int], changes: tuple[Change | None, ...]
    ) -> tuple[Tap, dict[str, Any], list[int]]:
        """A pass: what it reads and edits, what goes in, and the last row of each question."""
        places = Places.of(self.prefix, asks)
        first = [0, *accumulate(len(ask.tail) for ask in asks)]
        reading = [[at + row for row in ask.rows(ask.read)] for ask, at in zip(asks, first, strict=False)]
        edited = [
            (change, [at + row for row in ask.rows(change.rows)])
            for ask, change, at in zip(asks, changes, first, strict=False)
            if change is not None
        ]
        slots = np.repeat(np.arange(len(asks)), [len(rows) for rows in reading])
        parts = places.parts([(at, at + len(ask.tail)) for ask, at in zip(asks, first, strict=False)])
        tap = self._tap(parts, edits_of(edited))
        tap.read, tap.rows, tap.slots = read, [row for rows in reading for row in rows], slots
        ids = torch.tensor([[token for ask in asks for token in ask.tail]], device=self.adapter.device)
        rope = np.concatenate([np.arange(len(ask.tail)) + at for ask, at in zip(asks, places.rope, strict=True)])
        fed = self.adapter.continuation(ids, torch.from_numpy(rope)[None].to(self.adapter.device))
        return tap, fed, [at - 1 for at in first[1:]]

    def _tap(self, parts: Sequence[Part], edits: Sequence[Edit]) -> Tap:
        prefix, adapter = self.prefix, self.adapter
        groups = pack(parts, prefix.images, prefix.length, prefix.head, adapter.device, adapter.dtype)
        return Tap(prefix.columns, edits=edits, pack=groups)

    # ---- answers -----------------------------------------------------------------------------------------------

    def state(self, packs: Sequence[Asked]) -> "Decoding":
        """All questions of `packs` side by side, ready to take one token each."""
        asks = [ask for one in packs for ask in one.asks]
        before = [
            (joined([keys, *(one[0] for one in own)]), joined([values, *(one[1] for one in own)]))
            for (keys, values), *own in zip(self.prefix.cache, *(one.cache for one in packs), strict=True)
        ]
        places = Places.of(self.prefix, asks)
        stops = list(accumulate(len(ask.tail) for ask in asks))
        columns = [np.arange(stop - len(ask.tail), stop) for ask, stop in zip(asks, stops, strict=True)]
        changes = [change for one in packs for change in one.changes]
        cache = behind(self.adapter, before)
        return Decoding(self, cache, places, columns, stops[-1], changes, torch.cat([one.logits for one in packs]))


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

    def parts(self, spans: Sequence[tuple[int, int]]) -> list[Part]:
        """Of a pass over these columns alone."""
        return [
            Part(ask.image, columns, columns, first, ask.blind)
            for ask, first, columns in zip(self.asks, self.first, (np.arange(*span) for span in spans), strict=True)
        ]


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
        fed = session.adapter.continuation(tokens[None], torch.tensor([rope]).to(device))
        with tapped(tap):
            return session.adapter.forward(fed, range(len(rows)), self.cache)[0]


def picked(states: Tensor, index: Tensor, dim: int) -> Tensor:
    """Some columns of keys, values or hidden states, in memory as they were."""
    index = index.to(states.device)
    if dim != 2:
        return states.index_select(dim, index)
    return states.transpose(1, 2).index_select(1, index).transpose(1, 2)


def edits_of(changes: Iterable[tuple[Change, Sequence[int]]]) -> list[Edit]:
    """The engine's edits for changes, each at its rows of a pass. Changes that differ in nothing but their rows and
    tokens are one edit: on a GPU what counts is how many there are, in every layer and step."""
    alike: dict[Any, list[tuple[Change, Sequence[int]]]] = {}
    for change, rows in changes:
        if not change.empty and len(rows):
            kind = (change.layers, change.rescore, change.renormalise, change.cut is None)
            alike.setdefault(kind, []).append((change, rows))
    edits = []
    for (layers, rescore, renormalise, uncut), some in alike.items():
        cut = None if uncut else torch.stack([change.cut for change, _ in some if change.cut is not None])
        which = np.repeat(np.arange(len(some)), [len(rows) for _, rows in some])
        where = np.array([row for _, rows in some for row in rows])
        edits.append(Edit(layers, where, cut, None if uncut else which, rescore, renormalise))
    return edits
