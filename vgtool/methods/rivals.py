"""The methods the paper compares with, each from its own definition and with its originals' defaults.

PAI (arXiv 2407.21771): louder image tokens, and guidance against the prompt without its image.
AdaptVis (arXiv 2503.01773): sharper or smoother image attention, by the baseline's confidence.
ViCrop, relative attention (arXiv 2502.17422): ask again with a crop of where the model looks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from vgtool.attention.asks import Change, Rows
from vgtool.errors import SampleError, VgError
from vgtool.grounding.metrics import relative_attention
from vgtool.methods.base import Array, Facts, Plan, Scene, Scenes, unusable

if TYPE_CHECKING:
    from torch import Tensor

    Rescore = Callable[[Tensor], Tensor]

OVERVIEW = "thumbnail tokens too: the originals take every token of the image"


@dataclass(frozen=True, kw_only=True)
class Pai:
    """Image-token scores s of the last row become s + alpha |s|, while answering too; then guidance."""

    name: ClassVar[str] = "pai"
    summary: ClassVar[str] = "rival: louder image tokens and guidance against no image (Liu et al. 2024)"

    alpha: float = field(default=0.2, metadata={"help": "how much louder"})
    gamma: float = field(default=1.1, metadata={"help": "guidance; 1 is none"})
    start: int = field(default=2, metadata={"help": "first layer changed"})
    first: Literal["louder", "plain"] = field(
        default="louder",
        metadata={"help": "the prompt's last row, before the first token; plain as the released code has it"},
    )

    overview: Literal["on", "off"] = field(default="on", metadata={"help": OVERVIEW})

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {}

    def starts(self, facts: Facts) -> frozenset[int]:
        if not 0 <= self.start < facts.layers:
            said = f"pai: start={self.start} does not fit a model of {facts.layers} layers."
            raise VgError(said, f"Give start=N with N from 0 to {facts.layers - 1}.")
        return frozenset({min(self._layers(facts))})

    def _layers(self, facts: Facts) -> frozenset[int]:
        layers = frozenset(layer for layer in facts.readable if layer >= self.start)
        if not layers:
            raise VgError(f"pai: no layer from start={self.start} on has softmax attention.", "Give a lower start.")
        return layers

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        layers = self._layers(scenes.facts)
        rows: Rows = "last" if self.first == "louder" else "none"
        rescore, overview = _louder(self.alpha), self.overview == "on"
        change = Change(layers=layers, rescore=rescore, rows=rows, overview=overview, decode=True)
        return [Plan(change if self.alpha else None, gamma=None if self.gamma == 1 else self.gamma)] * len(scenes)


@cache  # equal changes of scores are one object, so that the session can make one edit of them
def _louder(alpha: float) -> "Rescore":
    return lambda scores: scores + alpha * scores.abs()


@cache
def _scaled(weight: float) -> "Rescore":
    return lambda scores: scores * weight


@dataclass(frozen=True, kw_only=True)
class AdaptVis:
    """Scores of the last row to the image times a weight: below 1 when the baseline is unsure, above 1 otherwise."""

    name: ClassVar[str] = "adaptvis"
    summary: ClassVar[str] = "rival: image attention scaled by the baseline's confidence (Chen et al. 2025)"

    threshold: float = field(default=0.4, metadata={"help": "confidence that counts as sure"})
    unsure: float = field(default=0.5, metadata={"help": "weight below the threshold"})
    sure: float = field(default=1.5, metadata={"help": "weight from the threshold on"})
    layers: int = field(default=32, metadata={"help": "scaled: so many, from the first"})
    decode: Literal["off", "on"] = field(default="off", metadata={"help": "scale generated tokens' rows too"})
    overview: Literal["on", "off"] = field(default="on", metadata={"help": OVERVIEW})

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset({min(facts.readable)})

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        layers = frozenset(layer for layer in scenes.facts.readable if layer < self.layers)
        how: Any = {"rows": "last", "decode": self.decode == "on", "overview": self.overview == "on"}
        plans = {
            weight: Plan() if weight == 1 else Plan(Change(layers=layers, rescore=_scaled(weight), **how))
            for weight in (self.unsure, self.sure)
        }
        confidence = scenes.probabilities.max(-1).round(2)  # the released code compares it to two places
        unsure = confidence < self.threshold
        return [plans[self.unsure if low else self.sure] for low in unsure]


@dataclass(frozen=True, kw_only=True)
class ViCrop:
    """Ask with the image and a crop around the strongest window of the relative attention map."""

    name: ClassVar[str] = "vicrop"
    summary: ClassVar[str] = "rival: the image and a crop of where the model looks (Zhang et al. 2025)"
    needs_grid: ClassVar[bool] = True

    layer: int | None = field(
        default=None, metadata={"help": "layer of the map; 14 of 32, 22 of 36 where the input follows the image"}
    )
    side: float | None = field(
        default=None,
        metadata={"help": "least window side, px; the model's input, 224 where that follows the image"},
    )

    over: Literal["seen", "whole"] = field(
        default="seen",
        metadata={"help": "where the map lies: on what the model sees; whole stretches it, as the released code does"},
    )

    def __post_init__(self) -> None:
        if self.side is not None and self.side < 2:
            raise VgError(f"vicrop: side={self.side:g} is no window of 2 pixels or more.", "Leave it out, or raise it.")

    def where(self, facts: Facts) -> int:
        share = 22 / 36 if facts.follows_image else 14 / 32  # the released code's, for Qwen2.5-VL and for LLaVA
        proportion = round(share * facts.layers)
        nearest = min(facts.readable, key=lambda layer: (abs(layer - proportion), layer))
        layer = nearest if self.layer is None else self.layer
        if not 0 <= layer < facts.layers:
            said = f"vicrop: layer={layer} does not fit a model of {facts.layers} layers."
            raise VgError(said, f"Give layer=N with N from 0 to {facts.layers - 1}.")
        if layer in facts.without:
            raise VgError(f"vicrop: layer={layer} has no softmax attention.", f"The nearest with it is {nearest}.")
        return layer

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {"last": frozenset({self.where(facts)})}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset()

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        scenes.only_image(self.name)
        layer, grid = self.where(scenes.facts), scenes.grids[0]
        question = scenes.question("last")[layer].mean(1)[:, : grid.tokens]
        general = scenes.general("last")[layer].mean(1)[scenes.group, : grid.tokens]
        values = relative_attention(question, general)
        plans: list[Plan | SampleError] = []
        refused = unusable(values, "the relative attention map")
        for at in range(len(scenes)):
            if at in refused:
                plans.append(refused[at])
                continue
            scene = scenes[at]
            box = window(values[at].reshape(grid.rows, grid.cols), scene, self.side, self.over == "whole")
            shown = (scene.image, scene.image.crop(box))
            plans.append(Plan(images=shown, beside=True, key=f"vicrop {box}", triage=values[at]))
        return plans


SIZES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


FOLLOWING = 224.0
"""Least window side, in stored pixels, where a model's input follows the image (Qwen, tiles): the released code's for
Qwen2.5-VL, whose images it also caps at 200,704 pixels."""


def window(values: Array, scene: Scene, least: float | None = None, whole: bool = False) -> tuple[int, int, int, int]:
    """The crop in stored pixels: per size the window with the largest sum; of those, the one that stands out most.

    Window sizes are `least` times SIZES, in stored pixels; without it the model's input size, as the original has it,
    or FOLLOWING. `whole`: the map is taken to span the image, even where padding or cropping moved it. A size that
    covers the whole image is left out, and an image smaller than every window is not cropped.
    """
    geometry, image = scene.geometry, scene.image
    rows, cols = values.shape
    left, top, right, bottom = (0.0, 0.0, image.width, image.height) if whole else geometry.grid_box()
    cell_w, cell_h = (right - left) / cols, (bottom - top) / rows
    least = least or (FOLLOWING if scene.facts.follows_image else geometry.canvas_width)
    best: tuple[float, float, float, float] | None = None
    for size in SIZES:
        side = least * size
        across, down = min(max(_whole(side / cell_w), 1), cols), min(max(_whole(side / cell_h), 1), rows)
        if across == cols and down == rows:
            continue
        sums = np.lib.stride_tricks.sliding_window_view(values, (down, across)).sum((2, 3))
        y, x = np.unravel_index(int(sums.argmax()), sums.shape)
        beside = [(y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)]
        near = [sums[b, a] for b, a in beside if 0 <= b < sums.shape[0] and 0 <= a < sums.shape[1]]
        stands_out = float((sums[y, x] - np.mean(near)) / (across * down))
        if best is None or stands_out > best[0]:
            centre = left + x * cell_w + cell_w * across / 2, top + y * cell_h + cell_h * down / 2
            best = (stands_out, *centre, side)
    if best is None:
        return (0, 0, image.width, image.height)
    _, centre_x, centre_y, side = best
    (x0, x1), (y0, y1) = _span(centre_x, side, image.width), _span(centre_y, side, image.height)
    return x0, y0, x1, y1


def _whole(value: float) -> int:
    """As int, of a value that a geometry's scales may have left a trace below a whole number."""
    return int(round(value, 6))


def _span(centre: float, side: float, size: int) -> tuple[int, int]:
    """[start, stop) of a window on one axis, moved inside the image; whole pixels as the released code rounds them."""
    half = int(side // 2)
    middle = min(max(_whole(centre), half), size - half)
    return max(0, middle - half), min(size, middle + half)
