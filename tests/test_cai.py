"""CAI against whole prompts: embeddings, lens and tilt from their own definition, one row at a time."""

import math
from typing import Any

import pytest
import torch

from tests import reference, zoo
from vgtool.attention.asks import Ask, Change
from vgtool.attention.engine import attach
from vgtool.attention.session import Session
from vgtool.attention.tilt import Tilt
from vgtool.attention.whole import WholeSession
from vgtool.errors import SampleError, VgError
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse

START, LAYERS = 0, frozenset({1, 2, 3})


class Eager:
    """One whole prompt, whose rows `told` are tilted: {row of the tail: (first, stop) of its text in the tail}."""

    def __init__(self, adapter: Any, vision: Any, head: Any, threshold: float) -> None:
        self.adapter, self.vision, self.head, self.threshold = adapter, vision, head, threshold
        self.opened: list[bool] = []

    def forward(self, tail: tuple[int, ...], told: dict[int, tuple[int, int]]) -> torch.Tensor:
        adapter = self.adapter
        with torch.inference_mode():
            inputs = adapter.inputs([self.vision], self.head, tail)
        columns, first = inputs.columns[0].tolist(), inputs.length - len(tail)
        weights: dict[int, torch.Tensor] = {}
        opened: dict[tuple[int, int], bool] = {}

        def seen(layer: int):  # type: ignore[no-untyped-def]
            def hook(module: Any, args: Any, kwargs: Any) -> None:
                hidden = (args[0] if args else kwargs["hidden_states"])[0]
                for row, (start, stop) in told.items():
                    if layer == 0:
                        text = hidden[first + start : first + stop].mean(0)
                        alike = torch.nn.functional.cosine_similarity(hidden[columns], text[None], dim=-1)
                        weights[row] = 1 / (1 + torch.exp(-100 * (alike - alike.min())))
                    if layer > START:
                        lens = adapter.model.lm_head(adapter.text.norm(hidden[first + row])).softmax(-1)
                        entropy = float(-(lens * lens.log()).sum()) / math.log(10)
                        opened[layer, row] = entropy > self.threshold
                        self.opened.append(opened[layer, row])

            return hook

        def tilting(layer: int):  # type: ignore[no-untyped-def]
            def edit(scores: torch.Tensor) -> torch.Tensor:
                out = scores.clone()
                for row in told:
                    if opened[layer, row]:
                        own = scores[0, :, first + row][:, columns]
                        tilted = own + own.abs() * weights[row]
                        out[0, :, first + row, columns] = torch.where(own < -1e30, own, tilted)  # out of the window
                return out

            return edit

        hooks = [
            layer.register_forward_pre_hook(seen(at), with_kwargs=True) for at, layer in enumerate(adapter.text.layers)
        ]
        watch = reference.Watch({layer: tilting(layer) for layer in LAYERS})
        logits, _ = reference.forward(adapter.model, dict(inputs.kwargs), watch)
        for hook in hooks:
            hook.remove()
        return logits[-1]


@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen2.5-vl"])
def test_cai_equals_eager_in_the_prompt_and_in_what_follows(name: str) -> None:
    adapter = zoo.family(name)
    attach(adapter.model, adapter.text)
    vision, head, tails = zoo.vision(adapter), zoo.head(), zoo.tails(1, 9, 7)
    with torch.inference_mode():
        session = Session(adapter, [[vision]], head)
        asked = session.ask([Ask(tail) for tail in tails], keep=LAYERS)
        lasts = [stop - 1 for _, stop in asked.spans]
        states = torch.cat([asked.hidden[layer][0, lasts] for layer in sorted(LAYERS)])
        lens = adapter.model.lm_head(adapter.text.norm(states)).softmax(-1)
        entropy = -(lens * lens.log()).sum(-1) / math.log(10)
        threshold = float(entropy.mean())  # some layers are sure, and some are not
        tilt = Tilt(threshold, START)
        changes = [Change(LAYERS, tilt=tilt, rows="last", decode=True, index=at) for at in range(2)]
        changed = session.rerun(asked, changes)
        state = session.state([changed])
        tokens = changed.logits.argmax(-1)
        following = state.step([0, 1], tokens)
    eager = Eager(adapter, vision, head, threshold)
    for at, tail in enumerate(tails):
        last = {len(tail) - 1: (0, len(tail))}
        assert (changed.logits[at] - eager.forward(tail, last)).abs().max() < 5e-5
        longer = eager.forward((*tail, int(tokens[at])), last | {len(tail): (len(tail), len(tail) + 1)})
        assert (following[at] - longer).abs().max() < 5e-5
    assert any(eager.opened) and not all(eager.opened)
    assert (changed.logits - asked.logits).abs().max() > 1e-4, "it changes something"


def test_a_sure_model_is_left_alone_and_one_without_a_shared_prefix_is_named() -> None:
    adapter = zoo.family("llama")
    attach(adapter.model, adapter.text)
    change = Change(LAYERS, tilt=Tilt(100.0, START), rows="last")
    with torch.inference_mode():
        session = Session(adapter, [[zoo.vision(adapter)]], zoo.head())
        asked = session.ask([Ask(zoo.tails(1, 9)[0])], keep=frozenset({1}))
        assert (session.rerun(asked, [change]).logits - asked.logits).abs().max() < 1e-5
        whole = WholeSession(adapter, [[zoo.vision(adapter)]], zoo.head())
        with pytest.raises(SampleError, match="no_shared_prefix"):
            whole.rerun(whole.ask([Ask(zoo.tails(1, 9)[0])]), [change])


def test_its_defaults_are_those_of_the_released_evaluation() -> None:
    plan = parse("cai")
    assert plan.threshold == 0.15
    assert plan.layers(Facts(32, 32, (), (), 0)) == (25, frozenset(range(26, 32)))
    with pytest.raises(VgError, match="start=31"):
        parse("cai:start=31").layers(Facts(32, 32, (), (), 0))


def test_the_default_start_leaves_a_layer_to_tilt_in_every_depth() -> None:
    cai: Any = parse("cai")
    assert cai.layers(Facts(32, 32, (), (), 0)) == (25, frozenset(range(26, 32))), "the released code's, of 32"
    for layers in range(2, 64):
        assert cai.layers(Facts(layers, 4, (), (), 0))[1]
