"""Many questions on several images in one row of tokens: which keys each attention call compares with which queries.

The row [q1 | q2 | ...] has no padding, so the linear layers compute nothing that is not wanted. Attention alone takes
it apart: questions of one image form groups, each a line of queries against its image's prefix and its own columns,
padded to the longest with keys that nobody sees. Places are counted within each question's own sequence, never in
columns, so sliding windows see what they see in a prompt alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]

COPIED = 16
"""Copying a key into a group costs about as much as comparing it with so many queries."""
SHARED, NOBODY = -1, -2
"""Owners of keys: every question of the image; none."""


@dataclass(frozen=True, slots=True)
class Part:
    """One question's share of a pass."""

    image: int
    """Which prefix it continues."""
    queries: Ints
    """Its rows in this pass, in order."""
    keys: Ints
    """Its columns behind the prefixes, in order, this pass's included."""
    first: int
    """Place of its first column in its own sequence: what stands before it, as it sees it."""
    blind: bool = False
    """True: it may not see the image columns."""


def grouped(parts: Sequence[Part], prefix: int) -> list[list[int]]:
    """Indices of parts that share a line of queries and keys: of one image, together where copying the prefix (of so
    many tokens) once more costs more than the comparisons across questions that are thrown away."""
    groups: list[list[int]] = []
    open_: dict[int, tuple[list[int], int, int]] = {}
    for index, part in enumerate(parts):
        queries, keys = len(part.queries), len(part.keys)
        alone = (prefix + keys) * (queries + COPIED)
        if part.image in open_:
            group, q, k = open_[part.image]
            together = (prefix + k + keys) * (q + queries + COPIED)
            if together <= (prefix + k) * (q + COPIED) + alone:
                group.append(index)
                open_[part.image] = (group, q + queries, k + keys)
                continue
        open_[part.image] = ([index], queries, keys)
        groups.append(open_[part.image][0])
    return groups


@dataclass(slots=True)
class Pack:
    """The groups of one pass, on one device. G groups of at most S queries and K keys, the first P of them shared."""

    queries: Tensor
    """Row of the pass at each place of each group, long [G, S]; padding repeats a row."""
    keys: Tensor
    """Column at each place of each group, long [G, K]; padding repeats one of the same image."""
    back: Ints
    """Where each row of the pass went: group * S + place; on the host."""
    where: Tensor
    """The same on the device."""
    owner: tuple[Tensor, Tensor]
    """Question of each query [G, S] and key [G, K]."""
    place: tuple[Tensor, Tensor]
    """Place of each query and key in its question's own sequence."""
    hidden: Tensor
    """True where a blind query meets an image column, bool [G, S, K]."""
    dtype: torch.dtype
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(G, S)"""
        return self.queries.shape[0], self.queries.shape[1]

    def mask(self, window: int | None) -> Tensor:
        """What is added to the scores, [G, 1, S, K]: nothing on the prefix and one's own past, within `window` places
        when the layer has one, else minus infinity."""
        if window not in self._masks:
            (mine, theirs), (at, of) = self.owner, self.place
            distance = at[:, :, None] - of[:, None, :]
            allowed = (theirs[:, None, :] == SHARED) | (theirs[:, None, :] == mine[:, :, None])
            allowed = allowed & (distance >= 0) & ~self.hidden
            if window is not None:
                allowed &= distance < window
            mask = torch.zeros(allowed.shape, dtype=self.dtype, device=allowed.device)
            self._masks[window] = mask.masked_fill_(~allowed, -torch.inf)[:, None]
        return self._masks[window]


def _counted(sizes: Ints) -> Ints:
    """0, 1, ... within each of runs of these sizes."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _ahead(sizes: Ints, line: Ints) -> Ints:
    """How much stands before each run in its line."""
    before = np.cumsum(sizes) - sizes
    return before - before[np.searchsorted(line, line)]


