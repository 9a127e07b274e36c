"""vgtool: where medical multimodal LLMs look, and what happens when they are made to look again.

The public API, explained in docs/python.md. Each name is imported when it is first asked for; torch by `load` alone.
"""

import importlib
from typing import TYPE_CHECKING, Any

from vgtool.version import __version__

if TYPE_CHECKING:
    from vgtool.api.look import Look, Metrics, Refined
    from vgtool.api.model import Model, load
    from vgtool.api.picture import picture
    from vgtool.api.results import read, score
    from vgtool.api.sample import Recorded, sample
    from vgtool.errors import VgError


__all__ = ["Look", "Metrics", "Model", "Recorded", "Refined", "VgError"]
__all__ += ["__version__", "load", "picture", "read", "sample", "score"]

_WHERE = {
    **dict.fromkeys(("Look", "Metrics", "Refined"), "vgtool.api.look"),
    **dict.fromkeys(("Model", "load"), "vgtool.api.model"),
    **dict.fromkeys(("read", "score"), "vgtool.api.results"),
    **dict.fromkeys(("Recorded", "sample"), "vgtool.api.sample"),
    "picture": "vgtool.api.picture",
    "VgError": "vgtool.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vgtool' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
