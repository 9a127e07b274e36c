"""What runs a model, imported in one go before one is loaded."""

import gc
import importlib
import sys

from vgtool.garbage import uncollected


def engine(own: bool = False) -> None:
    """Import torch and what else runs a model, which takes seconds, without looking for garbage in what will stay.

    `own`: this process is a command's, which needs no circle of what it has by now freed: it is not looked through in
    the run and at the end either. Together that is a third of a small command's time (perf/start.py)."""
    if "torch" in sys.modules:
        return
    with uncollected():
        for name in ("attention.sharing", "methods.pictures", "methods.probe", "methods.refine", "models.checkpoint"):
            importlib.import_module(f"vgtool.{name}")
        if own:
            gc.freeze()
