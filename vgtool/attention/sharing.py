"""Which session a model gets: the shared prefix where it is exact, whole prompts where it is not.

Decided once per model, on a generated image, before any sample: a plain forward pass of the whole prompt against the
same prompt in two parts. A model whose image tokens see the question (PaliGemma) differs, and takes whole prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from vgtool.attention.engine import attach
from vgtool.attention.session import Ask, Session
from vgtool.attention.whole import WholeSession
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter, Vision
from vgtool.records import GENERAL_QUESTION, QUESTION_SUFFIX

GENERAL_PROMPT = f"{GENERAL_QUESTION} {QUESTION_SUFFIX}"
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest logit difference over largest logit that rounding explains; a prefix LM differs by about 1."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Opens sessions of one model."""

    adapter: Adapter
    shared: bool
    difference: float
    """What the check found: largest logit difference over largest logit."""

    @property
    def kernel(self) -> str:
        """For run.json: how attention was computed."""
        return "sdpa, shared prefix" if self.shared else "sdpa, whole prompts"

    def open(self, scenes: Sequence[Sequence[Vision]], head: tuple[int, ...]) -> Session | WholeSession:
        """A session on several prompts, each with its images, all of one form."""
        return (Session if self.shared else WholeSession)(self.adapter, scenes, head)


def sessions(adapter: Adapter) -> Sessions:
    """Attach the engine to a model and check it. VgError when its attention cannot be read."""
    attach(adapter.model, adapter.text)
    pixels = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    vision = adapter.prepare(Image.fromarray(pixels))
    prompt = adapter.prompt(GENERAL_PROMPT)
    with torch.inference_mode():
        inputs = adapter.inputs([vision], prompt.head, prompt.tail)
        plain = adapter.forward(inputs.kwargs, [inputs.length - 1])[0]
        packed = Session(adapter, [[vision]], prompt.head).ask([Ask(prompt.tail)]).logits
    if not bool(torch.isfinite(plain).all()):
        raise VgError(
            f"'{adapter.spec.name}' gives logits that are not finite in {str(adapter.dtype).removeprefix('torch.')}.",
            "Try --dtype bfloat16 or --dtype float32.",
        )
    difference = float((plain - packed).abs().max() / plain.abs().max().clamp(min=1e-6))
    return Sessions(adapter, difference <= TOLERANCE.get(adapter.dtype, 1e-3), difference)
