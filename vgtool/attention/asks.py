"""What is asked of a session: continuations of an image's prefix, and changes of their attention.

No torch here: methods say what they want, and are listed, without it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from vgtool.attention.sinks import Redistribute
    from vgtool.attention.tilt import Tilt

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
    target: tuple[int, ...] = ()
    """An answer whose log-probability is wanted; all of it but the last token ends the tail."""

    def answered(self, target: tuple[int, ...]) -> "Ask":
        """The same question with an answer behind it."""
        return replace(self, tail=self.tail + target[:-1], target=target)

    def rows(self, which: Rows) -> range:
        """Rows of the tail."""
        size = len(self.tail)
        last = size - max(len(self.target), 1)
        named = {"last": range(last, last + 1), "question": range(*self.question), "text": range(size)}
        return named.get(which, range(0))


@dataclass(frozen=True, slots=True)
class Change:
    """Edited attention for one question of an earlier pass (knockout; PAI and AdaptVis rescore)."""

    layers: frozenset[int]
    cut: "Tensor | None" = None
    """bool [N]: image tokens that the edited rows may not attend to."""
    rescore: "Callable[[Tensor], Tensor] | None" = None
    """New scaled scores of edited rows from the old, float32 [r, H, N], rows of several questions together."""
    rows: Rows = "text"
    """Which rows of the question are edited; `text` is every token after the image, `none` leaves them alone."""
    renormalise: bool = True
    overview: bool = False
    """True: `rescore` takes the image's overview tokens as well [r, H, N + its overview]."""
    reweigh: "Redistribute | None" = None
    """New weights after softmax, by which columns are sinks (VAR)."""
    tilt: "Tilt | None" = None
    """New scores by likeness to the text, where a layer is unsure (CAI)."""
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
        if any(one is not None for one in (self.rescore, self.reweigh, self.tilt)):
            return not self.layers
        return not self.layers or self.cut is None or not bool(self.cut.any())
