"""Drawings of the embedded benchmarks: grey phantoms in four imaging styles, and colourful scenes.

Every picture is four quadrants, each with at most one part (an organ, or a coloured object), some parts with a mark (a
lesion, or a spot) that has a tone and a shape. Parts and marks are drawn from masks, so their boxes are exact: the
tightest pixel rectangle around the mask, continuous edges. Schematic on purpose; nothing here is anatomy.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from vgtool.records import Box

Mask = NDArray[np.bool_]
Picture = NDArray[np.float64]

LONG = 168
"""Long side of every picture, px; the short side varies, so that some are wide and some are tall."""
ORGANS = ("liver", "spleen", "kidney", "lung", "heart", "stomach")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
TONES = ("bright", "dark")
SHAPES = ("disc", "ring", "cross", "square")
STYLES = ("CT", "MRI", "X-ray", "ultrasound")
RGB = {
    "red": (200, 45, 45),
    "green": (40, 150, 60),
    "blue": (50, 80, 205),
    "yellow": (215, 195, 50),
    "purple": (140, 60, 170),
    "orange": (230, 130, 40),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A lesion or spot."""

    tone: str
    shape: str
    mask: Mask


@dataclass(frozen=True, slots=True)
class Part:
    """An organ or a coloured object, with its mark if it has one."""

    name: str
    right: bool
    """Its centre lies in the right half of the picture."""
    mask: Mask
    mark: Mark | None


@dataclass(frozen=True, slots=True)
class Outline:
    """What is in a picture, and where, before any of it is coloured."""

    style: str
    """Imaging style, or `scene`."""
    width: int
    height: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Drawing(Outline):
    """A picture and what is in it."""

    pixels: NDArray[np.uint8]
    """[height, width, 3]"""


def box_of(mask: Mask) -> Box:
    """The tightest box around a mask's pixels."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(xs[0]), float(ys[0]), float(xs[-1]) + 1, float(ys[-1]) + 1)


def draw(natural: bool, conflict: bool, rng: np.random.Generator) -> Drawing:
    """One picture: its outline, then its colours from the same random numbers."""
    made = outline(natural, conflict, rng)
    size, parts = (made.width, made.height), list(made.parts)
    pixels = _scene(*size, parts, rng) if natural else _phantom(made.style, *size, parts, rng)
    return Drawing(made.style, *size, made.parts, pixels)


def outline(natural: bool, conflict: bool, rng: np.random.Generator) -> Outline:
    """What a picture will show. `conflict`: marks differ in tone and shape, so that reading the wrong one tells."""
    short = int(rng.choice([LONG, 140, 126]))
    width, height = (LONG, short) if rng.random() < 0.5 else (short, LONG)
    names = [str(name) for name in rng.permutation(COLOURS if natural else ORGANS)[:4]]
    quadrants = [int(q) for q in rng.permutation(4)]
    marked = int(rng.integers(2, 4))
    tone, shapes = int(rng.integers(2)), rng.permutation(len(SHAPES))
    parts = []
    for index, (name, quadrant) in enumerate(zip(names, quadrants, strict=True)):
        mask, centre = _part(width, height, quadrant, rng)
        mark = None
        if index < marked:
            # The first mark has one tone and all others the other: no majority gives the answer away.
            which = (tone + (index > 0)) % 2 if conflict else tone
            shape = SHAPES[int(shapes[index if conflict else 0])]
            mark = Mark(TONES[which], shape, _mark(shape, width, height, centre, rng))
        parts.append(Part(name, bool(quadrant % 2), mask, mark))
    style = "scene" if natural else str(rng.choice(STYLES))
    return Outline(style, width, height, tuple(parts))


def _mesh(width: int, height: int) -> tuple[Picture, Picture]:
    """Pixel centres [1, width] and [height, 1]."""
    return np.arange(width, dtype=np.float64)[None] + 0.5, np.arange(height, dtype=np.float64)[:, None] + 0.5


def _near(centre: tuple[float, float], reach: tuple[float, float], width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels that lie within `reach` of a point on both axes: what a shape can cover."""
    (x, y), (right, down) = centre, reach
    return slice(max(int(y - down), 0), min(int(y + down) + 1, height)), slice(
        max(int(x - right), 0), min(int(x + right) + 1, width)
    )


