"""What a model hands to its first text layer: a pass that ends there."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class _Reached(Exception):
    """Ends a pass at the first text layer."""


def entering(model: nn.Module, text: Any, kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """(input of the first text layer [L, hidden], rope positions that the model hands to its text model, if any)."""
    got: dict[str, Any] = {}

    def called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        got["positions"] = kwargs.get("position_ids")

    def reached(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        got["states"] = states.reshape(-1, *states.shape[-2:])[0]  # several streams (AltUp) begin alike
        raise _Reached

    hooks = [
        text.register_forward_pre_hook(called, with_kwargs=True),
        text.layers[0].register_forward_pre_hook(reached, with_kwargs=True),
    ]
    try:
        model(**kwargs, use_cache=False)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return got["states"], got["positions"]
