"""The most bytes that tensors take at once, counted by the storages that operations make."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Counts every storage made inside from its first tensor to the end of its last. What an operation takes for itself
    while it works is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_name(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and _name(one) not in given:
                self._add(one.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        if name in self._known:
            return

        def gone(_: Any) -> None:
            self.bytes -= size
            self._known.pop(name, None)

        self._known[name] = weakref.ref(storage, gone)
        self.bytes += size
        self.most = max(self.most, self.bytes)


def _name(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
