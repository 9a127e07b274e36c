"""VGRefine (paper section 4): attention triage, then attention knockout; and the controls that share its steps.

Each control changes one thing: which tokens are kept (`random-keep`, `centre`, `oracle`, `swap`, `invert`) or which
heads are read (`random-heads`). All take VGRefine's parameters, so a control runs at exactly its method's settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from vgtool.attention.asks import Rows
from vgtool.errors import SampleError, VgError
from vgtool.grounding import triage
from vgtool.methods.base import LEFT_OUT, Array, Facts, Plan, Scenes, hide, unusable

Chosen = NDArray[np.bool_]
Refused = dict[int, SampleError]

TOP_K = 20
"""Heads that the paper reads."""


@dataclass(frozen=True, kw_only=True)
class VGRefine:
    """Hide the image tokens that the grounding heads find irrelevant to the question."""

    name: ClassVar[str] = "vgrefine"
    summary: ClassVar[str] = "attention triage, then knockout of irrelevant image tokens (the paper's method)"

    top_k: int = field(default=TOP_K, metadata={"help": "heads used, from the top of the ranking"})
    percentile: float = field(default=50.0, metadata={"help": "tokens below this percentile of the map are hidden"})
    magnitude: float | None = field(default=None, metadata={"help": "hide below this min-max value instead (0 to 1)"})
    layers: tuple[int, ...] | None = field(default=None, metadata={"help": "knockout layers, as 16 or 34+35+36"})
    general: Literal["layer", "head"] = field(default="layer", metadata={"help": "general map: head mean, or per head"})
    row: Rows = field(default="last", metadata={"help": "attention row read: last, question or text"})
    rows: Rows = field(
        default="text", metadata={"help": "rows knocked out: text (all after the image), question, last"}
    )
    decode: Literal["off", "on"] = field(default="off", metadata={"help": "knock generated tokens out too"})
    apply: Literal["mask", "multiply"] = field(
        default="mask", metadata={"help": "before softmax (renormalised), or after it"}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise VgError(f"{self.name}: percentile={self.percentile} is not between 0 and 100.", "50 is the paper's.")
        if self.magnitude is not None and not 0 <= self.magnitude <= 1:
            said = f"{self.name}: magnitude={self.magnitude} is not between 0 and 1."
            raise VgError(said, "Give one that is, or leave it out.")
        if self.top_k < 1:
            raise VgError(f"top_k={self.top_k} is below 1.", "20 is the paper's.")

    def heads(self, facts: Facts) -> Sequence[tuple[int, int]]:
        """The chosen (layer, head)s."""
        if not facts.ranked:
            raise VgError(
                f"--method {self.name} needs ranked heads, and this model has no published ones.",
                "Rank them: vgtool probe on natural images, vgtool heads RUN -o heads.json, then --heads heads.json.",
            )
        ranked = triage.distinct(facts.ranked)
        # The default asks for the paper's 20 and takes what a smaller file has; another number is meant.
        if self.top_k > len(ranked) and self.top_k != TOP_K:
            raise VgError(f"top_k={self.top_k}, but {len(ranked)} heads are ranked.", "Rank more with vgtool heads -k.")
        return ranked[: self.top_k]

    def edited(self, facts: Facts) -> frozenset[int]:
        """Knockout layers."""
        layers = self.layers if self.layers is not None else facts.knockout_layers
        if not layers or min(layers) < 0 or max(layers) >= facts.layers:
            raise VgError(
                f"--method {self.name}: knockout layers {list(layers)} do not fit a model of {facts.layers} layers.",
                f"Give layers=N with N from 0 to {facts.layers - 1}.",
            )
        if refused := sorted(set(layers) & facts.without):
            raise VgError(
                f"--method {self.name}: layer {refused[0]} has no softmax attention to knock out.",
                f"Give layers=N with N of {', '.join(map(str, sorted(facts.readable)))}.",
            )
        return frozenset(layers)

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {self.row: frozenset(layer for layer, _ in self.heads(facts))}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset({min(self.edited(facts))})

    def map(self, scenes: Scenes) -> Array:
        """The triage maps [Q, T]."""
        heads = self.heads(scenes.facts)
        question, general = scenes.question(self.row), scenes.general(self.row)
        above = np.stack([question[layer][:, head] for layer, head in heads])
        below = [general[la][:, he] if self.general == "head" else general[la].mean(1) for la, he in heads]
        return triage.triage_map(above, np.stack(below)[:, scenes.group])

    def relevant(self, values: Array) -> Chosen:
        """Tokens kept by triage maps."""
        if self.magnitude is not None:
            return triage.keep_above(values, self.magnitude)
        return triage.keep_percentile(values, self.percentile)

    def chosen(self, scenes: Scenes, values: Array, refused: Refused) -> Chosen:
        """Tokens that stay visible, bool [Q, T]; the one step that controls replace. Questions that cannot be answered
        so go into `refused`."""
        return self.relevant(values)

    def settings(self, facts: Facts) -> dict[str, Any]:
        """How the knockout is applied."""
        return {
            "layers": self.edited(facts),
            "rows": self.rows,
            "renormalise": self.apply == "mask",
            "decode": self.decode == "on",
        }

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        values = self.map(scenes)
        refused: Refused = unusable(values, "the triage map")
        kept = self.chosen(scenes, values, refused)
        settings = self.settings(scenes.facts)
        changes, opposites = hide(~kept, **settings), hide(kept, **settings)
        where = np.split(np.nonzero(kept)[1], np.cumsum(kept.sum(1))[:-1])
        return [
            refused[at] if at in refused else Plan(change, kept=tokens, triage=values[at], opposite=opposite)
            for at, (change, opposite, tokens) in enumerate(zip(changes, opposites, where, strict=True))
        ]


@dataclass(frozen=True, kw_only=True)
class RandomKeep(VGRefine):
    """As many tokens as VGRefine keeps, drawn at random."""

    name: ClassVar[str] = "random-keep"
    summary: ClassVar[str] = "control: as many tokens as vgrefine keeps, at random"

    def chosen(self, scenes: Scenes, values: Array, refused: Refused) -> Chosen:
        counts, kept = self.relevant(values).sum(1), np.zeros(values.shape, bool)
        for at, count in enumerate(counts):  # each sample has random numbers of its own, whatever else runs beside it
            kept[at, scenes[at].rng("random-keep").permutation(scenes.tokens)[:count]] = True
        return kept


@dataclass(frozen=True, kw_only=True)
class RandomHeads(VGRefine):
    """VGRefine with heads drawn at random from the whole model."""

    name: ClassVar[str] = "random-heads"
    summary: ClassVar[str] = "control: vgrefine with heads drawn at random"

    def heads(self, facts: Facts) -> Sequence[tuple[int, int]]:
        rng = np.random.default_rng([facts.seed, 0x6865616473])
        layers = sorted(facts.readable)
        picks = rng.permutation(len(layers) * facts.heads)[: self.top_k]
        return [(layers[int(pick) // facts.heads], int(pick) % facts.heads) for pick in picks]


@dataclass(frozen=True, kw_only=True)
class Centre(VGRefine):
    """A centred box of the same number of tokens, in each image as many as VGRefine keeps there."""

    name: ClassVar[str] = "centre"
    summary: ClassVar[str] = "control: a centred box of the same size"
    needs_grid: ClassVar[bool] = True

    def chosen(self, scenes: Scenes, values: Array, refused: Refused) -> Chosen:
        kept, chosen, first = self.relevant(values), np.zeros(values.shape, bool), 0
        for grid in scenes.grids:
            here = slice(first, first + grid.tokens)
            rows, cols = np.indices((grid.rows, grid.cols)) + 0.5
            away = np.maximum(np.abs(rows / grid.rows - 0.5), np.abs(cols / grid.cols - 0.5)).ravel()
            rank = np.argsort(np.argsort(away, kind="stable"), kind="stable")
            chosen[:, here] = rank < kept[:, here].sum(1, keepdims=True)
            first += grid.tokens
        return chosen


@dataclass(frozen=True, kw_only=True)
class Oracle(VGRefine):
    """The ground-truth region: the ceiling of any choice of tokens."""

    name: ClassVar[str] = "oracle"
    summary: ClassVar[str] = "ceiling: keeps the ground-truth region (benchmarks with boxes)"
    needs_grid: ClassVar[bool] = True
    needs_boxes: ClassVar[bool] = True

    def chosen(self, scenes: Scenes, values: Array, refused: Refused) -> Chosen:
        scenes.only_image(self.name)
        kept = np.zeros(values.shape, bool)
        for at, region in enumerate(scenes.regions):
            kept[at, region] = True
            if not scenes.samples[at].boxes:  # an absent class, or a question about no object: nothing to look at
                refused[at] = SampleError(LEFT_OUT, "the oracle needs a ground-truth box")
            elif not region:
                error = SampleError("no_region", "the oracle needs a ground-truth box that touches an image token")
                refused[at] = error
        return kept


@dataclass(frozen=True, kw_only=True)
class Swap(VGRefine):
    """The tokens that the same question keeps on another image."""

    name: ClassVar[str] = "swap"
    summary: ClassVar[str] = "control: the mask the same question gets on another image"
    needs_grid: ClassVar[bool] = True

    def chosen(self, scenes: Scenes, values: Array, refused: Refused) -> Chosen:
        scenes.only_image(self.name)
        found, lacking = scenes.elsewhere()
        refused |= lacking
        values, (mine,) = values.copy(), scenes.grids
        for others, at in found:
            maps = self.map(others)
            refused |= {int(at[i]): error for i, error in unusable(maps, "the triage map").items()}
            theirs = others.grids[0]
            if mine != theirs:  # nearest cell, where the other image has another grid
                rows = np.arange(mine.rows) * theirs.rows // mine.rows
                cols = np.arange(mine.cols) * theirs.cols // mine.cols
                maps = maps[:, : theirs.tokens].reshape(-1, theirs.rows, theirs.cols)[:, rows][:, :, cols]
            values[at] = maps.reshape(len(at), -1)
        return self.relevant(values)


@dataclass(frozen=True, kw_only=True)
class Invert(VGRefine):
    """The tokens that VGRefine drops."""

    name: ClassVar[str] = "invert"
    summary: ClassVar[str] = "control: keeps exactly what vgrefine hides"

    def chosen(self, scenes: Scenes, values: Array, refused: Refused) -> Chosen:
        return ~self.relevant(values)
