"""What one forward pass reads and edits, and the softmax weights of the few rows that asks for.

A row is a query of the pass: R rows are worked out against all keys of their groups in fp32, O(rows x keys) and never
keys x keys.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgtool.attention.packing import Ints, Pack, Picked


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of some query rows of one pass at some layers."""

    layers: frozenset[int]
    rows: Ints
    """Rows of the pass [r]; in a batch of B lines of q queries without a pack, row b * q + i."""
    cut: Tensor | None = None
    """True where rows may not attend to an image column, bool [c, N]; added to the model's mask, so that the kept
    weights renormalise."""
    which: Ints | None = None
    """Which line of `cut` is each row's [r]."""
    rescore: Callable[[Tensor], Tensor] | None = None
    """New scaled scores of the rows' image columns from the old, float32 [r, H, N] (PAI, AdaptVis)."""
    renormalise: bool = True
    """False: the cut zeroes weights after softmax (the paper's elementwise product), so a row no longer sums to 1."""
    overview: bool = False
    """True: `rescore` takes the overview tokens behind the image's own [r, H, N + overview]."""
    reweigh: Any = None
    """New weights after softmax, float32 [r, H, K] (vgtool.attention.sinks.Redistribute)."""
    tilt: Any = None
    """Who is tilted (vgtool.attention.tilt.Tilt)."""

    @property
    def masks(self) -> bool:
        """Whether a mask says it all; else the rows' weights are worked out one by one."""
        return self.renormalise and all(one is None for one in (self.rescore, self.reweigh, self.tilt))


@dataclass(slots=True)
class Tap:
    """What one forward pass reads and edits."""

    columns: Tensor
    """Where a group's keys are its image's columns, in image-space order, long [N]; [B, N] without a pack."""
    read: frozenset[int] = frozenset()
    """Layers to read."""
    rows: Sequence[int] | Ints = ()
    """Rows to read [R]."""
    slots: Ints | None = None
    """Output slot of each row to read [R]; rows of one slot are averaged. None: a slot a row."""
    edits: Sequence[Edit] = ()
    pack: Pack | None = None
    stop: int | None = None
    """The pass ends in this layer, once its keys and values are in the cache and its rows are read (see `stopping`)."""
    explain: bool = False
    """Whether to note how far each read row's weights are from explaining the layer's own output."""
    unexplained: dict[int, float] = field(default_factory=dict)
    """Result: layer -> largest difference between weights @ values and the output, over the largest output."""
    maps: dict[int, Tensor] = field(default_factory=dict)
    """Result: layer -> float32 [slots, H, N] on the layer's device, rows normalised over all keys they may see."""
    overview: Tensor | None = None
    """Where a group's keys are its image's overview tokens, long; with edits that rescore them."""
    sinks: dict[Any, Any] = field(default_factory=dict)
    """By kind, which columns are sinks (vgtool.attention.sinks.Sinks), with edits that reweigh."""
    tilts: dict[int, Any] = field(default_factory=dict)
    """By id of an edit, what tilts it (vgtool.attention.tilt.Tilting)."""
    traced: dict[int, Tensor] | None = None
    """Given: for every layer read, what is added to the rows' weights on the image columns [R, H, N]: zeros, by which
    the pass can be differentiated."""
    _picked: dict[Any, Picked] = field(default_factory=dict)
    _masked: list[tuple[tuple[int, ...], Tensor | None, Tensor]] = field(default_factory=list)


TAP: ContextVar[Tap | None] = ContextVar("vgtool_tap", default=None)


@contextmanager
def tapped(tap: Tap) -> Iterator[Tap]:
    """Apply `tap` to the forward pass run inside."""
    token = TAP.set(tap)
    try:
        yield tap
    finally:
        TAP.reset(token)


class Stop(Exception):
    """A pass has given all that is wanted of it."""


def stopping() -> suppress:
    """Around a pass whose tap says where it stops: there it ends, and nothing comes back."""
    return suppress(Stop)


