"""Which pixels of the stored image each image token answers to, measured on the model and its processor.

Two images of noise, A and B. Stripes of A are exchanged for B's, and a token whose input to the first text layer
changes has pixels in them. While this is measured every place of the vision tower attends to itself alone, so that a
token answers to its own pixels: resizing, patches, merges and convolutions stay, mixing goes. What still answers to the
whole image (resamplers, queries) has no place.

An axis has K stripes. A comb exchanges every M-th of them, a broad stripe M side by side: M + K / M passes in place of
K, and a token narrower than M stripes stands where both answer.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

Array = NDArray[np.float64]
Index = NDArray[np.int64]
SELF = "vgtool-self"
CHANGED = 1e-4
"""Share of the largest change from which a column counts as the image's; below is rounding."""
ANSWERS = 0.08
"""Share of a token's largest answer from which a stripe counts as its own; below are the tails of resizing."""
STILL = 0.2
"""Share of the upper quartile of answers below which a token has no pixels of its own: padding, and smears over it."""
STRIPES = 48
"""Least stripes of an axis, where it has the pixels."""


@dataclass(frozen=True, slots=True)
class Spans:
    """The pixels of N image columns along one axis."""

    start: Array
    """First pixel [N]."""
    stop: Array
    """Last pixel + 1 [N]."""
    answer: Array
    """How much the token changed [N]."""
    stripe: float
    """Width of a stripe, px: what an edge is known to."""
    side: int
    """Pixels of the axis."""
    lost: bool = False
    """Whether most tokens answer to every tooth of the comb, so that their edges are known to broad stripes alone."""

    @property
    def middle(self) -> Array:
        return (self.start + self.stop) / 2


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of one image shape."""

    columns: NDArray[np.int64]
    """Columns of the first layer's input that change with the image [N], in order."""
    x: Spans
    y: Spans
    passes: int
    """Passes of the vision tower that it took."""

    def strong(self, share: float) -> NDArray[np.bool_]:
        """Columns with pixels of their own: those that answer by this share of the upper quartile of answers."""
        answer = np.minimum(self.x.answer, self.y.answer)
        return answer > share * np.quantile(answer, 0.75)


