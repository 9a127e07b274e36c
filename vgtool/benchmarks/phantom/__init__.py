"""The embedded benchmarks `phantom` (grey, medical-like) and `scenes` (colourful, natural-like), with exact boxes.

Each picture is drawn from (seed, benchmark, split, index) alone, so any row can be made again by itself, on any machine
with the same numpy. In the test and calibration splits marks always conflict: reading the mark of another part gives
another tone and another shape. Question kinds, the last word of a sample's id:
    tone   closed, bright or dark      shape  choice, four lettered options     exist  closed, yes or no
    side   closed, left or right       name   open, the mark's shape in a word
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import numpy as np
from PIL import Image

from vgtool.benchmarks.phantom.draw import SHAPES, Drawing, Outline, Part, box_of, draw, outline
from vgtool.benchmarks.request import Request
from vgtool.errors import VgError
from vgtool.records import QUESTION_SUFFIX, ImageSource, QuestionType, Sample

SPLITS = {"scenes": {"calibration": 200, "test": 200}, "phantom": {"test": 400, "validation": 200}}
"""Benchmark -> split -> pictures. Training pictures come from split `train`, which no benchmark reads."""
KINDS = ("tone", "shape", "exist", "side", "name")
LETTER_SUFFIX = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True, slots=True)
class Asked:
    """One question about a drawing."""

    kind: str
    question_type: QuestionType
    question: str
    prompt: str
    reference: str
    answer: str
    """What a model should say: the reference, or its letter."""
    choices: tuple[str, ...] | None
    part: Part
    """The part asked about; its mark's box, or its own where it has no mark, is the ground truth."""


def drawing(name: str, split: str, index: int, seed: int = 0, conflict: bool = True) -> Drawing:
    """Picture `index` of a split."""
    return draw(name == "scenes", conflict, _random(name, split, index, seed))


def _random(name: str, split: str, index: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, crc32(f"{name}/{split}".encode()), index])


def questions(name: str, picture: Outline, rng: np.random.Generator) -> list[Asked]:
    """One question of every kind, each about a random part that it can be asked of."""
    marked = [part for part in picture.parts if part.mark is not None]
    bare = [part for part in picture.parts if part.mark is None]
    asked = []
    for kind in KINDS:
        pool = marked if kind in ("tone", "shape", "name") or (kind == "exist" and rng.random() < 0.5) else bare
        pool = list(picture.parts) if kind == "side" else pool
        asked.append(ask(name, kind, pool[int(rng.integers(len(pool)))]))
    return asked


def ask(name: str, kind: str, part: Part) -> Asked:
    """The question of one kind about one part."""
    thing = f"{part.name} object" if name == "scenes" else part.name
    mark = f"spot on the {thing}" if name == "scenes" else f"lesion in the {thing}"
    short = {
        "tone": f"Is the {mark} bright or dark?",
        "shape": f"Which shape is the {mark}?",
        "exist": f"Is there a {mark}?",
        "side": f"Is the {thing} on the left or on the right?",
        "name": f"What is the shape of the {mark}?",
    }[kind]
    if kind == "exist":
        reference = "no" if part.mark is None else "yes"
    elif kind == "side":
        reference = "right" if part.right else "left"
    else:
        assert part.mark is not None
        reference = part.mark.tone if kind == "tone" else part.mark.shape
    if kind != "shape":
        whole = f"{short} {QUESTION_SUFFIX}"
        return Asked(kind, "open" if kind == "name" else "closed", short, whole, reference, reference, None, part)
    options = " ".join(f"{letter}. {text}" for letter, text in zip("ABCD", SHAPES, strict=True))
    letter = "ABCD"[SHAPES.index(reference)]
    return Asked(kind, "choice", short, f"{short} {options} {LETTER_SUFFIX}", reference, letter, SHAPES, part)


def _png(name: str, split: str, index: int, seed: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(drawing(name, split, index, seed).pixels)
    picture.save(buffer, "PNG", compress_level=0)  # it is read again at once
    return buffer.getvalue()


def rows(name: str, split: str, seed: int = 0) -> Iterator[Sample]:
    """Every sample of a split, pictures in order. VgError for an unknown split."""
    if split not in SPLITS[name]:
        raise VgError(f"Benchmark '{name}' has no split '{split}'.", f"Splits: {', '.join(SPLITS[name])}.")
    for index in range(SPLITS[name][split]):
        picture = outline(name == "scenes", True, _random(name, split, index, seed))
        image_id = f"{name}-{split}-{index:04d}"
        source = ImageSource(f"{image_id}.png", partial(_png, name, split, index, seed))
        rng = np.random.default_rng([seed, crc32(f"{name}/{split}/questions".encode()), index])
        for asked in questions(name, picture, rng):
            mark = asked.part.mark
            mask = asked.part.mask if mark is None or asked.kind == "side" else mark.mask
            yield Sample(
                id=f"{image_id}-{asked.kind}",
                image_id=image_id,
                image=source,
                question=asked.question,
                prompt=asked.prompt,
                domain="natural" if name == "scenes" else "medical",
                group=picture.style,
                question_type=asked.question_type,
                reference=asked.reference,
                choices=asked.choices,
                boxes=(box_of(mask),),
                mask=partial(np.asarray, mask),
            )


def read(request: Request) -> Iterator[Sample]:
    """Reader of the registry key `phantom`."""
    return rows(request.spec.name, request.split, int(request.spec.options.get("seed", 0)))
