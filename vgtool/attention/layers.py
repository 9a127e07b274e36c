"""Passes that begin in the middle of a text model, and the hidden states they begin with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def resumed(layers: nn.ModuleList, start: int, hidden: Tensor | None) -> Iterator[None]:
    """Layers below `start` do nothing, so that layer `start` takes `hidden`. What goes into the model is not used: some
    scale their embeddings (Granite) or read the ids again in later layers (Gemma 3n). A `forward` that accelerate keeps
    on the instance is put back."""
    saved = [layer.__dict__.get("forward") for layer in layers[:start]]
    try:
        for layer in layers[:start]:
            layer.forward = lambda *args, **kwargs: hidden
        yield
    finally:
        for layer, forward in zip(layers[:start], saved, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


@contextmanager
def kept(layers: nn.ModuleList, wanted: frozenset[int], into: dict[int, Tensor]) -> Iterator[None]:
    """Record the input hidden states of the `wanted` layers."""

    def record(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            into[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    handles = [layers[index].register_forward_pre_hook(record(index), with_kwargs=True) for index in sorted(wanted)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