def pack(parts: Sequence[Part], images: int, prefix: int, head: int, device: torch.device, dtype: torch.dtype) -> Pack:
    """The pack of a pass over `parts`. `prefix`: columns of each of `images` prefixes, `head` of them before the image.

    The columns of image i's prefix are [i * prefix, (i + 1) * prefix); a part's own `keys` count from 0 on behind all.
    """
    groups = grouped(parts, prefix)
    total = images * prefix
    longest = max(sum(len(parts[i].queries) for i in group) for group in groups)
    most = max(sum(len(parts[i].keys) for i in group) for group in groups)
    shape, wide = (len(groups), longest), (len(groups), prefix + most)
    order = [index for group in groups for index in group]
    mine = [parts[index] for index in order]
    q_sizes, k_sizes = (np.array(sizes) for sizes in zip(*((len(p.queries), len(p.keys)) for p in mine), strict=True))
    line = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    first = np.array([part.first for part in mine])
    starts = np.array([parts[group[0]].image * prefix for group in groups])[:, None]

    queries, q_owner, q_place = np.zeros(shape, np.int64), np.full(shape, NOBODY), np.full(shape, prefix)
    blind, back = np.zeros(shape, bool), np.zeros(q_sizes.sum(), np.int64)
    rows = np.concatenate([part.queries for part in mine])
    at = np.repeat(line * longest + _ahead(q_sizes, line), q_sizes) + _counted(q_sizes)
    queries.flat[at], q_owner.flat[at], back[rows] = rows, np.repeat(order, q_sizes), at
    q_place.flat[at] = np.repeat(first + k_sizes - q_sizes, q_sizes) + _counted(q_sizes)
    blind.flat[at] = np.repeat([part.blind for part in mine], q_sizes)

    # Padding repeats a column of the same image: what is not finite in another must not come in.
    keys, k_owner, k_place = np.broadcast_to(starts, wide).copy(), np.full(wide, NOBODY), np.zeros(wide, np.int64)
    keys[:, :prefix] += np.arange(prefix)
    k_owner[:, :prefix], k_place[:, :prefix] = SHARED, np.arange(prefix)
    at = np.repeat(line * wide[1] + prefix + _ahead(k_sizes, line), k_sizes) + _counted(k_sizes)
    keys.flat[at], k_owner.flat[at] = total + np.concatenate([p.keys for p in mine]), np.repeat(order, k_sizes)
    k_place.flat[at] = np.repeat(first, k_sizes) + _counted(k_sizes)

    flat = np.concatenate([a.ravel() for a in (queries, q_owner, q_place, blind, keys, k_owner, k_place, back)])
    sizes = [queries.size] * 4 + [keys.size] * 3 + [back.size]
    parts_of = torch.from_numpy(flat).to(device).split(sizes)  # one copy to the device for all
    queries_, q_owner_, q_place_, blind_ = (one.view(shape) for one in parts_of[:4])
    keys_, k_owner_, k_place_ = (one.view(wide) for one in parts_of[4:7])
    columns = torch.arange(wide[1], device=device)
    image = (columns >= head) & (columns < prefix)
    hidden = blind_.bool()[:, :, None] & image
    return Pack(queries_, keys_, back, parts_of[7], (q_owner_, k_owner_), (q_place_, k_place_), hidden, dtype)


@dataclass(frozen=True, slots=True)
class Picked:
    """Some rows of a pass, arranged by group as the pass is: R rows in G lines of at most s places."""

    rows: Tensor
    """Row of the pass, long [R]."""
    lines: Tensor
    """Row of the pass at each place of each line, long [G, s]; padding repeats a row."""
    at: Tensor
    """Where each row stands in the lines: line * s + place, long [R]."""
    home: Tensor
    """Where each row stands in the pass: group * S + place, long [R]."""
    group: Tensor
    """Its group, long [R]."""
    dense: bool
    """True: `at` is 0, 1, 2, ..., so that nothing has to be gathered."""

    @classmethod
    def of(cls, rows: Sequence[int] | Ints, back: Ints, shape: tuple[int, int], device: torch.device) -> "Picked":
        """Rows of a pass of G groups of S places each, where `back` says where each row stands."""
        picked = np.asarray(rows, np.int64)
        groups, size = shape
        home = back[picked]
        group = home // size
        counts = np.bincount(group, minlength=groups)
        order = np.argsort(group, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        widest = max(int(counts.max(initial=0)), 1)
        lines = np.full((groups, widest), picked[0] if len(picked) else 0)
        lines[group, rank] = picked
        at = group * widest + rank
        dense = len(at) == groups * widest and bool((at == np.arange(len(at))).all())
        flat = torch.from_numpy(np.concatenate([picked, lines.ravel(), at, home, group])).to(device)
        r = len(picked)
        rows_, lines_, at_, home_, group_ = flat.split([r, lines.size, r, r, r])
        return cls(rows_, lines_.view(groups, widest), at_, home_, group_, dense)
