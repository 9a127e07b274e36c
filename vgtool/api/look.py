"""What a look at one image gives: the answer, the attention behind it, metrics, and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.api.figure import Kind, draw, of_method, png
from vgtool.errors import VgError
from vgtool.grounding.metrics import Grounding, grounding, relative_attention

Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well the attention agrees with the boxes."""

    layers: Grounding
    """Of each layer's head mean, [layers] each: ratio (1: uniform), kl and js (lower is better)."""
    heads: Grounding
    """Of each head, [layers, heads] each."""

    @property
    def best(self) -> int:
        """The layer of lowest KL."""
        return int(np.nanargmin(self.layers.kl))

    def __repr__(self) -> str:
        best = self.best
        values = ", ".join(f"{name} {getattr(self.layers, name)[best]:.3g}" for name in ("ratio", "kl", "js"))
        return f"Metrics(best layer {best}: {values})"


@dataclass(frozen=True, repr=False)
class Shown:
    """A map over an image, however it came to be."""

    image: Image.Image
    """As the model's preprocessing got it: stored pixels, RGB."""
    question: str
    boxes: tuple[tuple[float, float, float, float], ...]
    """Stored pixels."""
    grid_box: tuple[float, float, float, float]
    """What the grid covers of the image; beyond it where it was padded."""

    def _draw(self, kind: Kind, values: NDArray[Any], below: str, path: str | Path | None) -> Any:
        return draw(self.image, self.image.size, kind, values, self.grid_box, self.boxes, self.question, below, path)

    def figure(self, path: str | Path | None = None) -> Any:
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return png(self.figure())


@dataclass(frozen=True, repr=False)
class Look(Shown):
    """One question about one image: what the model answers, and where it looks."""

    answer: str
    confidence: float
    """Largest probability of the first answer token."""
    prompt: str
    """As it was sent, `<image>` for the image tokens."""
    attention: Maps
    """The question's row, [layers, heads, rows, cols]."""
    general: Maps
    """The general prompt's row, likewise."""
    region: tuple[int, ...] = ()
    """Image tokens under the boxes, row-major."""
    relative: NDArray[np.float64] = field(init=False)
    """attention / general of each head, likewise; a layer's own is that of its head means (`layer`)."""
    metrics: Metrics | None = field(init=False)
    """None without boxes."""

    def __post_init__(self) -> None:
        layers, heads = self.attention.shape[:2]
        question, general = (np.float64(one).reshape(layers, heads, -1) for one in (self.attention, self.general))
        relative = relative_attention(question, general)
        object.__setattr__(self, "relative", relative.reshape(self.attention.shape))
        found = None
        if self.region:
            means = relative_attention(question.mean(1), general.mean(1))
            found = Metrics(grounding(means, self.region), grounding(relative, self.region))
        object.__setattr__(self, "metrics", found)

    def layer(self, at: int | None = None) -> NDArray[np.float64]:
        """Relative attention of a layer's head means [rows, cols]; of all layers' together when none is named."""
        chosen = slice(None) if at is None else slice_of(at, len(self.attention))
        means = (one[chosen].astype(np.float64).mean((0, 1)) for one in (self.attention, self.general))
        return relative_attention(*means)

    def figure(self, path: str | Path | None = None, *, layer: int | None = None) -> Any:
        """The image, the heat of a layer over it and the boxes, as a matplotlib figure; also written to `path` (pdf,
        svg or png). Without `layer`: that of lowest KL when there are boxes, else all together."""
        at = self.metrics.best if layer is None and self.metrics is not None else layer
        where = "all layers" if at is None else f"layer {at}"
        below = f"{self.answer} ({where}"
        if self.metrics is not None and at is not None:
            below += f", attention ratio {self.metrics.layers.ratio[at]:.2f}"
        return self._draw("attention", self.layer(at), f"{below})", path)

    def __repr__(self) -> str:
        layers, heads, rows, cols = self.attention.shape
        metrics = f", {self.metrics!r}" if self.metrics else ""
        return (
            f"Look({self.answer!r}, confidence {self.confidence:.2f}, {layers} layers x {heads} heads, "
            f"{rows} x {cols} image tokens{metrics})"
        )


@dataclass(frozen=True, repr=False)
class Refined(Shown):
    """One question under one method, beside the plain answer."""

    method: str
    answer: str
    confidence: float
    baseline: str
    """The plain answer."""
    prompt: str
    kept: NDArray[np.bool_] | None
    """Image tokens that stay visible [rows, cols]; None for a method that hides none."""
    triage: NDArray[np.float32] | None
    """The map that chose them, likewise; None for a method without one."""
    insertion: float | None
    """Change of the probability of the plain answer's first token when only the kept tokens are visible."""
    deletion: float | None
    """The same when only the others are."""

    def figure(self, path: str | Path | None = None) -> Any:
        """The image, what the method hid of it darkened (else its map over it), as a matplotlib figure; also written to
        `path`."""
        if self.kept is None and self.triage is None:
            raise VgError(f"'{self.method}' hides no image token and has no map to draw.", "Draw a look instead.")
        below = f"{self.method}: {self.answer} (plain: {self.baseline})"
        return self._draw(*of_method(self.kept, self.triage), below, path)

    def __repr__(self) -> str:
        kept = "" if self.kept is None else f", keeps {int(self.kept.sum())} of {self.kept.size} image tokens"
        return f"Refined({self.method!r}: {self.answer!r}, plain {self.baseline!r}{kept})"


def slice_of(layer: int, layers: int) -> slice:
    """One layer of so many; from the end where negative. VgError when there is no such layer."""
    if not -layers <= layer < layers:
        raise VgError(f"layer={layer}, but the model has {layers} layers.", f"Give 0 to {layers - 1}.")
    return slice(layer % layers, layer % layers + 1)


def on_grid(values: Sequence[float] | NDArray[Any] | None, rows: int, cols: int) -> NDArray[np.float32] | None:
    """The first image's part of a flat map, as [rows, cols]."""
    return None if values is None else np.asarray(values, np.float32)[: rows * cols].reshape(rows, cols)
