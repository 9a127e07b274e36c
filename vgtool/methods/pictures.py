"""Controls that take the picture away: blank, noise, or none at all. What is left is what the text alone knows.

And the picture that `swap` looks at instead: another one of the same benchmark.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

import numpy as np
from PIL import Image

from vgtool.attention.asks import Rows
from vgtool.errors import SampleError
from vgtool.methods.base import Facts, Plan, Scenes
from vgtool.methods.task import ImageGroup
from vgtool.records import Sample

if TYPE_CHECKING:
    from vgtool.images import Alpha


@dataclass(frozen=True, kw_only=True)
class _Picture:
    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset()


@dataclass(frozen=True, kw_only=True)
class Blank(_Picture):
    """A mid-grey picture of the same size."""

    name: ClassVar[str] = "blank"
    summary: ClassVar[str] = "control: a mid-grey picture of the same size"

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        grey = [tuple(Image.new("RGB", one.size, (128, 128, 128)) for one in shown.images) for shown in scenes.groups]
        return [Plan(images=grey[at], key="blank") for at in scenes.group]


@dataclass(frozen=True, kw_only=True)
class Noise(_Picture):
    """Uniform noise of the same size, the same for all questions on an image."""

    name: ClassVar[str] = "noise"
    summary: ClassVar[str] = "control: uniform noise of the same size"

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        noise = [noisy(shown, scenes.facts.seed) for shown in scenes.groups]
        return [Plan(images=noise[at], key="noise") for at in scenes.group]


def noisy(shown: ImageGroup, seed: int) -> tuple[Image.Image, ...]:
    """Noise in the sizes of a group's images, by seed and image alone."""
    rng = np.random.default_rng([seed, crc32(shown.samples[0].image_id.encode())])
    shapes = [(image.height, image.width, 3) for image in shown.images]
    return tuple(Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes)


@dataclass(frozen=True, kw_only=True)
class NoImage(_Picture):
    """The same prompt without its image."""

    name: ClassVar[str] = "no-image"
    summary: ClassVar[str] = "control: the prompt without its image"

    def plan(self, scenes: Scenes) -> list[Plan | SampleError]:
        return [Plan(blind=True)] * len(scenes)


def other_image(samples: Sequence[Sample], seed: int, alpha: "Alpha" = "white") -> Callable[[Sample], Image.Image]:
    """Gives each sample another image of its benchmark, by seed and sample id alone; one that cannot be opened is
    passed over for the next."""
    from vgtool.images import open_image

    images = {sample.image_id: sample.image for sample in samples}
    ids = sorted(images)

    def other(sample: Sample) -> Image.Image:
        first = crc32(f"{seed} {sample.id}".encode())
        others = [image for image in ids if image != sample.image_id]
        for place in range(len(others)):
            try:
                return open_image(images[others[(first + place) % len(others)]], alpha=alpha)
            except SampleError:
                continue
        raise SampleError("no_other_image", "the benchmark has no other image that can be opened")

    return other
