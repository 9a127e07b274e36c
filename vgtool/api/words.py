"""Looks and refined answers in words, for a terminal, and as JSON values."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.api.look import Look, Refined

SHADES = " .:-=+*#%@"
"""From nothing to the greatest value of a map."""
INDENT = "    "


def shaded(heat: NDArray[Any]) -> list[str]:
    """A map [rows, cols] in characters, two a cell; what is no number is a question mark."""
    finite = np.isfinite(heat)
    top = float(heat[finite].max(initial=0.0)) or 1.0
    steps = np.clip(np.where(finite, heat, 0) / top * len(SHADES), 0, len(SHADES) - 1).astype(int)
    drawn = np.where(finite, np.array(list(SHADES))[steps], "?")
    return ["".join(cell * 2 for cell in row) for row in drawn]


def marked(kept: NDArray[np.bool_], region: Iterable[int]) -> list[str]:
    """Kept tokens [rows, cols] in characters: # kept in the boxes, x hidden in them, o kept, . hidden."""
    inside = np.zeros(kept.size, bool)
    inside[list(region)] = True
    marks = np.array(list(".xo#"))[2 * kept.astype(int) + inside.reshape(kept.shape)]
    return ["".join(cell * 2 for cell in row) for row in marks]


def look_lines(look: Look, layer: int | None) -> Iterator[str]:
    """Answer, prompt, where it looked."""
    yield f"answer: {look.answer} (first token {look.confidence:.3f})"
    yield f"prompt: {look.prompt}"
    at = look.metrics.best if layer is None and look.metrics is not None else layer
    where = "all layers" if at is None else f"layer {at}"
    metrics = ""
    if look.metrics is not None and at is not None:
        one = look.metrics.layers
        metrics = f", attention ratio {one.ratio[at]:.2f}, KL {one.kl[at]:.3f}, JS {one.js[at]:.3f}"
    yield f"relative attention, {where}{metrics}:"
    yield from (INDENT + line for line in shaded(look.layer(at)))


def refined_lines(one: Refined, region: Iterable[int]) -> Iterator[str]:
    """Answer, what the change did, what was kept."""
    yield f"{one.method}: {one.answer} (first token {one.confidence:.3f})"
    for name in ("insertion", "deletion"):
        if getattr(one, name) is not None:
            yield f"  {name}: {getattr(one, name):+.3f} in the probability of the plain answer's first token"
    if one.kept is not None:
        count = int(one.kept.sum())
        yield f"  kept: {count} of {one.kept.size} tokens (# in the box, x hidden there, o kept, . hidden)"
        yield from (INDENT + line for line in marked(one.kept, region))


def as_json(look: Look, refined: Iterable[Refined]) -> dict[str, Any]:
    """Every number of them; maps are left to the API."""
    found: dict[str, Any] = {
        "question": look.question,
        "prompt": look.prompt,
        "answer": look.answer,
        "confidence": look.confidence,
        "grid": list(look.attention.shape[2:]),
        "relative": [[_number(value) for value in look.layer(at).ravel()] for at in range(len(look.attention))],
    }
    if look.metrics is not None:
        own = look.metrics.layers
        found |= {name: [_number(value) for value in getattr(own, name)] for name in ("ratio", "kl", "js")}
        found["best_layer"] = look.metrics.best
    found["methods"] = [
        {
            "method": one.method,
            "answer": one.answer,
            "confidence": one.confidence,
            "insertion": one.insertion,
            "deletion": one.deletion,
            "kept": None if one.kept is None else np.flatnonzero(one.kept).tolist(),
        }
        for one in refined
    ]
    return found


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
