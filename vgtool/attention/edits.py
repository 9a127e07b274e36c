"""Changes of questions as edits of a pass, and columns of an earlier pass as those of the next."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vgtool.attention.tap import Edit

if TYPE_CHECKING:
    from vgtool.attention.asks import Change


def picked(states: Tensor, index: Tensor, dim: int) -> Tensor:
    """Some columns of keys, values or hidden states, in memory as they were."""
    index = index.to(states.device)
    if dim != 2:
        return states.index_select(dim, index)
    return states.transpose(1, 2).index_select(1, index).transpose(1, 2)


def edits_of(changes: "Iterable[tuple[Change, Sequence[int]]]") -> list[Edit]:
    """The engine's edits for changes, each at its rows of a pass. Changes that differ in nothing but their rows and
    tokens are one edit: on a GPU what counts is how many there are, in every layer and step."""
    alike: dict[Any, list[tuple[Change, Sequence[int]]]] = {}
    for change, rows in changes:
        if not change.empty and len(rows):
            how = (change.rescore, change.reweigh, change.tilt, change.renormalise, change.overview)
            kind = (change.layers, *how, change.cut is None)
            alike.setdefault(kind, []).append((change, rows))
    edits = []
    for (layers, rescore, reweigh, tilt, renormalise, overview, uncut), some in alike.items():
        cut = None if uncut else torch.stack([change.cut for change, _ in some if change.cut is not None])
        which = np.repeat(np.arange(len(some)), [len(rows) for _, rows in some])
        where = np.array([row for _, rows in some for row in rows])
        edits.append(Edit(layers, where, cut, None if uncut else which, rescore, renormalise, overview, reweigh, tilt))
    return edits
