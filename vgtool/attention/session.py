"""One image, many questions, many methods: the image's prefix is computed once and everything continues from it.

    encode   head + image tokens through the model, once per image
    ask      questions and the general prompt, packed into one row behind the prefix; rows read, hidden states kept
    rerun    the same questions with edited attention, from the first edited layer up (below it nothing changed)
    decode   greedy answers of every pack at once

A pack is one row [q1 | q2 | ...] under an owner-and-position mask, rope positions restarting for each question: exact,
without padding, and right for sliding windows, which count places and not columns. A model whose image tokens see the
question cannot share a prefix; `whole.WholeSession` is the same interface over whole-prompt passes.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import Cache

from vgtool.attention.engine import Edit, Pack, Tap, tapped
from vgtool.models.adapter import Adapter, Inputs, Vision

Rows = Literal["last", "question", "text", "none"]
"""The last prompt token; the tokens of the user's text; every token after the image."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One continuation of the prefix."""

    tail: tuple[int, ...]
    question: tuple[int, int] = (0, 0)
    """Where the user's text stands in the tail, [start, stop)."""
    read: Rows = "last"
    """Rows of the tail whose attention is read and averaged (paper section 3: the last prompt token)."""
    blind: bool = False
    """True: the prompt without its image; the image columns are hidden and positions close up."""

    def rows(self, which: Rows) -> range:
        """Rows of the tail."""
        size = len(self.tail)
        named = {"last": range(size - 1, size), "question": range(*self.question), "text": range(size)}
        return named.get(which, range(0))


@dataclass(frozen=True, slots=True)
class Change:
    """Edited attention for one question of an earlier pack (knockout; PAI and AdaptVis rescore)."""

    layers: frozenset[int]
    cut: Tensor | None = None
    """bool [N]: image tokens that the edited rows may not attend to."""
    rescore: Callable[[Tensor], Tensor] | None = None
    rows: Rows = "text"
    """Which rows of the question are edited; `text` is every token after the image, `none` leaves them alone."""
    renormalise: bool = True
    decode: bool = False
    """True: the edit also holds for generated tokens."""
    index: int = 0
    """Which question of the pack."""

    @property
    def start(self) -> int:
        return min(self.layers)

    @property
    def empty(self) -> bool:
        """Nothing to do: the answer is the unedited one, bit for bit."""
        return not self.layers or (self.rescore is None and (self.cut is None or not bool(self.cut.any())))


@dataclass(slots=True)
class Asked:
    """A pack that has been through the model: what was read, and what a continuation needs."""

    asks: tuple[Ask, ...]
    logits: Tensor
    """At each question's last prompt token, float32 [Q, vocabulary]."""
    maps: dict[int, Tensor]
    """Layer -> float32 [Q, H, N], rows read; image-space token order."""
    cache: list[Any]
    """What the session that made it continues from: per layer, keys and values of the pack's columns [1, Hk, S, D]."""
    hidden: dict[int, Tensor]
    """Layer -> its input [1, S, hidden], for the layers asked to be kept."""
    changes: tuple[Change | None, ...]
    """What each question's attention was edited by."""

    @property
    def spans(self) -> list[tuple[int, int]]:
        """[start, stop) of each question's columns in the pack."""
        out, at = [], 0
        for ask in self.asks:
            out.append((at, at + len(ask.tail)))
            at += len(ask.tail)
        return out


@dataclass(slots=True)
class Prefix:
    """Head and images through the model: the part all continuations share."""

    cache: Cache
    inputs: Inputs
    head: int
    """Tokens before the first image token."""
    columns: Tensor
    """Grid columns of all images, image-space order [N]."""
    image: Tensor = field(init=False)
    """bool [P]"""

    def __post_init__(self) -> None:
        self.image = torch.zeros(self.inputs.length, dtype=torch.bool, device=self.columns.device)
        self.image[self.head :] = True


