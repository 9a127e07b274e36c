"""An independent reference: full-matrix eager attention over the whole prompt, one question at a time, nothing shared.

Written from the definitions alone, importing nothing of vgtool: a map of layer -> edit changes the scores of chosen
rows after the model's own mask, and the softmax weights of every layer are kept.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "reference_eager"
ScoreEdit = Callable[[Tensor], Tensor]
"""Masked scaled scores [B, H, q, k] -> edited ones."""


@dataclass
class Watch:
    """What the reference attention does during one forward pass."""

    scores: dict[int, ScoreEdit] = field(default_factory=dict)
    weights: dict[int, ScoreEdit] = field(default_factory=dict)
    seen: list[Tensor] = field(default_factory=list)


_WATCH: list[Watch] = []


def _attention(module, query, key, value, attention_mask, scaling=None, **kwargs):  # type: ignore[no-untyped-def]
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[2]]
    watch = _WATCH[-1]
    if module.layer_idx in watch.scores:
        scores = watch.scores[module.layer_idx](scores)
    weights = scores.float().softmax(-1)
    if module.layer_idx in watch.weights:
        weights = watch.weights[module.layer_idx](weights)
    watch.seen.append(weights)
    return torch.matmul(weights.to(query.dtype), value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


@contextmanager
def watching(model: Any, watch: Watch) -> Iterator[Watch]:
    """Run the text model through the reference attention inside."""
    before = model.config.get_text_config()._attn_implementation
    model.set_attn_implementation({"text_config": NAME})
    _WATCH.append(watch)
    try:
        yield watch
    finally:
        _WATCH.pop()
        model.set_attn_implementation({"text_config": before})


def cut(rows: Sequence[int], columns: Sequence[int]) -> ScoreEdit:
    """Scores of `rows` -> `columns` become minus infinity."""

    def edit(scores: Tensor) -> Tensor:
        out = scores.clone()
        for row in rows:
            out[:, :, row, list(columns)] = float("-inf")
        return out

    return edit


def dropped(rows: Sequence[int], columns: Sequence[int]) -> ScoreEdit:
    """Weights of `rows` -> `columns` become zero, after the softmax."""

    def edit(weights: Tensor) -> Tensor:
        out = weights.clone()
        for row in rows:
            out[:, :, row, list(columns)] = 0.0
        return out

    return edit


def last_row(columns: Sequence[int], change: ScoreEdit) -> ScoreEdit:
    """Scores of the last row -> `columns` through `change`."""

    def edit(scores: Tensor) -> Tensor:
        out = scores.clone()
        out[:, :, -1, list(columns)] = change(scores[:, :, -1, list(columns)])
        return out

    return edit


def forward(model: Any, kwargs: dict[str, Any], watch: Watch | None = None) -> tuple[Tensor, list[Tensor]]:
    """Logits [L, vocabulary] and per-layer weights [H, L, L] of one whole prompt."""
    watch = Watch() if watch is None else watch
    watch.seen.clear()
    with torch.inference_mode(), watching(model, watch):
        out = model(**kwargs, use_cache=False)
    return out.logits[0].float(), [weights[0] for weights in watch.seen]
