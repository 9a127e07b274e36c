"""Looks, refined answers and samples of runs in words, for a terminal, and as JSON values."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgtool.api.look import Look, Refined
from vgtool.api.sample import Answered, Recorded

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
    yield from _map_lines(look, at)


def _map_lines(one: Look | Recorded, at: int | None) -> Iterator[str]:
    """Relative attention at a layer, or of all together, and its metrics."""
    where = "all layers" if at is None else f"layer {at}"
    if one.metrics is not None and at is not None:
        own = one.metrics.layers
        where += f", attention ratio {own.ratio[at]:.2f}, KL {own.kl[at]:.3f}, JS {own.js[at]:.3f}"
    yield f"relative attention, {where}:"
    yield from (INDENT + line for line in shaded(one.layer(at)))


def refined_lines(one: Refined, region: Iterable[int]) -> Iterator[str]:
    """Answer, what the change did, what was kept."""
    yield f"{one.method}: {one.answer} (first token {one.confidence:.3f})"
    yield from _change_lines(one, region)


def _change_lines(one: Refined | Answered, region: Iterable[int]) -> Iterator[str]:
    """What the change did, what was kept."""
    for name in ("insertion", "deletion"):
        if getattr(one, name) is not None:
            yield f"  {name}: {getattr(one, name):+.3f} in the probability of the plain answer's first token"
    if one.kept is not None:
        count = int(one.kept.sum())
        yield f"  kept: {count} of {one.kept.size} tokens (# in the box, x hidden there, o kept, . hidden)"
        yield from (INDENT + line for line in marked(one.kept, region))


def sample_lines(one: Recorded, layer: int | None, methods: Sequence[str]) -> Iterator[str]:
    """A sample of finished runs: what was asked, what each method answered, whether that was right, where it looked."""
    about = ", ".join(filter(None, (f"image {one.image_id}", one.group, one.question_type)))
    yield f"sample: {one.sample_id} ({about})"
    yield f"question: {one.question}"
    if one.prompt is not None:
        yield f"prompt: {one.prompt}"
    if one.choices:
        yield f"choices: {', '.join(one.choices)}"
    yield f"reference: {'not stated' if one.reference is None else one.reference}"
    yield from (f"failed: {error}" for error in one.errors)
    for answer in one.answers:
        if not methods or answer.method in methods:
            yield from _answer_lines(answer, one)
    if one.attention is not None:
        yield from _map_lines(one, one.shown(layer))
    elif not any(answer.kept is not None for answer in one.answers):
        yield "no map was kept"
    if one.missing:
        yield f"no picture: {one.missing}"


def _answer_lines(answer: Answered, one: Recorded) -> Iterator[str]:
    several = len({other.run for other in one.answers}) > 1
    name = f"{answer.run}, {answer.method}" if several else answer.method
    verdict = answer.verdict or "no reference"
    if answer.error is not None:
        yield f"{name}: failed, {answer.error}"
        return
    sure = "" if answer.confidence is None else f", first token {answer.confidence:.3f}"
    yield f"{name}: {answer.answer} ({verdict}{sure})"
    yield from _change_lines(answer, one.region)


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


def sample_json(one: Recorded) -> dict[str, Any]:
    """Every number of a sample of finished runs."""
    layers = [] if one.attention is None else [one.layer(at) for at in range(len(one.attention))]
    shared = ("sample_id", "image_id", "group", "question_type", "question", "prompt", "reference")
    found: dict[str, Any] = {name: getattr(one, name) for name in shared}
    found |= {"choices": one.choices and list(one.choices), "size": list(one.size), "boxes": list(map(list, one.boxes))}
    found |= {"grid_box": list(one.grid_box), "region": list(one.region)}
    found |= {"relative": [[_number(value) for value in layer.ravel()] for layer in layers] or None}
    found |= {"grid": list(layers[0].shape) if layers else None, "errors": list(one.errors)}
    if one.metrics is not None:
        own = one.metrics.layers
        found |= {name: [_number(value) for value in getattr(own, name)] for name in ("ratio", "kl", "js")}
        found["best_layer"] = one.metrics.best
    own_answers = ("run", "method", "answer", "verdict", "confidence", "error", "insertion", "deletion")
    found["answers"] = [
        {name: getattr(answer, name) for name in own_answers}
        | {"kept": None if answer.kept is None else np.flatnonzero(answer.kept).tolist()}
        for answer in one.answers
    ]
    return found


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