def _alone(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """AttentionInterface function: every place attends to itself. Attention to another sequence stays as it is."""
    if query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    value = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    return value.transpose(1, 2).contiguous(), None


AttentionInterface.register(SELF, _alone)


@contextmanager
def alone(model: nn.Module, text: nn.Module) -> Iterator[None]:
    """Every attention of the model but the text model's is each place's to itself."""
    inside = {id(module) for module in text.modules()}
    own = {id(getattr(module, "config", None)) for module in text.modules()} | {id(getattr(model, "config", None))}
    saved: dict[int, tuple[Any, Any]] = {}
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if id(module) not in inside and id(config) not in own and hasattr(config, "_attn_implementation"):
            saved.setdefault(id(config), (config, config._attn_implementation))
    try:
        for config, _ in saved.values():
            config._attn_implementation_internal = SELF
        yield
    finally:
        for config, before in saved.values():
            config._attn_implementation_internal = before


def columns(states: Callable[[Image.Image], Tensor], width: int, height: int) -> NDArray[np.int64]:
    """Columns of the first layer's input that change with the image."""
    one, other = _noise(width, height)
    change = (states(Image.fromarray(other)) - states(Image.fromarray(one))).float().norm(dim=-1).cpu().numpy()
    return np.flatnonzero(change > CHANGED * max(float(change.max()), 1e-30))


def measure(
    states: Callable[[Image.Image], Tensor], found: NDArray[np.int64], width: int, height: int, *, every: bool = False
) -> Seen:
    """Footprints of the columns `found`; `states` gives the first layer's input [L, hidden] of an image, with a vision
    tower that does not mix. `every`: each stripe by itself, for tokens wider than a comb can tell."""
    one, other = _noise(width, height)
    base = states(Image.fromarray(one))
    own = (states(Image.fromarray(other)) - base).float().norm(dim=-1).cpu().numpy()[found]
    shown = int((own > CHANGED * own.max()).sum())  # padding has no pixels
    passes = 2

    def answers(along: int, which: NDArray[np.bool_]) -> Array:
        nonlocal passes
        passes += 1
        mask = which[None, :, None] if along else which[:, None, None]
        changed = states(Image.fromarray(np.where(mask, other, one)))
        return (changed - base).float().norm(dim=-1).cpu().numpy()[found].astype(np.float64)

    axes = [_axis(partial(answers, along), shown, width, height, along, every) for along in (1, 0)]
    return Seen(found, axes[0], axes[1], passes)


def _noise(width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two images of noise in blocks, so coarse that resizing leaves it: [H, W, 3]."""
    rng = np.random.default_rng(0)
    block = max(min(width, height) // 96, 1)
    shape = (math.ceil(height / block), math.ceil(width / block), 3)
    one, other = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    return tuple(np.repeat(np.repeat(a, block, 0), block, 1)[:height, :width] for a in (one, other))  # type: ignore[return-value]


def _axis(
    answers: Callable[[NDArray[np.bool_]], Array], tokens: int, width: int, height: int, along: int, every: bool
) -> Spans:
    side, across = (width, height) if along else (height, width)
    cells = math.sqrt(tokens * side / across)
    count = min(max(STRIPES, math.ceil(3 * cells)), side)
    edges = np.linspace(0, side, count + 1).round().astype(int)
    stripe = np.searchsorted(edges, np.arange(side), "right") - 1
    period = max(8, 3 * math.ceil(count / cells))
    if every or period + math.ceil(count / period) >= count:
        broad = np.stack([answers(stripe == at) for at in range(count)], 1)
        mine = broad > ANSWERS * broad.max(1, keepdims=True)
        first, last = mine.argmax(1), count - 1 - mine[:, ::-1].argmax(1)
        return Spans(edges[first] * 1.0, edges[last + 1] * 1.0, _norm(broad), side / count, side)
    comb = np.stack([answers(stripe % period == at) for at in range(period)], 1)
    broad = np.stack([answers(stripe // period == at) for at in range(math.ceil(count / period))], 1)
    fine = comb > ANSWERS * comb.max(1, keepdims=True)
    first, stop, wide = runs(fine, broad, count)
    answer = _norm(broad)
    lost = bool(wide[answer > STILL * np.quantile(answer, 0.75)].mean() > 0.5)
    return Spans(edges[first] * 1.0, edges[stop] * 1.0, answer, side / count, side, lost)


def _norm(answers: Array) -> Array:
    return np.sqrt((answers**2).sum(1))


def runs(fine: NDArray[np.bool_], broad: Array, count: int) -> tuple[Index, Index, NDArray[np.bool_]]:
    """(start, stop, whether it is wider than the comb can tell) of each token's stripes [N], from the teeth that it
    answers to [N, period] and how much to each broad stripe; (0, 0) where it answers to none.

    A token narrower than the period answers to one run of teeth, the last and the first side by side, and to one broad
    stripe or two. Where the run goes over that seam it stands on the border of two, and may answer to either more."""
    tokens, period = fine.shape
    starts, stops, wide = np.zeros(tokens, np.int64), np.zeros(tokens, np.int64), np.zeros(tokens, np.bool_)
    rough = broad > ANSWERS * broad.max(1, keepdims=True)
    for row in np.flatnonzero(fine.any(1)):
        teeth, stripes = np.flatnonzero(fine[row]), np.flatnonzero(rough[row])
        gaps = np.diff(np.append(teeth, teeth[0] + period))
        behind = int(gaps.argmax())
        first, size = int(teeth[(behind + 1) % len(teeth)]), period + 1 - int(gaps[behind])
        wide[row] = size == period or len(stripes) > 2
        if wide[row]:
            starts[row], stops[row] = stripes[0] * period, min((stripes[-1] + 1) * period, count)
            continue
        places = [at for at in range(first, count, period) if at + size <= count] or [first]
        answers = [broad[row, at // period : (at + size - 1) // period + 1].sum() for at in places]
        starts[row] = places[int(np.argmax(answers))]
        stops[row] = min(starts[row] + size, count)
    return starts, stops, wide
