"""What is asked of a session and what comes back: questions, changes of their attention, and passes that have run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vgtool.attention.tap import Edit

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
