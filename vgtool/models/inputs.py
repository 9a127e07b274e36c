"""What an adapter hands over: an image prepared for a model, a prompt around it, and the inputs of a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vgtool.grounding.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Vision:
    """One image, prepared for one model on the CPU."""

    tensors: Mapping[str, Tensor]
    """Inputs of the vision tower, batch axis first (`pixel_values` [1, 3, H, W], ...)."""
    geometry: Geometry
    order: Tensor | None = None
    """Model token index of each image-space token [T]; None when the model's own order is row-major already."""
    overview: int = 0
    """Extra tokens after the grid's that show the whole image again (a thumbnail tile)."""
    features: Tensor | None = None
    """Its projected features, where they are computed already."""

    @property
    def tokens(self) -> int:
        """Image tokens in the prompt: the grid's and the overview's."""
        return self.geometry.tokens + self.overview

    @property
    def form(self) -> tuple[int, ...]:
        """Equal for images whose tokens stand alike, so that they can go through the model in one batch."""
        return (self.tokens, self.geometry.grid.rows, self.geometry.grid.cols)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat-formatted text around an image: ids before the first image token, and after the last."""

    head: tuple[int, ...]
    tail: tuple[int, ...]
    question: tuple[int, int] = (0, 0)
    """Where the user's text stands in the tail: [start, stop). A token that only partly covers the text counts."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """One prompt (batch of 1), ready for the model: head, image tokens, tail."""

    kwargs: Mapping[str, Any]
    """Keyword arguments of the model's forward, `position_ids` among them."""
    length: int
    columns: tuple[Tensor, ...]
    """Per image, the columns of its grid tokens in image-space row-major order [T]."""
    overview: tuple[Tensor, ...]
    """Per image, the columns of its overview tokens (often empty)."""
    next_position: int
    """The rope position of the first token that would follow."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Several prompts of one form, ready for the model: heads and image tokens."""

    kwargs: Mapping[str, Any]
    length: int
    """Of each prompt."""
    columns: tuple[Tensor, ...]
    """As those of `Inputs`, the same in every prompt."""
    next_positions: tuple[int, ...]
    """Of each prompt, the rope position of the first token that would follow."""
    overview: tuple[Tensor, ...] = ()
    """As that of `Inputs`, the same in every prompt."""