@dataclass(slots=True)
class Session:
    """One image (or several in one prompt) under one chat head. Run inside torch.inference_mode."""

    adapter: Adapter
    visions: Sequence[Vision]
    head: tuple[int, ...]
    prefix: Prefix = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = encode(self.adapter, self.visions, self.head)

    # ---- passes ------------------------------------------------------------------------------------------------

    def ask(self, asks: Sequence[Ask], read: frozenset[int] = frozenset(), keep: frozenset[int] = frozenset()) -> Asked:
        """One pass over all `asks`. `read`: layers to read; `keep`: layers whose input a rerun will start from."""
        return self._pass(tuple(asks), 0, None, [], read, keep, (None,) * len(asks))

    def rerun(self, asked: Asked, changes: Sequence[Change], read: frozenset[int] = frozenset()) -> Asked:
        """The questions again under edited attention, restarted at the first edited layer, whose input `asked` kept."""
        start = min(change.start for change in changes)
        spans = asked.spans
        index = torch.cat([torch.arange(*spans[change.index]) for change in changes]).to(self.adapter.device)
        low = [
            (k.index_select(2, index.to(k.device)), v.index_select(2, index.to(v.device)))
            for k, v in asked.cache[:start]
        ]
        hidden = asked.hidden[start]
        hidden = hidden.index_select(-2, index.to(hidden.device))
        asks = tuple(asked.asks[change.index] for change in changes)
        return self._pass(asks, start, hidden, low, read, frozenset(), tuple(changes))

    def _pass(
        self,
        asks: tuple[Ask, ...],
        start: int,
        given: Tensor | None,
        low: list[tuple[Tensor, Tensor]],
        read: frozenset[int],
        keep: frozenset[int],
        changes: tuple[Change | None, ...],
    ) -> Asked:
        device = self.adapter.device
        layout = _Layout.of(self.prefix, device, asks)
        rows, sizes, lasts = list[int](), list[int](), list[int]()
        edited: list[tuple[Change, list[int]]] = []
        at = 0
        for ask, change in zip(asks, changes, strict=True):
            picked = [at + row for row in ask.rows(ask.read)]
            rows += picked
            sizes.append(len(picked))
            if change is not None:
                edited.append((change, [at + row for row in ask.rows(change.rows)]))
            at += len(ask.tail)
            lasts.append(at - 1)
        tap = Tap(
            self.prefix.columns[None],
            read,
            torch.tensor(rows, device=device),
            torch.repeat_interleave(torch.arange(len(asks)), torch.tensor(sizes)).to(device),
            torch.tensor(sizes, device=device),
            edits_of(edited, device),
            layout.pack(self.prefix),
        )
        ids = torch.tensor([[token for ask in asks for token in ask.tail]], device=device)
        cache = fork(self.prefix.cache)
        for layer, (keys, values) in enumerate(low):
            cache.update(keys, values, layer)
        inner: Any = self.adapter.text.layers
        hidden: dict[int, Tensor] = {}
        with tapped(tap), resumed(inner, start, given), kept(inner, keep, hidden):
            logits = self.adapter.forward(self.adapter.continuation(ids, layout.rope[None]), lasts, cache)
        length = self.prefix.inputs.length
        grown: Any = cache.layers
        # Copies: a view would hold on to the prefix beside it for as long as the pack lives.
        own = [(layer.keys[:, :, length:].clone(), layer.values[:, :, length:].clone()) for layer in grown]
        maps = {layer: values[0].cpu() for layer, values in tap.maps.items()}
        return Asked(asks, logits[0], maps, own, hidden, changes)

    # ---- answers -----------------------------------------------------------------------------------------------

    def state(self, packs: Sequence[Asked]) -> "Decoding":
        """All questions of `packs` side by side, ready to take one token each."""
        asks = [ask for pack in packs for ask in pack.asks]
        layout = _Layout.of(self.prefix, self.adapter.device, asks)
        cache = fork(self.prefix.cache)
        for layer in range(len(cache.layers)):
            keys = torch.cat([pack.cache[layer][0] for pack in packs], 2)
            values = torch.cat([pack.cache[layer][1] for pack in packs], 2)
            cache.update(keys, values, layer)
        changes = [change for pack in packs for change in pack.changes]
        return Decoding(self, cache, layout, changes, torch.cat([pack.logits for pack in packs]))


@dataclass(slots=True)
class _Layout:
    """Owner, place and rope position of the columns after the prefix."""

    owner: Tensor
    index: Tensor
    rope: Tensor
    blind: Tensor
    """Per owner."""
    next_index: Tensor
    next_rope: Tensor

    @classmethod
    def of(cls, prefix: Prefix, device: torch.device, asks: Sequence[Ask]) -> "_Layout":
        sizes = torch.tensor([len(ask.tail) for ask in asks])
        blind = torch.tensor([ask.blind for ask in asks])
        owner = torch.repeat_interleave(torch.arange(len(asks)), sizes)
        local = torch.cat([torch.arange(int(size)) for size in sizes])
        # A blind prompt closes up: its tail follows the head as if no image had stood between.
        first_index = torch.where(blind, prefix.head, prefix.inputs.length)
        first_rope = torch.where(blind, prefix.head, prefix.inputs.next_position)
        return cls(
            owner.to(device),
            (local + first_index[owner]).to(device),
            (local + first_rope[owner]).to(device),
            blind.to(device),
            (sizes + first_index).to(device),
            (sizes + first_rope).to(device),
        )

    def pack(self, prefix: Prefix) -> Pack:
        """The mask facts of a pass over exactly these columns."""
        return self.step_pack(prefix, self.owner, self.index)

    def step_pack(self, prefix: Prefix, owner: Tensor, index: Tensor) -> Pack:
        length, device = prefix.inputs.length, owner.device
        base = torch.arange(length, device=device)
        none = torch.zeros(len(self.owner), dtype=torch.bool, device=device)
        return Pack(
            owner,
            index,
            self.blind[owner],
            torch.cat([torch.full_like(base, -1), self.owner]),
            torch.cat([base, self.index]),
            torch.cat([prefix.image, none]),
        )


