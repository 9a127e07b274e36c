"""What a batch of images takes beside the weights, and how many images the free memory is likely to hold.

Standard library only, and no torch. A batch goes through phases (attention/session.py), each with what is kept so far
and what one layer works on meanwhile; the largest counts. perf/memory.py holds it beside the bytes of real batches.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from vgtool.records import GENERAL_QUESTION
from vgtool.runs.deal import CHARACTERS_PER_TOKEN, TEMPLATE_TOKENS

PACK_TOKENS = 512
"""Of an image's questions in one pass."""
MOST_IMAGES = 16
"""In one pass: more of them gain little."""
SHARE_OF_FREE = 0.5
"""Of the free memory that a batch is to take; what the arithmetic leaves out has the rest."""
LINEAR = 20
"""Numbers a token in a layer's MLP, in widths of its hidden state: what is five times as wide, thrice, and its ends."""
ENDS = 8
"""The same in its attention: what comes in, twice; queries and their turned copies; what comes out, twice."""
ROW = 12
"""Bytes a query and key while masks are made, beside two masks in the model's numbers."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model that an estimate needs."""

    parameters: float
    bytes_per_weight: float
    layers: int
    heads: int
    kv_width: int
    """Keys and values of one token and layer, in numbers."""
    image_tokens: int
    width: int
    """Of the hidden states, in numbers."""
    assumed: str = ""
    """What the grid follows, where `image_tokens` is a guess."""

    @property
    def column(self) -> float:
        """Bytes of a token's keys and values in one layer."""
        return 2 * self.kv_width * self.bytes_per_weight

    def linear(self, tokens: float) -> float:
        """Bytes that a layer's linear part works on."""
        return LINEAR * tokens * self.width * self.bytes_per_weight

    def attention(self, there: float, rows: float, question: float, prefix: float) -> float:
        """Bytes that a layer's attention works on: everything there is in one piece, then by group of questions, with
        grouped heads once more for each head. `rows` of one pass, in questions of so many tokens."""
        groups = math.ceil(rows / question / (1 + 8 * prefix // question**2))  # as packing.grouped joins equal parts
        gathered = groups * prefix + rows
        repeated = 2 * self.width * self.bytes_per_weight if self.kv_width < self.width else 0.0
        compared = rows * (prefix + rows / max(groups, 1))
        ends = ENDS * rows * self.width * self.bytes_per_weight
        masks = compared * (2 * self.bytes_per_weight + ROW)
        return ends + there * self.column + gathered * (self.column + repeated) + masks


def batch_bytes(shape: Shape, images: int, questions: int, tail: int, methods: int) -> float:
    """Memory that a batch takes beside the weights, with `tail` tokens in an image's `questions`. The most of: reading
    images, asking, running again what methods edit (for its answer, and once for its deletion, which is let go),
    reading other images beside these, and answering."""
    prefix = shape.image_tokens + TEMPLATE_TOKENS
    general = TEMPLATE_TOKENS + math.ceil(len(GENERAL_QUESTION) / CHARACTERS_PER_TOKEN)
    asked, question = min(tail, PACK_TOKENS) + general, max(tail / max(questions, 1), 1.0)
    edited, kept = min(2 * methods * tail, PACK_TOKENS), methods * tail
    whole = shape.layers * shape.column
    phases = [
        prefix * whole + shape.linear(prefix),
        (prefix + asked) * whole + max(shape.linear(asked), shape.attention(prefix + asked, asked, question, prefix)),
    ]
    if methods:
        again = max(shape.linear(edited), shape.attention(prefix + edited, edited, question, prefix))
        there = prefix + asked + kept
        phases += [
            (there + edited) * whole + again,
            2 * (prefix + asked) * whole + shape.linear(prefix),
            (prefix + there) * whole + 2 * there * shape.column,
        ]
    return images * max(phases)


def images_that_fit(shape: Shape, free: float, methods: int) -> int:
    """Images a pass, of four questions each, that `free` bytes are likely to hold; MOST_IMAGES at most."""
    tail = 4 * (TEMPLATE_TOKENS + 120 // CHARACTERS_PER_TOKEN)
    one = batch_bytes(shape, 1, 4, tail, methods)
    return max(min(int(SHARE_OF_FREE * free / one), MOST_IMAGES), 1)


def free_memory() -> int:
    """Bytes of the host's memory that programs may still take; 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0
