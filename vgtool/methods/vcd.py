"""VCD, visual contrastive decoding (arXiv 2311.16922): what the model says of a noised picture counts against what it
says of the picture.

The picture as the model gets it, x, becomes sqrt(abar) x + sqrt(1 - abar) e, e normal, abar the product of 1 - beta
over the steps of a diffusion of 1,000 whose betas are 1e-5 + (5e-3 - 1e-5) sigmoid(-6 to 6). Each token is the best by
    (1 + alpha) log p(picture) - alpha log p(noised), among tokens with log p >= max log p + log beta.
The original samples from that; here it is greedy, as every method is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

import numpy as np

from vgtool.attention.asks import Rows
from vgtool.errors import VgError
from vgtool.methods.base import Facts, Plan, Scenes

if TYPE_CHECKING:
    from vgtool.models.inputs import Vision

STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Vcd:
    """Guidance away from what a noised picture would have it say."""

    name: ClassVar[str] = "vcd"
    summary: ClassVar[str] = "rival: guidance away from a noised picture (Leng et al. 2024)"

    alpha: float = field(default=1.0, metadata={"help": "strength of the contrast; 0 is none"})
    beta: float = field(default=0.1, metadata={"help": "tokens less likely than this share of the likeliest are out"})
    step: int = field(default=500, metadata={"help": "diffusion step of the noise, 0 to 999"})

    def __post_init__(self) -> None:
        if not 0 <= self.step < STEPS:
            raise VgError(f"vcd: step={self.step} is not between 0 and {STEPS - 1}.", "500 is the original's.")
        if not 0 < self.beta <= 1:
            raise VgError(f"vcd: beta={self.beta} is not above 0 and at most 1.", "0.1 is the original's.")

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset()

    def plan(self, scenes: Scenes) -> list[Plan]:
        if self.alpha == 0:
            return [Plan()] * len(scenes)
        made = []
        for sample in scenes.samples:
            noise = partial(noised, step=self.step, seed=(scenes.facts.seed, crc32(sample.image_id.encode())))
            made.append(Plan(gamma=1 + self.alpha, floor=self.beta, distort=noise, key=f"vcd {self.step}"))
        return made


@cache
def kept(step: int) -> float:
    """abar of a step: the share of the picture's variance that is left."""
    betas = np.linspace(-6, 6, STEPS)
    betas = (5e-3 - 1e-5) / (1 + np.exp(-betas)) + 1e-5
    return float(np.prod(1 - betas[: step + 1]))


def noised(vision: "Vision", place: int, *, step: int, seed: tuple[int, int]) -> "Vision":
    """A prepared image under noise; `place`: which of its prompt's. By seed, image and place alone."""
    rng = np.random.default_rng([*seed, place])
    share, tensors = kept(step), dict(vision.tensors)
    for name, value in vision.tensors.items():
        if value.is_floating_point():
            import torch

            noise = torch.from_numpy(rng.standard_normal(tuple(value.shape))).to(value.dtype)
            tensors[name] = share**0.5 * value + (1 - share) ** 0.5 * noise
    return replace(vision, tensors=tensors, features=None)
