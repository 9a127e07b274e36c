"""Sinks and VAR against loops over whole prompts: hidden states by hooks, every weight, one head and row at a time."""

from functools import partial
from typing import Any

import pytest
import torch

from tests import reference, zoo
from tests.embedded import shown
from vgtool.attention.asks import Ask, Change
from vgtool.attention.engine import attach
from vgtool.attention.session import Session
from vgtool.attention.sharing import Sessions
from vgtool.attention.sinks import Redistribute, of_image
from vgtool.attention.whole import WholeSession
from vgtool.errors import VgError
from vgtool.methods import witnesses
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.probe import Probe
from vgtool.methods.witnesses import Asking, Witnesses
from vgtool.records import Decoding

TAU, RHO, LEAST, KEEP = 1.6, 0.6, 0.05, 0.6
LAYERS = frozenset({1, 2})


class Eager:
    """One whole prompt under VAR, from its own definition."""

    def __init__(self, adapter: Any, vision: Any, head: Any, dims: tuple[int, ...]) -> None:
        self.adapter, self.vision, self.head, self.dims = adapter, vision, head, dims
        self.moved = 0

    def forward(self, tail: tuple[int, ...], prompt: int, edited: bool = True) -> torch.Tensor:
        """Logits of the last token; `prompt`: how many of the tail's tokens are the prompt's."""
        with torch.inference_mode():
            inputs = self.adapter.inputs([self.vision], self.head, tail)
        columns = inputs.columns[0].tolist()
        first, sinks = inputs.length - len(tail), dict[int, list[int]]()
        self.sinks = sinks
        known = inputs.length - len(tail) + prompt

        def seen(layer: int):  # type: ignore[no-untyped-def]
            def hook(module: Any, args: Any, kwargs: Any) -> None:
                hidden = (args[0] if args else kwargs["hidden_states"])[0].float()
                sinks[layer] = [
                    at
                    for at, state in enumerate(hidden[:known])
                    if max(abs(float(state[d])) for d in self.dims) / float((state**2).mean() + 1e-6) ** 0.5 > TAU
                ]

            return hook

        def redistribute(layer: int):  # type: ignore[no-untyped-def]
            def edit(weights: torch.Tensor) -> torch.Tensor:
                out, gone = weights.clone(), sinks[layer]
                visual = [at for at in gone if at in columns]
                for head in range(weights.shape[1]):
                    for row in range(first, weights.shape[2]):
                        line = weights[0, head, row]
                        total = float(line[columns].sum())
                        portion = float(line[visual].sum()) / (total + 1e-6 * len(columns))
                        if not visual or portion > RHO or total < LEAST:
                            continue
                        self.moved += 1
                        budget = float(line[gone].sum()) * (1 - KEEP)
                        out[0, head, row, gone] = line[gone] * KEEP
                        others = [at for at in columns if at not in visual]
                        out[0, head, row, others] += budget * line[others] / line[others].sum()
                return out

            return edit

        hooks = [
            layer.register_forward_pre_hook(seen(at), with_kwargs=True)
            for at, layer in enumerate(self.adapter.text.layers)
        ]
        watch = reference.Watch(weights={layer: redistribute(layer) for layer in LAYERS} if edited else {})
        logits, _ = reference.forward(self.adapter.model, dict(inputs.kwargs), watch)
        for hook in hooks:
            hook.remove()
        return logits[-1]


def dims_of(adapter: Any) -> tuple[int, ...]:
    return (0, 5, 9, 17)


@pytest.mark.parametrize("name", ["llama", "qwen2.5-vl", "paligemma"])
def test_var_equals_eager_in_the_prompt_and_in_what_follows(name: str) -> None:
    adapter = zoo.family(name)
    attach(adapter.model, adapter.text)
    vision, head, tails = zoo.vision(adapter), zoo.head(), zoo.tails(1, 9, 7)
    change = Redistribute(TAU, dims_of(adapter), RHO, LEAST, KEEP)
    with torch.inference_mode():
        session = (WholeSession if name == "paligemma" else Session)(adapter, [[vision]], head)
        asked = session.ask([Ask(tail) for tail in tails], keep=frozenset({1}))
        changes = [Change(LAYERS, reweigh=change, decode=True, index=at) for at in range(2)]
        changed = session.rerun(asked, changes)
        state = session.state([changed])
        tokens = changed.logits.argmax(-1)
        following = state.step([0, 1], tokens)
    eager = Eager(adapter, vision, head, dims_of(adapter))
    for at, tail in enumerate(tails):
        assert (changed.logits[at] - eager.forward(tail, len(tail))).abs().max() < 5e-5
        assert (changed.logits[at] - asked.logits[at]).abs().max() > 1e-4, "it changes something"
        if name != "paligemma":  # whose answer is of another token type
            longer = eager.forward((*tail, int(tokens[at])), len(tail))
            assert (following[at] - longer).abs().max() < 5e-5
    assert eager.moved > 0


