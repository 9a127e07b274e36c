"""What runs a model, imported in one go before one is loaded."""

import gc
import importlib
import sys


def engine() -> None:
    """Import torch and what else runs a model, which takes seconds. All of it stays to the end: looking for garbage in
    it meanwhile, in the run and once more at exit took a third of a small command's time (perf/start.py)."""
    if "torch" in sys.modules:
        return
    gc.collect()  # what is garbage already would never be let go
    gc.disable()
    try:
        for name in ("attention.sharing", "methods.pictures", "methods.probe", "methods.refine", "models.checkpoint"):
            importlib.import_module(f"vgtool.{name}")
    finally:
        gc.freeze()
        gc.enable()