@dataclass(slots=True)
class Decoding:
    """Answers under way: one row per question, fed one token each per step."""

    session: Session
    cache: Cache
    layout: _Layout
    changes: Sequence[Change | None]
    logits: Tensor
    """Of the next token, float32 [Q, vocabulary]."""

    def step(self, rows: Sequence[int], tokens: Tensor) -> Tensor:
        """Append one token to each of `rows` (questions still open) and return their next logits."""
        session, layout = self.session, self.layout
        device = session.adapter.device
        held = [(change, [at]) for at, row in enumerate(rows) if (change := self.changes[row]) and change.decode]
        where = torch.tensor(rows, device=device)
        index, rope = layout.next_index[where], layout.next_rope[where]
        layout.owner, layout.index = torch.cat([layout.owner, where]), torch.cat([layout.index, index])
        layout.next_index[where] += 1
        layout.next_rope[where] += 1
        edits, pack = edits_of(held, device), layout.step_pack(session.prefix, where, index)
        tap = Tap(session.prefix.columns[None], edits=edits, pack=pack)
        fed = session.adapter.continuation(tokens[None], rope[None])
        with tapped(tap):
            return session.adapter.forward(fed, range(len(rows)), self.cache)[0]


def encode(adapter: Adapter, visions: Sequence[Vision], head: Sequence[int]) -> Prefix:
    """Head and images through the model once."""
    inputs = adapter.inputs(visions, head, ())
    cache = adapter.cache()
    adapter.forward(inputs.kwargs, [inputs.length - 1], cache)
    empty = torch.empty(0, dtype=torch.long, device=adapter.device)
    grid = torch.cat([*inputs.columns, empty])
    return Prefix(cache, inputs, len(head), grid)


def fork(cache: Cache) -> Cache:
    """A cache that grows on its own: dynamic layers append by concatenation, so the tensors can be shared."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def edits_of(changes: Iterable[tuple[Change, Sequence[int]]], device: torch.device) -> list[Edit]:
    """The engine's edits for changes, each at its rows of a pass. Changes that differ in nothing but their rows and
    tokens are one edit: on a GPU what counts is how many there are, in every layer and step."""
    alike: dict[Any, list[tuple[Change, Sequence[int]]]] = {}
    for change, rows in changes:
        if not change.empty and len(rows):
            kind = (change.layers, change.rescore, change.renormalise, change.cut is None)
            alike.setdefault(kind, []).append((change, rows))
    edits = []
    for (layers, rescore, renormalise, _), some in alike.items():
        cuts = [change.cut.expand(len(rows), -1) for change, rows in some if change.cut is not None]
        where = torch.tensor([row for _, rows in some for row in rows], device=device)
        edits.append(Edit(layers, where, torch.cat(cuts)[None].to(device) if cuts else None, rescore, renormalise))
    return edits


@contextmanager
def resumed(layers: nn.ModuleList, start: int, hidden: Tensor | None) -> Iterator[None]:
    """Layers below `start` do nothing, so that layer `start` takes `hidden`. What goes into the model is not used: some
    scale their embeddings (Granite) or read the ids again in later layers (Gemma 3n). A `forward` that accelerate keeps
    on the instance is put back."""
    saved = [layer.__dict__.get("forward") for layer in layers[:start]]
    try:
        for layer in layers[:start]:
            layer.forward = lambda *args, **kwargs: hidden
        yield
    finally:
        for layer, forward in zip(layers[:start], saved, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


@contextmanager
def kept(layers: nn.ModuleList, wanted: frozenset[int], into: dict[int, Tensor]) -> Iterator[None]:
    """Record the input hidden states of the `wanted` layers."""

    def record(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            into[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    handles = [layers[index].register_forward_pre_hook(record(index), with_kwargs=True) for index in sorted(wanted)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
