"""Attention weighted with the gradient of the answer's log-probability, by layer and head (Chefer et al. 2021).

relevance = (A * d log p(answer) / dA)+ of the rows that a probe reads, A being attention after softmax. The metrics are
those of attention, on the map itself: a gradient is the question's own, so that no general prompt divides it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vgtool.attention.asks import Ask
from vgtool.attention.trace import relevance
from vgtool.grounding.metrics import Array, groundings
from vgtool.methods.answers import filled
from vgtool.methods.questions import FLOATS, PACK_TOKENS
from vgtool.methods.reading import AnySession
from vgtool.methods.task import Row
from vgtool.models.adapter import Adapter

LEVELS = ("layer", "head")
METRICS = ("ratio", "kl", "js")
COLUMNS = [
    *((f"relevance_{level}_{name}", FLOATS) for level in LEVELS for name in METRICS),
    ("relevance_attention", FLOATS),
    ("relevance_head_attention", FLOATS),
]


def rows_of(
    session: AnySession,
    adapter: Adapter,
    asks: Mapping[int, Ask],
    regions: Mapping[int, Sequence[int]],
    tokens: int,
    levels: Sequence[str],
    images: int,
) -> dict[int, Row]:
    """The columns of each question. `asks`: with the answer as their target. `levels`: of which maps are kept."""
    adapter.model.requires_grad_(False)
    rows: dict[int, Row] = {}
    for some in filled(asks.items(), lambda one: len(one[1].tail), PACK_TOKENS * images):
        found = relevance(session, [ask for _, ask in some], adapter.readable)
        nothing = torch.full_like(next(iter(found.values())), torch.nan)
        maps = torch.stack([found.get(layer, nothing) for layer in range(adapter.layers)], 1)[..., :tokens]
        for (at, _), one in zip(some, maps.double().numpy(), strict=True):
            rows[at] = _row(one, regions[at], levels)
    return rows


def _row(maps: Array, region: Sequence[int], levels: Sequence[str]) -> Row:
    """Of maps [L, H, T]."""
    row: Row = {}
    inside = np.isin(np.arange(maps.shape[-1]), list(region))
    for level, values in (("layer", maps.mean(1)), ("head", maps)):
        if region:
            found = groundings(values[None], inside[None])
            for name in METRICS:
                row[f"relevance_{level}_{name}"] = _numbers(getattr(found, name)[0])
        if level in levels:
            row[f"relevance_{'' if level == 'layer' else 'head_'}attention"] = _numbers(values)
    return row


def _numbers(values: Array) -> list[float | None]:
    return [float(one) if np.isfinite(one) else None for one in values.ravel()]