def _part(width: int, height: int, quadrant: int, rng: np.random.Generator) -> tuple[Mask, tuple[float, float]]:
    """An ellipse inside a quadrant (0 top left, 1 top right, 2 bottom left, 3 bottom right) and its centre."""
    half_w, half_h = width / 2, height / 2
    rx, ry = rng.uniform(0.36, 0.43) * half_w, rng.uniform(0.36, 0.43) * half_h
    cx = half_w * (quadrant % 2) + half_w / 2 + rng.uniform(-1, 1) * (half_w / 2 - rx - 2)
    cy = half_h * (quadrant // 2) + half_h / 2 + rng.uniform(-1, 1) * (half_h / 2 - ry - 2)
    xs, ys = _mesh(width, height)
    rows, columns = _near((cx, cy), (rx, ry), width, height)
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = ((xs[:, columns] - cx) / rx) ** 2 + ((ys[rows] - cy) / ry) ** 2 <= 1
    return mask, (cx, cy)


def _mark(shape: str, width: int, height: int, centre: tuple[float, float], rng: np.random.Generator) -> Mask:
    """A mark of 24 to 32 px near a part's centre."""
    r = rng.uniform(12.0, 16.0)
    xs, ys = _mesh(width, height)
    aside, down = rng.uniform(-3, 3), rng.uniform(-3, 3)
    rows, columns = _near((centre[0] + aside, centre[1] + down), (r, r), width, height)
    mask = np.zeros((height, width), bool)
    dx, dy = np.abs(xs[:, columns] - centre[0] - aside), np.abs(ys[rows] - centre[1] - down)
    mask[rows, columns] = _shape(shape, dx, dy, r)
    return mask


def _shape(shape: str, dx: Picture, dy: Picture, r: float) -> Mask:
    """Where a mark of a size is, by distance from its centre on each axis."""
    if shape == "disc":
        return np.hypot(dx, dy) <= r
    if shape == "ring":
        distance = np.hypot(dx, dy)
        return (distance <= r) & (distance >= 0.55 * r)
    if shape == "square":
        return (dx <= 0.88 * r) & (dy <= 0.88 * r)
    return ((dx <= 0.3 * r) & (dy <= r)) | ((dy <= 0.3 * r) & (dx <= r))


def _noise(width: int, height: int, grain: int, rng: np.random.Generator) -> Picture:
    """Unit-variance noise, blocks of `grain` px."""
    small = rng.standard_normal((-(-height // grain), -(-width // grain)))
    return np.repeat(np.repeat(small, grain, axis=0), grain, axis=1)[:height, :width]


def _scene(width: int, height: int, parts: list[Part], rng: np.random.Generator) -> NDArray[np.uint8]:
    xs, ys = _mesh(width, height)
    low, high = rng.uniform(150, 205, 3), rng.uniform(150, 205, 3)
    slope = (xs / width * rng.uniform(0, 1) + ys / height * rng.uniform(0, 1))[..., None]
    pixels = low + (high - low) * slope
    for part in parts:
        pixels[part.mask] = np.asarray(RGB[part.name]) * rng.uniform(0.9, 1.1)
        if part.mark is not None:
            pixels[part.mark.mask] = 245.0 if part.mark.tone == "bright" else 12.0
    pixels += 6 * _noise(width, height, 1, rng)[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


@cache
def _texture(organ: str, width: int, height: int) -> Picture:
    """What tells an organ from another: its level and pattern, 0 to 1."""
    xs, ys = _mesh(width, height)
    stripes = {"spleen": xs, "kidney": ys, "stomach": xs + ys}
    level = {"liver": 0.62, "spleen": 0.50, "kidney": 0.50, "lung": 0.30, "heart": 0.50, "stomach": 0.50}[organ]
    grey = np.full((height, width), level)
    if organ in stripes:
        grey += 0.13 * np.sign(np.sin(stripes[organ] * (2 * np.pi / (14 if organ == "stomach" else 10))))
    if organ == "heart":
        grey += 0.13 * np.sign(np.sin(xs * (2 * np.pi / 12)) * np.sin(ys * (2 * np.pi / 12)))
    return grey


def _phantom(style: str, width: int, height: int, parts: list[Part], rng: np.random.Generator) -> NDArray[np.uint8]:
    xs, ys = _mesh(width, height)
    u, v = xs / width * 2 - 1, ys / height * 2 - 1
    body = np.abs(u) ** 4 + np.abs(v) ** 4 <= 0.98
    grey = np.where(body, {"CT": 0.42, "MRI": 0.38, "X-ray": 0.45, "ultrasound": 0.34}[style], 0.03)
    for part in parts:
        grey = np.where(part.mask, _texture(part.name, width, height), grey)
        if part.mark is not None:
            grey = np.where(part.mark.mask, 0.95 if part.mark.tone == "bright" else 0.04, grey)
    if style == "CT":
        rim = body & (np.abs(u) ** 4 + np.abs(v) ** 4 >= 0.86)
        grey = np.where(rim, 0.9, grey) + 0.03 * _noise(width, height, 1, rng)
    elif style == "MRI":
        field = 1 + 0.15 * (u * rng.uniform(-1, 1) + v * rng.uniform(-1, 1))
        real, imaginary = (0.04 * _noise(width, height, 1, rng) for _ in range(2))
        grey = np.hypot(grey * field + real, imaginary)
    elif style == "X-ray":
        ribs = 0.05 * (np.sin(ys * (2 * np.pi / 28)) > 0.7)
        grey = grey + np.where(body, ribs, 0) + 0.02 * _noise(width, height, 2, rng)
    else:
        fan = np.hypot(u * 0.8, v + 1.5) <= 2.55
        grey = np.where(fan, grey * (1 + 0.16 * _noise(width, height, 2, rng)), 0.0)
    pixels = np.clip(grey * 255, 0, 255).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2)
