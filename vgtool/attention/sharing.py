"""Which session a model gets: the shared prefix where it is exact, whole prompts where it is not.

Decided once per model, on a generated image, before any sample: a plain forward pass of the whole prompt against the
same prompt in two parts. A model whose image tokens see the question (PaliGemma) differs, and takes whole prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from vgtool.attention.engine import attach
from vgtool.attention.selfcheck import alike, difference
from vgtool.attention.session import Session
from vgtool.attention.whole import WholeSession
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Vision
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

    batches: bool = True
    """Whether images of one form give in one batch what each gives alone."""

    @property
    def beside(self) -> "Sessions":
        """Of the same model, with images side by side."""
        return replace(self, adapter=self.adapter.beside())

    @property
    def kernel(self) -> str:
        """For run.json: how attention was computed."""
        return "sdpa, shared prefix" if self.shared else "sdpa, whole prompts"

    @property
    def unshared(self) -> str:
        """Why prompts run whole; empty where an image's prefix is shared."""
        return "" if self.shared else self.adapter.unshared or "its image tokens see the question"

    def open(self, scenes: Sequence[Sequence[Vision]], head: tuple[int, ...]) -> Session | WholeSession:
        """A session on several prompts, each with its images, all of one form."""
        return (Session if self.shared else WholeSession)(self.adapter, scenes, head)


def sessions(adapter: Adapter) -> Sessions:
    """Attach the engine to a model and check it. VgError when its attention cannot be read, or when neither kind of
    session gives what a whole pass gives."""
    adapter.without = attach(adapter.model, adapter.text)
    config = adapter.model.config.get_text_config()
    if getattr(config, "hidden_size_per_layer_input", None) and type(adapter).continuation is Adapter.continuation:
        raise VgError(
            f"The text model of '{adapter.spec.name}' reads token ids again in later layers, and the adapter "
            f"{adapter.spec.adapter} feeds embeddings.",
            f"{type(adapter.model).__name__} does not hand them on; use the model in a class of its own.",
        )
    pixels = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    vision = adapter.prepare(Image.fromarray(pixels))
    prompt = adapter.prompt(GENERAL_PROMPT)
    limit = TOLERANCE.get(adapter.dtype, 1e-3)
    with torch.inference_mode():
        inputs = adapter.inputs([vision], prompt.head, prompt.tail)
        if not bool(torch.isfinite(adapter.forward(inputs.kwargs, [inputs.length - 1])).all()):
            raise VgError(
                f"'{adapter.spec.name}' gives logits that are not finite in {_dtype(adapter)}.",
                "Try --dtype bfloat16 or --dtype float32.",
            )
        found = [
            (kind, difference(adapter, kind(adapter, [[vision]], prompt.head), vision, prompt))
            for kind in ((WholeSession,) if adapter.unshared else (Session,))
        ]
        if found[0][1] > limit and not adapter.unshared:
            whole = WholeSession(adapter, [[vision]], prompt.head)
            found.append((WholeSession, difference(adapter, whole, vision, prompt)))
    kind, off = found[-1]
    if off > limit:
        raise VgError(
            f"'{adapter.spec.name}' answers otherwise from its own cache than in one pass (logits differ by {off:.1e} "
            f"of the largest in {_dtype(adapter)}).",
            "Its numbers would be wrong; try --dtype float32, or use another model.",
        )
    batches = kind is WholeSession or alike(adapter, vision, prompt) <= limit
    return Sessions(adapter, kind is Session, found[0][1], batches)


def _dtype(adapter: Adapter) -> str:
    return str(adapter.dtype).removeprefix("torch.")
