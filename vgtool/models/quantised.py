"""Quantised checkpoints: transformers and the method's own package load them, from the folder, in its native layout.

Only methods whose packages bring their kernels: for others (fp8, nvfp4, eetq) transformers fetches compiled code from
the hub. What such a model answers is checked as any model's is, its own cache against whole passes; what quantising
did to its answers is not vgtool's to say.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from vgtool.errors import VgError, one_line

if TYPE_CHECKING:
    from vgtool.models.checkpoint import Checkpoint

METHODS = ("awq", "bitsandbytes", "compressed-tensors", "gptq", "mxfp4", "torchao")
FULL = "Use the full checkpoint."


def method(config: Any) -> str | None:
    """How the weights of a config (its object, or the fields of config.json) are quantised; None where they are not."""
    fields = _fields(config)
    for part in (fields, *(_fields(fields.get(name)) for name in ("text_config", "llm_config"))):
        if said := part.get("quantization_config"):
            said = _fields(said)
            older = any(said.get(name) for name in ("load_in_4bit", "load_in_8bit"))
            named = said.get("quant_method", "bitsandbytes" if older else "unknown")
            return str(getattr(named, "value", named))
    return None


def _fields(config: Any) -> Mapping[str, Any]:
    """The fields of a config; none of what is no config."""
    return config if isinstance(config, Mapping) else getattr(config, "__dict__", {})


def refuse(checkpoint: "Checkpoint", config: Any, native: bool) -> None:
    """VgError for a quantised checkpoint that would need others' code or names. `native`: transformers' own layout."""
    name, by = checkpoint.spec.name, method(config)
    if by is None:
        return
    if by not in METHODS:
        raise VgError(f"'{name}' is quantised by {by}, which vgtool does not load.", f"Known: {', '.join(METHODS)}.")
    if not native:
        raise VgError(f"'{name}' is quantised ({by}) in a layout that is not transformers' own.", FULL)
    if (checkpoint.folder / "adapter_config.json").exists():
        raise VgError(f"'{name}' is quantised ({by}) and holds an adapter beside its weights.", FULL)


def source(checkpoint: "Checkpoint", config: Any) -> dict[str, Any]:
    """What from_pretrained takes to load a quantised checkpoint."""
    by = method(config)
    if by == "bitsandbytes":  # which warns in every call of every layer that 8 bits are computed in float16
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if by == "mxfp4":  # unpacked as it is read: its kernels are fetched from the hub
        config.quantization_config = {"quant_method": "mxfp4", "dequantize": True}
    return {"pretrained_model_name_or_path": checkpoint.folder, "local_files_only": True, "weights_only": True}


@contextmanager
def told(name: str, by: str | None) -> Iterator[None]:
    """What a method's package raises, as a sentence."""
    try:
        yield
    except (VgError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if by is None:
            raise
        raise VgError(f"'{name}' is quantised by {by} and cannot be loaded: {one_line(error)}.", FULL) from None
