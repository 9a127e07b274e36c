"""Cards that are only pretended: every tensor says which device it is on, ops refuse to mix them, values are the CPU's.

A plain tensor carries its device as a tag. A TorchFunctionMode sees every torch call below it, checks the tags of what
goes in, computes on the CPU, and tags what comes out. Calls for which the host waits on the card are counted by line.
It knows devices only: no streams, kernels or memory. A tensor without a tag (out of vmap) is where those it meets are.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")
MOVES = {"to", "cpu", "cuda", "copy_", "type_as"}
"""May be given tensors of several devices."""
STRICT = {"cat", "stack", "gather", "scatter", "scatter_", "scatter_add", "index_select", "embedding", "searchsorted"}
"""Take not even a single number from the CPU."""
WAITS = {"tolist", "item", "cpu", "numpy", "nonzero", "unique", "equal", "bincount", "masked_select",
         "__bool__", "__int__", "__float__", "__index__"}  # fmt: skip


class MixedDevices(AssertionError):
    """What CUDA would refuse."""


class Pretend(TorchFunctionMode):
    """Inside, `cuda:N` is a device like any other."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """`file:line call` -> times that the host waited for the card."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if func is torch.device or name in ("__set__", "__delete__", "__repr__", "__format__"):
            return func(*args, **kwargs)
        if name == "__get__":  # an attribute
            on, attribute = device_of(args[0]), func.__self__.__name__  # type: ignore[attr-defined]
            told = {"device": on, "is_cuda": on.type == "cuda", "is_cpu": on.type == "cpu"}
            return told[attribute] if attribute in told else tag(func(*args, **kwargs), on)
        given = list(tensors((args, kwargs)))
        known = [device_of(one) for one in given if "pretended" in one.__dict__]
        strangers = [one for one in given if "pretended" not in one.__dict__]
        tag(strangers, next((on for on in known if on != CPU), CPU) if name not in MOVES else CPU)
        own = _checked(name, args, given)
        if name in WAITS and any(device_of(one).type == "cuda" for one in given):
            self.waits[f"{_caller()} {name}"] += 1
        if name == "numpy" and own != CPU:
            raise MixedDevices(f"numpy of a tensor on {own}")
        wanted = own if name not in MOVES or name == "copy_" else None
        if name == "cpu":
            wanted = CPU
        elif name == "cuda":
            return tag(args[0].clone(), torch.device("cuda", 0))
        elif name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], Tensor):
            wanted = device_of(args[1])
        first = len(args) if given and name != "to" else int(bool(given))  # devices stand in `to` and in factories
        asked = [one for one in (*args[first:], kwargs.get("device")) if _is_device(one)]
        if asked:
            wanted = torch.device(asked[0])
            wanted = torch.device("cuda", wanted.index or 0) if wanted.type == "cuda" else wanted
            args = (*args[:first], *(CPU if _is_device(one) else one for one in args[first:]))
            kwargs |= {"device": CPU} if _is_device(kwargs.get("device")) else {}
        out = func(*args, **kwargs)
        wanted = device_of(args[0]) if wanted is None else wanted
        if isinstance(out, Tensor) and any(out is one for one in given):
            if wanted == device_of(out) or name.endswith("_"):
                return out
            out = out.clone()  # `to` had nothing to do, but on a card it would
        return tag(out, wanted)


def place(model: nn.Module, device: str = "cuda:0") -> None:
    """As if the model's weights were on one card."""
    tag([*model.parameters(), *model.buffers()], torch.device(device))


def spread(model: Any, device_map: Mapping[str, str]) -> None:
    """As accelerate spreads a model over cards: weights tagged by module, inputs moved by accelerate's own hooks."""
    from accelerate import hooks

    for name, module in model.named_modules():
        homes = [key for key in device_map if name == key or name.startswith(f"{key}.")]
        if homes:
            held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            tag(held, torch.device(device_map[max(homes, key=len)]))
    real, hooks.AlignDevicesHook.init_hook = hooks.AlignDevicesHook.init_hook, lambda self, module: module
    try:  # as accelerate.dispatch_model calls it
        hooks.attach_align_device_hook_on_blocks(
            model,
            execution_device={**device_map, "": next(iter(device_map.values()))},
            offload=dict.fromkeys(device_map, False),
            skip_keys=model._skip_keys_device_placement,
        )
    finally:
        hooks.AlignDevicesHook.init_hook = real


def halves(adapter: Any) -> dict[str, str]:
    """A device map that puts the upper layers, the norm and the head on a second card."""
    model, layers = adapter.model, adapter.layers
    text = next(name for name, module in model.named_modules() if module is adapter.text)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    tower = ("model.vision_tower", "model.multi_modal_projector", "model.visual")
    out = {name: "cuda:0" for name, _ in model.named_modules() if name in tower}
    out |= {f"{text}.embed_tokens": "cuda:0", f"{text}.rotary_emb": "cuda:0", f"{text}.norm": "cuda:1"}
    out |= {f"{text}.layers.{at}": f"cuda:{2 * at // layers}" for at in range(layers)}
    return out | {"lm_head": "cuda:0" if tied else "cuda:1"}


def device_of(tensor: Tensor) -> torch.device:
    return tensor.__dict__.get("pretended", CPU)


def tag(value: Any, device: torch.device) -> Any:
    for tensor in tensors(value):
        tensor.__dict__["pretended"] = device
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from tensors(one)


def _checked(name: str, args: Any, given: list[Tensor]) -> torch.device:
    """The one device of an op's tensors; MixedDevices when there are several."""
    if name in MOVES or not given:
        return device_of(args[0]) if given and isinstance(args[0], Tensor) else CPU
    if name in ("__getitem__", "__setitem__"):  # indices may be on the CPU; a value may where it is copied, or a number
        own, indices = device_of(args[0]), list(tensors(args[1]))
        wrong = [one for one in indices if device_of(one) not in (CPU, own)]
        if indices and name == "__setitem__" and isinstance(args[2], Tensor) and args[2].dim():
            wrong += [args[2]] if device_of(args[2]) != own else []
    else:
        own = next((device_of(one) for one in given if device_of(one) != CPU), CPU)
        number = lambda one: one.dim() == 0 and device_of(one) == CPU and name not in STRICT  # noqa: E731
        wrong = [one for one in given if device_of(one) != own and not number(one)]
    if wrong:
        raise MixedDevices(f"{name}: " + ", ".join(f"{tuple(one.shape)} on {device_of(one)}" for one in given))
    return own


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"))


def _caller() -> str:
    """The nearest line that is neither torch's nor this file's."""
    frame: Any = sys._getframe(2)
    while frame.f_back and (
        "/site-packages/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__
    ):
        frame = frame.f_back
    return f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_lineno}"
