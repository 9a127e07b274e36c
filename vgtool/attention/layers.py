"""Passes that begin in the middle of a text model, the hidden states they begin with, and a last layer that works out
the rows that are wanted alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vgtool.attention.packing import Ints
from vgtool.attention.prefix import Behind
from vgtool.attention.tap import Tap, stopping, tapped

ROWS = {"position_embeddings": -2, "position_ids": -1, "cache_position": -1}
"""Of what layers are given beside their states, the axis that counts the rows of a pass."""
WHOLE = ("past_key_values", "attention_mask", "use_cache", "output_attentions")


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


MISSING = object()


@contextmanager
def narrowed(layer: nn.Module, own: Behind, rows: Ints, wide: Tap, tap: Tap) -> Iterator[None]:
    """The last layer gives `rows` of a pass alone, which `tap` describes; other rows of its output are zero. Keys and
    values of all rows go into `own`, its cache. `wide`, the tap of the pass, gets the maps. A layer that is given what
    ROWS does not know of works out everything."""
    saved, whole = layer.__dict__.get("forward"), layer.forward

    def forward(hidden_states: Tensor, *args: Any, **given: Any) -> Any:
        window = _window(wide, given.get("attention_mask"))
        known = all(name in ROWS or name in WHOLE or not _tensors(value) for name, value in given.items())
        if args or not known or window is MISSING or tap.pack is None or hidden_states.dim() != 3:
            return whole(hidden_states, *args, **given)
        with tapped(Tap(wide.columns, stop=tap.stop)), stopping():
            whole(hidden_states, **given)
        index = torch.from_numpy(rows).to(hidden_states.device)
        short = {name: _some(value, index, ROWS[name]) if name in ROWS else value for name, value in given.items()}
        short["attention_mask"] = tap.pack.mask(window)
        own.again = True  # not what attention was given, which may be unfolded from what is cached (latents)
        try:
            with tapped(replace(tap, stop=None)) as narrow:
                found = whole(hidden_states.index_select(1, index), **short)
        finally:
            own.again = False
        wide.maps |= narrow.maps
        first, rest = (found[0], found[1:]) if isinstance(found, tuple) else (found, None)
        out = hidden_states.new_zeros(hidden_states.shape).index_copy_(1, index, first)
        return out if rest is None else (out, *rest)

    try:
        layer.forward = forward  # type: ignore[method-assign]
        yield
    finally:
        if saved is None:
            del layer.forward
        else:
            layer.forward = saved


def _window(tap: Tap, mask: Any) -> Any:
    """The window of a mask that is the pass's own; MISSING where it is not."""
    made = {} if tap.pack is None else tap.pack._masks
    return next((window for window, one in made.items() if one is mask), MISSING)


def _tensors(value: Any) -> bool:
    return torch.is_tensor(value) or (isinstance(value, (tuple, list)) and any(map(_tensors, value)))


def _some(value: Any, index: Tensor, axis: int) -> Any:
    """The rows `index` of a tensor, or of several."""
    if isinstance(value, (tuple, list)):
        return tuple(_some(one, index, axis) for one in value)
    return value.index_select(axis, index.to(value.device)) if torch.is_tensor(value) else value