@pytest.mark.parametrize("name", ["llama", "paligemma"])
def test_image_tokens_that_are_sinks_are_those_of_a_whole_prompt(name: str) -> None:
    adapter = zoo.family(name)
    attach(adapter.model, adapter.text)
    vision, head, (tail,) = zoo.vision(adapter), zoo.head(), zoo.tails(1, 9)
    with torch.inference_mode():
        session = (WholeSession if name == "paligemma" else Session)(adapter, [[vision]], head)
        found = of_image(session, [Ask(tail)], (TAU, dims_of(adapter)))[0]
        own = of_image(session, [Ask(tail)], (TAU, None))[0]
    eager = Eager(adapter, vision, head, dims_of(adapter))
    eager.forward(tail, len(tail), edited=False)
    columns = adapter.inputs([vision], head, tail).columns[0].tolist()
    for layer in range(4):
        assert found[layer].tolist() == [column in eager.sinks[layer] for column in columns]
    assert found.any() and not found.all()
    assert own.shape == found.shape


def test_no_sinks_no_change() -> None:
    adapter = zoo.family("llama")
    attach(adapter.model, adapter.text)
    with torch.inference_mode():
        session = Session(adapter, [[zoo.vision(adapter)]], zoo.head())
        asked = session.ask([Ask(zoo.tails(1, 9)[0])], keep=frozenset({1}))
        change = Change(LAYERS, reweigh=Redistribute(1e6, (0,), RHO, LEAST, KEEP))
        again = session.rerun(asked, [change])
    assert (again.logits - asked.logits).abs().max() < 1e-5


def test_its_defaults_are_the_originals() -> None:
    plan = parse("var")
    assert (plan.tau, plan.rho, plan.least, plan.p) == (20.0, 0.5, 0.2, 0.6)
    assert parse("var:dims=1415+2533").dims == (1415, 2533)
    assert plan.layers(Facts(32, 32, (), (), 0)) == frozenset(range(2, 31))
    with pytest.raises(VgError, match="a model of 3 layers"):
        plan.layers(Facts(3, 4, (), (), 0))


def noted(states: dict[int, torch.Tensor], layer: int, module: Any, args: Any, kwargs: Any) -> None:
    states[layer] = (args[0] if args else kwargs["hidden_states"])[0].float()


@pytest.mark.parametrize("tau", [2.5, 20.0])
def test_the_share_on_sinks_is_that_of_a_loop_over_eager_attention(
    tau: float, opened: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "SINKS", (tau, None))
    asking = Witnesses(opened, Asking(sinks=True), Decoding())
    task = Probe(opened, maps="none", row="last", mapping="exact", witnesses=asking)
    groups, adapter = shown(opened.adapter, 3), opened.adapter
    rows = {row["sample_id"]: row for row in task.run(groups, None)}
    shares = []
    for group in groups:
        for sample in group.samples:
            prompt, states = adapter.prompt(sample.prompt), dict[int, torch.Tensor]()
            with torch.inference_mode():
                inputs = adapter.inputs(group.visions, prompt.head, prompt.tail)
            columns = inputs.columns[0].tolist()
            hooks = [
                layer.register_forward_pre_hook(partial(noted, states, at), with_kwargs=True)
                for at, layer in enumerate(adapter.text.layers)  # type: ignore[arg-type]
            ]
            _, weights = reference.forward(adapter.model, dict(inputs.kwargs))
            for hook in hooks:
                hook.remove()
            scales = {at: (one.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() for at, one in states.items()}
            large = {at: one.abs() / scales[at] > tau for at, one in states.items()}
            dims = [d for d in range(states[0].shape[1]) if any(bool(one[0, d]) for one in large.values())]
            for layer, (seen, one) in enumerate(zip(weights, large.values(), strict=True)):
                on_sinks = total = 0.0
                for head in range(len(seen)):
                    for column in columns:
                        total += float(seen[head, -1, column])
                        on_sinks += float(seen[head, -1, column]) * any(bool(one[column, d]) for d in dims)
                assert rows[sample.id]["sink_share"][layer] == pytest.approx(on_sinks / total, abs=1e-5)
                shares.append(on_sinks / total)
    assert len(shares) == 3 * adapter.layers and (max(shares) == 0 if tau == 20 else 0 < min(shares) < max(shares) < 1)
