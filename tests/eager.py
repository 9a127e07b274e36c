"""What methods should answer on the embedded model: its whole prompts through the reference attention, and rows of
refine beside them."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from tests import reference
from vgtool.attention.sharing import Sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.images import open_image
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup
from vgtool.models.inputs import Prompt
from vgtool.records import Sample

RANKED = ((2, 0), (2, 3), (1, 1), (3, 2))
KNOCKOUT = 3


class Eager:
    """Whole prompts through the reference attention."""

    def __init__(self, opened: Sessions, group: ImageGroup) -> None:
        self.adapter, self.group = opened.adapter, group

    def forward(
        self, text: str, made: tuple[int, ...] = (), edits: Mapping[int, Callable] | None = None, blind: bool = False
    ):  # type: ignore[no-untyped-def]
        prompt = self.adapter.prompt(text)
        with torch.inference_mode():
            inputs = self.adapter.inputs(() if blind else self.group.visions, prompt.head, (*prompt.tail, *made))
        columns = inputs.columns[0] if inputs.columns else torch.arange(0)
        after = range(inputs.length - len(prompt.tail) - len(made), inputs.length - len(made))
        scores = {layer: edit(after, columns.tolist()) for layer, edit in (edits or {}).items()}
        logits, weights = reference.forward(self.adapter.model, inputs.kwargs, reference.Watch(scores))
        return logits[-1], [w[:, -1][:, columns].double().numpy() for w in weights]

    def answer(
        self, text: str, edits: Mapping[int, Callable] | None = None, gamma: float | None = None
    ) -> tuple[str, float]:
        made: tuple[int, ...] = ()
        first = 0.0
        for _ in range(6):
            logits, _ = self.forward(text, made, edits)
            if not made:
                first = float(logits.softmax(-1).max())
            scores = logits.log_softmax(-1)
            if gamma is not None:
                other = self.forward(text, made, blind=True)[0].log_softmax(-1)
                allowed = scores >= scores.max() + math.log(0.1)
                scores = torch.where(allowed, gamma * (scores - other) + other, torch.tensor(-torch.inf))
            token = int(scores.argmax())
            if token in self.adapter.eos:
                break
            made += (token,)
        return self.adapter.tokenizer.decode(list(made), skip_special_tokens=True).strip(), first


def cutting(gone: list[int]):  # type: ignore[no-untyped-def]
    return lambda after, columns: reference.cut(after, [columns[t] for t in gone])


def rescoring(change):  # type: ignore[no-untyped-def]
    return lambda after, columns: reference.last_row(columns, change)


def refined(opened: Sessions, groups: list[ImageGroup], *labels: str) -> dict[tuple[str, str], dict]:
    samples = benchmark("phantom", limit=20).samples
    facts = Facts(opened.adapter.layers, opened.adapter.heads, RANKED, (KNOCKOUT,), 0)

    def partner(sample: Sample):  # type: ignore[no-untyped-def]
        return open_image(next(s for s in samples if s.image_id != sample.image_id).image)

    decoding = benchmark("phantom", limit=1).decoding
    task = Refine(opened, {la: parse(la) for la in labels}, facts, decoding, mapping="exact", partner=partner)
    rows = [row for group in groups for row in task.run([group], None)]
    assert all(row["error"] is None for row in rows)
    return {(row["sample_id"], row["method"]): row for row in rows}


def eager(
    adapter: Any, visions: Any, prompt: Prompt, target: tuple[int, ...], hidden: Sequence[int], layers: Iterable[int]
) -> float:
    """log p of the target with `hidden` image tokens masked at `layers` for every row after the image."""
    tail = (*prompt.tail, *target[:-1])
    with torch.inference_mode():
        inputs = adapter.inputs(visions, prompt.head, tail)
    kwargs = adapter.answered(inputs.kwargs, len(target) - 1)
    columns = torch.cat(inputs.columns).tolist()
    after = range(inputs.length - len(tail), inputs.length)
    masks = {layer: reference.cut(after, [columns[token] for token in hidden]) for layer in layers} if hidden else {}
    logits, _ = reference.forward(adapter.model, dict(kwargs), reference.Watch(masks))
    rows = logits[inputs.length - len(target) :].double().log_softmax(-1)
    return float(sum(rows[at, token] for at, token in enumerate(target)))
