"""Attention times its gradient against autograd through an eager twin that keeps every weight."""

from typing import Any

import numpy as np
import pytest
import torch

from tests import reference, zoo
from vgtool.attention.asks import Ask, Rows
from vgtool.attention.engine import attach
from vgtool.attention.session import Session
from vgtool.attention.trace import relevance
from vgtool.attention.whole import WholeSession
from vgtool.grounding.metrics import groundings
from vgtool.methods.relevance import _row

LAYERS = frozenset(range(4))


def twin(adapter: Any, vision: Any, head: Any, ask: Ask, rows: range) -> list[torch.Tensor]:
    """By layer: (A * gradient)+ of whole-prompt eager attention, mean over `rows` of the tail [H, N]."""
    inputs = adapter.inputs([vision], head, ask.tail)
    kwargs = dict(adapter.answered(inputs.kwargs, len(ask.target) - 1))
    first = inputs.length - len(ask.tail)
    kept: list[torch.Tensor] = []

    def keep(weights: torch.Tensor) -> torch.Tensor:
        kept.append(weights.requires_grad_() if not weights.requires_grad else weights)
        kept[-1].retain_grad()
        return kept[-1]

    watch = reference.Watch(weights={layer: keep for layer in LAYERS})
    with reference.watching(adapter.model, watch):
        logits = adapter.model(**kwargs, use_cache=False).logits[0]
    scored = logits[inputs.length - len(ask.target) :].double().log_softmax(-1)
    sum(scored[at, token] for at, token in enumerate(ask.target)).backward()
    columns = inputs.columns[0]
    found = []
    for weights in kept:
        assert weights.grad is not None
        product = (weights.detach() * weights.grad)[0][:, [first + row for row in rows]][..., columns]
        found.append(product.clamp(min=0).mean(1))
    return found


@pytest.mark.parametrize("read", ["last", "question", "text"])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen2.5-vl", "gemma3-window", "paligemma"])
def test_relevance_equals_autograd_through_an_eager_twin(name: str, read: Rows) -> None:
    if read != "last" and name not in ("llama", "paligemma"):
        pytest.skip("which rows are read does not depend on the family")
    adapter = zoo.family(name)
    adapter.model.requires_grad_(False)
    attach(adapter.model, adapter.text)
    vision, head = zoo.vision(adapter), zoo.head()
    tails, targets = zoo.tails(1, 9, 12), zoo.tails(2, 1, 3)
    plain = [Ask(tail, (2, 5), read) for tail in tails]
    with torch.inference_mode():
        session = (WholeSession if name == "paligemma" else Session)(adapter, [[vision]], head)
        asks = [ask.answered(target) for ask, target in zip(plain, targets, strict=True)]
        found = relevance(session, asks, LAYERS)
    largest = 0.0
    for at, ask in enumerate(asks):
        expected = twin(adapter, vision, head, ask, plain[at].rows(read))
        for layer in LAYERS:
            assert not found[layer].requires_grad
            assert (found[layer][at] - expected[layer]).abs().max() < 1e-5
        largest = max(largest, *(float(one.max()) for one in expected))
    assert largest > 1e-7, "the gradient is not nothing"


def test_columns_are_the_metrics_of_the_maps_themselves() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 3, 9))
    maps[1, 2] = 0
    row = _row(maps, [1, 4], ("layer",))
    inside = np.isin(np.arange(9), [1, 4])
    layers = groundings(maps.mean(1)[None], inside[None])
    assert row["relevance_layer_kl"] == pytest.approx(layers.kl[0].tolist())
    ratio = maps[0, 1][[1, 4]].mean() / maps[0, 1].mean()
    assert row["relevance_head_ratio"][1] == pytest.approx(ratio, rel=1e-6)
    assert row["relevance_head_ratio"][5] is None, "a map of zeros has no metric"
    assert row["relevance_attention"] == pytest.approx(maps.mean(1).ravel().tolist())
    assert "relevance_head_attention" not in row and "relevance_layer_kl" not in _row(maps, [], ())
