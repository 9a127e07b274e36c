"""How an answer's log-probability would change with the attention that some rows pay to the image: its gradient.

For every read row the softmax weights W get an addend D = 0 that the pass carries along, out = SDPA + D V, and the
gradient by D is that by W, exactly, while nothing of keys x keys size is kept. Only here is a graph built; the image's
prefix, which does not depend on the rows, stays outside it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vgtool.attention.asks import Ask
from vgtool.attention.prefix import behind
from vgtool.attention.session import Session
from vgtool.attention.tap import Tap, tapped
from vgtool.attention.targets import likelihoods, scored_rows
from vgtool.attention.whole import WholeSession


def relevance(session: Session | WholeSession, asks: Sequence[Ask], read: frozenset[int]) -> dict[int, Tensor]:
    """Per layer, the positive part of attention times the gradient of the log-probability of each question's target by
    it (Chefer et al. 2021, eq. 5, of the rows read), mean over a question's rows, float32 [Q, H, N] on the CPU.

    The model's parameters must not ask for gradients, else a graph of all of it is kept.
    """
    with torch.inference_mode(False), torch.enable_grad():
        if isinstance(session, Session):
            return _packed(session, asks, read)
        each = [_whole(session, ask, read) for ask in asks]
    return {layer: torch.cat([one[layer] for one in each]) for layer in read}


def _packed(session: Session, asks: Sequence[Ask], read: frozenset[int]) -> dict[int, Tensor]:
    tap, fed, scored = session._ready(tuple(asks), frozenset(), (None,) * len(asks))
    first = np.cumsum([0, *(len(ask.tail) for ask in asks)])
    rows = [[at + row for row in _rows(ask)] for ask, at in zip(asks, first, strict=False)]
    tap.read, tap.rows, tap.slots = read, [row for some in rows for row in some], None
    tap.columns, tap.traced = tap.columns.clone(), {}  # what inference made may not go into a graph
    cache = behind(session.adapter, session.prefix.cache)
    with tapped(tap):
        logits = session.adapter.forward(fed, scored, cache)
    return _weighted(tap, likelihoods(asks, logits[0])[1].sum(), [len(some) for some in rows])


def _whole(session: WholeSession, ask: Ask, read: frozenset[int]) -> dict[int, Tensor]:
    adapter = session.adapter
    inputs = adapter.inputs(session.scenes[ask.image], session.head, ask.tail)
    first = inputs.length - len(ask.tail)
    rows = [first + row for row in _rows(ask)]
    tap = Tap(torch.cat(inputs.columns).clone(), read, rows, traced={})
    kwargs = adapter.answered(inputs.kwargs, max(len(ask.target) - 1, 0))
    with tapped(tap):
        logits = adapter.forward(kwargs, [first + row for row in scored_rows(ask)], adapter.cache())
    return _weighted(tap, likelihoods([ask], logits[0])[1].sum(), [len(rows)])


def _rows(ask: Ask) -> range:
    """The rows read, none of the answer's own among them."""
    last = scored_rows(ask)[0]
    return range(ask.rows(ask.read).start, min(ask.rows(ask.read).stop, last + 1))


def _weighted(tap: Tap, likelihood: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
    assert tap.traced is not None
    layers = sorted(tap.traced)
    found = torch.autograd.grad(likelihood, [tap.traced[layer] for layer in layers])
    out = {}
    for layer, gradient in zip(layers, found, strict=True):
        each = (tap.maps[layer].detach() * gradient).clamp(min=0)
        out[layer] = torch.stack([some.mean(0) for some in each.split(list(sizes))]).cpu()
    return out
