"""Parts of a checkpoint that were not made for each other: what transformers raises of them, as a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from huggingface_hub.errors import StrictDataclassError

from vgtool.errors import VgError, one_line


@contextmanager
def fitting(said: str, hint: str) -> Iterator[None]:
    """VgError, with why, where a config, a processor or a model does not fit itself or another."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (
        *(ValueError, RuntimeError, TypeError, LookupError, AttributeError),
        *(ArithmeticError, AssertionError, ImportError, StrictDataclassError),
    ) as error:
        if "CUDA" in str(error):  # the card's fault, whose traceback says where
            raise
        raise VgError(f"{said}: {one_line(error)}.", hint) from None
