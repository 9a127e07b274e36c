"""How far a session's reading, editing and decoding are from whole passes of the same prompts, on one image."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vgtool.attention.asks import Ask, Change
from vgtool.attention.session import Session
from vgtool.attention.tap import Edit, Tap, tapped
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Prompt, Vision

STEPS = 2
"""Tokens decoded."""


def difference(adapter: Adapter, session: Any, vision: Vision, prompt: Prompt) -> float:
    """Largest logit difference over largest logit: of the prompt, of two questions in one pass, of tokens that follow,
    and of a knockout of every other image token in the middle readable layer."""
    first, last = prompt.tail, len(prompt.tail) - 1
    layer = sorted(adapter.readable)[len(adapter.readable) // 2]
    cut = torch.zeros(vision.geometry.tokens, dtype=torch.bool)
    cut[::2] = True
    asked = session.ask([Ask(first), Ask(first)], keep=frozenset({layer}))
    knocked = session.rerun(asked, [Change(frozenset({layer}), cut, index=1)]).logits[0]
    decoding, found, made = session.state([asked]), [asked.logits[1]], list[int]()
    for _ in range(STEPS):
        made.append(int(found[-1].argmax()))
        found.append(decoding.step([1], torch.tensor([made[-1]], device=adapter.device))[0])

    inputs = adapter.inputs([vision], prompt.head, (*first, *made))
    start = inputs.length - len(first) - len(made)
    plain = adapter.forward(adapter.answered(inputs.kwargs, len(made)), range(start + last, inputs.length))[0]
    inputs = adapter.inputs([vision], prompt.head, first)
    rows = np.arange(start, inputs.length)
    edit = Edit(frozenset({layer}), rows, cut[None], np.zeros(len(rows), np.int64))
    with tapped(Tap(inputs.columns[0], edits=[edit])):
        edited = adapter.forward(inputs.kwargs, [inputs.length - 1])[0, 0]
    return max(_off(torch.stack(found), plain), _off(knocked, edited))


@torch.inference_mode()
def alike(adapter: Adapter, vision: Vision, prompt: Prompt) -> float:
    """Largest logit difference over largest logit between an image beside another one and alone; infinity where the
    model takes no batch. The other is the same with its numbers turned round."""
    numbers = {name: one for name, one in vision.tensors.items() if torch.is_tensor(one) and one.is_floating_point()}
    turned = {**vision.tensors, **{name: one.flip(-1) for name, one in numbers.items()}}
    other = replace(vision, tensors=turned)
    alone = [Session(adapter, [[one]], prompt.head).ask([Ask(prompt.tail)]).logits[0] for one in (vision, other)]
    try:
        session = Session(adapter, [[vision], [other]], prompt.head)
        together = session.ask([Ask(prompt.tail, image=at) for at in range(2)]).logits
    except (RuntimeError, ValueError, TypeError, IndexError):  # as models refuse shapes they were not written for
        return float("inf")
    return max(_off(found, expected) for found, expected in zip(together, alone, strict=True))


def _off(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
