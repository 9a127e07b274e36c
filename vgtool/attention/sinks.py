"""Sink tokens: columns whose hidden state is massive in a few dimensions, where attention gathers that nothing needs.

A token is a sink of a layer when |x_d| / RMS(x) of the layer's input exceeds tau in one of the sink dimensions d (Kang
et al. 2025, arXiv 2503.03321). These are the model's own: without a list they are those in which the prompt's first
token is massive in any layer, as the BOS token is where they are listed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vgtool.attention.tap import Tap, stopping, tapped
from vgtool.errors import VgError

if TYPE_CHECKING:
    from vgtool.attention.asks import Ask, Change
    from vgtool.attention.session import Session
    from vgtool.attention.whole import WholeSession

Kind = tuple[float, tuple[int, ...] | None]
"""tau, and the sink dimensions; None: the model's own."""
Flags = dict[int, Tensor]
"""Layer -> whether each column is a sink, bool [columns]."""


@dataclass(slots=True)
class Sinks:
    """The sinks of one pass, told as it goes."""

    tau: float
    dims: Tensor
    before: Flags
    """Of the columns that stand before the pass's own."""
    flags: Flags = field(default_factory=dict)
    """Of all columns, the pass's own behind."""

    def see(self, layer: int, hidden: Tensor) -> None:
        """The input of a layer, [.., columns, hidden]."""
        own = in_any(massive(hidden, self.tau), self.dims)
        known = self.before.get(layer)
        self.flags[layer] = own if known is None else torch.cat([known.to(own.device), own])

    def own(self, count: int) -> Flags:
        """Of the last `count` columns."""
        return {layer: flags[len(flags) - count :] for layer, flags in self.flags.items()}


def massive(hidden: Tensor, tau: float) -> Tensor:
    """Where a state stands out of its own root mean square, bool [columns, hidden]."""
    states = hidden.reshape(-1, hidden.shape[-1]).float()
    return states.abs() * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + 1e-6) > tau