@dataclass(frozen=True, slots=True)
class Call:
    """One attention call, taken apart into groups: key and value [G, Hk, K, D], mask [1 or G, 1, S, K] or None."""

    tap: Tap
    rows: Tensor
    """Queries by row of the pass [H, R, D]."""
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    shape: tuple[int, int]
    """(G, S)"""
    layer: int

    def pick(self, name: Any, rows: Sequence[int] | Ints) -> Picked:
        """The rows of a pass that are read, or edited by one edit; arranged once for all layers of a device."""
        device = self.key.device
        if (name, device) not in self.tap._picked:
            pack = self.tap.pack
            back = np.arange(self.shape[0] * self.shape[1]) if pack is None else pack.back
            self.tap._picked[name, device] = Picked.of(rows, back, self.shape, device)
        return self.tap._picked[name, device]

    def columns(self, picked: Picked) -> Tensor:
        """Image columns of each row, [R, N]."""
        columns = self.tap.columns.to(self.key.device)
        return columns.expand(len(picked.rows), -1) if columns.dim() == 1 else columns[picked.group]

    def sinks(self, picked: Picked, kind: Any) -> Tensor:
        """Which keys of each row are sinks here, bool [R, K]."""
        flags, pack = self.tap.sinks[kind].flags[self.layer].to(self.key.device), self.tap.pack
        if pack is None:
            return flags[: self.key.shape[2]].expand(len(picked.rows), -1)
        return flags[pack.keys.to(flags.device)][picked.group]

    def with_overview(self, columns: Tensor) -> Tensor:
        """Image columns [R, H, N] with those of the overview tokens behind them."""
        if self.tap.overview is None:
            return columns
        extra = self.tap.overview.to(columns.device)
        return torch.cat([columns, extra.expand(*columns.shape[:2], -1)], 2)

    def scores(self, picked: Picked) -> Tensor:
        """Scaled scores against every key of the group, float32 [R, H, K]. Grouped heads share their keys."""
        groups, size = picked.lines.shape
        heads, shared = self.rows.shape[0], self.key.shape[1]
        lines = self.rows[:, picked.lines.view(-1)].float().view(heads, groups, size, -1).transpose(0, 1)
        lines = lines.reshape(groups, shared, heads // shared * size, -1)
        found = lines @ self.key.float().transpose(-1, -2) * self.scaling
        found = found.view(groups, heads, size, -1).transpose(1, 2).flatten(0, 1)
        return found if picked.dense else found[picked.at]

    def allowed(self, picked: Picked, mask: Tensor | None) -> Tensor:
        """A mask of some rows, [R, 1, K]: bool (True = may attend), or additive."""
        keys, size = self.key.shape[2], self.shape[1]
        if mask is None:
            place = picked.home % size
            return (torch.arange(keys, device=place.device) <= (place + keys - size)[:, None])[:, None]
        lines = mask[:, 0, :, :keys]
        lines = lines.expand(self.shape[0], -1, -1) if len(lines) == 1 else lines
        return lines[picked.group, picked.home % size][:, None]

    def weights(self, picked: Picked, mask: Tensor | None, edits: Sequence[Edit]) -> Tensor:
        """Softmax weights of some rows, float32 [R, H, K], with `edits` of all of them that a mask cannot say."""
        scores, columns = self.scores(picked), self.columns(picked)[:, None].expand(-1, self.rows.shape[0], -1)
        for edit in edits:
            if edit.rescore is not None:
                at = self.with_overview(columns) if edit.overview else columns
                scores = scores.scatter(2, at, edit.rescore(scores.gather(2, at)))
            if edit.tilt is not None:
                at, tilting = self.with_overview(columns), self.tap.tilts[id(edit)]
                scores = scores.scatter(2, at, tilting(scores.gather(2, at), self.layer))
        weights = masked(scores, self.allowed(picked, mask)).softmax(-1)
        for edit in edits:
            if edit.reweigh is not None:
                weights = edit.reweigh(weights, self.with_overview(columns), self.sinks(picked, edit.reweigh.kind))
            if edit.cut is not None and not edit.renormalise:
                kept = weights.gather(2, columns) * ~cut_of(edit, weights.device)[:, None]
                weights = weights.scatter(2, columns, kept)
        return weights

    def output(self, picked: Picked, weights: Tensor) -> Tensor:
        """What rows with these weights give, [R, H, D]."""
        groups, size = picked.lines.shape
        heads, shared, keys = self.rows.shape[0], self.key.shape[1], self.key.shape[2]
        if not picked.dense:
            lines = torch.zeros(groups * size, heads, keys, device=weights.device)
            weights = lines.index_copy_(0, picked.at, weights)
        weights = weights.view(groups, size, heads, keys).transpose(1, 2).reshape(groups, shared, -1, keys)
        out = (weights @ self.value.float()).view(groups, heads, size, -1).transpose(1, 2).flatten(0, 1)
        return out if picked.dense else out[picked.at]


def masked(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


def cut_of(edit: Edit, device: torch.device) -> Tensor:
    """An edit's cut of each of its rows, bool [r, N]."""
    assert edit.cut is not None
    cut = edit.cut.to(device)
    return cut if edit.which is None else cut[torch.from_numpy(edit.which).to(device)]