@contextmanager
def watching(layers: nn.ModuleList, see: Sequence[Callable[[int, Tensor], None]]) -> Iterator[None]:
    """Tell the input of every layer to each of `see`."""

    def told(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            for one in see:
                one(index, hidden)

        return hook

    with ExitStack() as stack:
        for index in range(len(layers)) if see else ():
            handle = layers[index].register_forward_pre_hook(told(index), with_kwargs=True)
            stack.callback(handle.remove)
        yield


def of_pass(session: "Session", changes: Sequence["Change | None"]) -> dict[Kind, Sinks]:
    """What a pass with these changes must see."""
    kinds = dict.fromkeys(change.reweigh.kind for change in changes if change is not None and change.reweigh)
    return {kind: Sinks(kind[0], *of_prefix(session, kind)) for kind in kinds}


def of_step(
    session: "Session", changes: Sequence["Change"], packs: Sequence[tuple[int, Mapping[Kind, Flags]]], total: int
) -> dict[Kind, Sinks]:
    """What one step of a decoding knows: the sinks of its prompts, of `total` columns; no generated token is one."""
    made: dict[Kind, Sinks] = {}
    for kind in dict.fromkeys(change.reweigh.kind for change in changes if change.reweigh):
        dims, prefix = of_prefix(session, kind)
        made[kind] = Sinks(kind[0], dims, {})
        for layer, known in prefix.items():
            parts, rest = [known], total
            for width, own in packs:
                parts.append(own.get(kind, {}).get(layer, known.new_zeros(width)))
                rest -= width
            made[kind].flags[layer] = torch.cat([*(part.to(known.device) for part in parts), known.new_zeros(rest)])
    return made


def of_prefix(session: "Session", kind: Kind) -> tuple[Tensor, Flags]:
    """The sink dimensions, and which of the prefixes' columns are sinks; by one more pass over them, once."""
    known = session.prefix.sinks
    if kind not in known:
        states, layers = dict[int, Tensor](), session.adapter.text.layers
        with watching(layers, [lambda at, hidden: states.update({at: massive(hidden, kind[0])})]):  # type: ignore[arg-type]
            inputs = session.adapter.together(session.scenes, session.head)
            with tapped(Tap(torch.empty(0), stop=session.adapter.layers - 1)), stopping():
                session.adapter.forward(inputs.kwargs, [inputs.length - 1], session.adapter.cache())
        dims = dimensions(kind, states)
        known[kind] = dims, {at: in_any(found, dims) for at, found in states.items()}
    return known[kind]


def of_image(session: "Session | WholeSession", asks: Sequence["Ask"], kind: Kind) -> Tensor:
    """Which grid tokens of each question's images are sinks in each layer, bool [Q, L, N] on the CPU."""
    from vgtool.attention.session import Session

    adapter = session.adapter
    if isinstance(session, Session):
        prefix, (_, flags) = session.prefix, of_prefix(session, kind)
        every = torch.stack([flags[layer].cpu() for layer in range(adapter.layers)])
        where = prefix.columns.cpu()
        return torch.stack([every[:, ask.image * prefix.length + where] for ask in asks])
    found = []
    for ask in asks:
        states, inputs = dict[int, Tensor](), adapter.inputs(session.scenes[ask.image], session.head, ask.tail)
        with watching(adapter.text.layers, [lambda at, hidden: states.update({at: massive(hidden, kind[0])})]):  # type: ignore[arg-type] # noqa: B023
            adapter.forward(inputs.kwargs, [inputs.length - 1])
        dims, where = dimensions(kind, states), torch.cat(inputs.columns).cpu()
        found.append(torch.stack([in_any(states[at].cpu()[where], dims) for at in range(adapter.layers)]))
    return torch.stack(found)


def in_any(found: Tensor, dims: Tensor) -> Tensor:
    """Which tokens are massive in any of some dimensions; `found`: in which they are [tokens, hidden]. VgError for a
    dimension that is not there."""
    width = found.shape[1]
    if wrong := [at for at in dims.tolist() if not 0 <= at < width]:
        said = f"var: dims={'+'.join(map(str, dims.tolist()))}, and the model has no dimension {wrong[0]}."
        raise VgError(said, f"Give dimensions from 0 to {width - 1}.")
    return found[:, dims.to(found.device)].any(-1)


def dimensions(kind: Kind, states: Mapping[int, Tensor]) -> Tensor:
    """The sink dimensions: those that are listed, else those in which the first token is massive in any layer."""
    if kind[1] is not None:
        return torch.tensor(kind[1], dtype=torch.long)
    first = torch.stack([found[0].cpu() for found in states.values()]).any(0)
    return first.nonzero()[:, 0]


@dataclass(frozen=True, slots=True)
class Redistribute:
    """Attention of visual heads from sinks to the other image tokens, after softmax (VAR)."""

    tau: float
    dims: tuple[int, ...] | None
    rho: float
    """A head is visual where sinks take at most this share of its image attention,"""
    least: float
    """and the image takes at least this much of it."""
    keep: float
    """What sinks keep of their attention."""

    @property
    def kind(self) -> Kind:
        return self.tau, self.dims

    def __call__(self, weights: Tensor, image: Tensor, sinks: Tensor) -> Tensor:
        """New weights [r, H, K]. `image`: columns of the image tokens, long [r, H, N]; `sinks`: bool [r, K]."""
        sinks = sinks[:, None].expand_as(weights)
        shares, mine = weights.gather(2, image), sinks.gather(2, image)
        total = shares.sum(-1, keepdim=True)
        portion = (shares * mine).sum(-1, keepdim=True) / (shares + 1e-6).sum(-1, keepdim=True)
        visual = (portion <= self.rho) & (total >= self.least) & mine.any(-1, keepdim=True)
        budget = (weights * sinks).sum(-1, keepdim=True) * (1 - self.keep)
        others = shares * ~mine
        spread = budget * others / others.sum(-1, keepdim=True).clamp(min=1e-30)
        new = torch.where(sinks, weights * self.keep, weights).scatter_add(2, image, spread)
        return torch.where(visual, new, weights)
