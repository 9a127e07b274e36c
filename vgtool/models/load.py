"""A name or a folder -> a loaded model.

One fixed table maps the short adapter keys of models.yaml to classes; packages outside add theirs through the entry
point group `vgtool.adapters`. Registry data never names code.
"""

import importlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from vgtool.errors import VgError, did_you_mean
from vgtool.models import hub, layout
from vgtool.registry import ModelSpec, models

if TYPE_CHECKING:  # torch is imported by the functions that load
    from vgtool.models.adapter import Adapter
    from vgtool.models.checkpoint import Placement

ADAPTERS = {
    "llava": "vgtool.models.llava:Llava",
    "llava-original": "vgtool.models.original:Original",
    "vila": "vgtool.models.vila:Vila",
    "internvl": "vgtool.models.internvl:InternVL",
    "internvl-chat": "vgtool.models.internvl_chat:InternVLChat",
    "qwen2-vl": "vgtool.models.qwen:Qwen2",
    "qwen2.5-vl": "vgtool.models.qwen:Qwen25",
    "qwen3-vl": "vgtool.models.qwen:Qwen3",
    "citrus-v": "vgtool.models.citrus:Citrus",
    "hulu-med": "vgtool.models.hulu:Hulu",
    "gemma3": "vgtool.models.gemma:Gemma3",
    "native": "vgtool.models.native:Native",
}
"""Short key -> module:Class."""

DTYPES = ("float32", "bfloat16", "float16")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


def resolve(name_or_dir: str, registry: Path | None = None) -> tuple[ModelSpec, Path | None]:
    """What `--model NAME|DIR` means: a registry entry, or a local checkpoint and the entry its layout calls for.

    An entry of the user's own that is called as the folder is comes before the layout's.
    """
    known = models(registry)
    folder = Path(name_or_dir).expanduser()
    entry = known.get(name_or_dir)
    if entry is not None and (entry.hub or entry.embedded or not folder.is_dir()):
        return entry, None
    if not folder.is_dir():
        raise VgError(f"No model '{name_or_dir}' in models.yaml, and no such folder.", did_you_mean(name_or_dir, known))
    name = folder.resolve().name
    if name in known and known[name] != models().get(name):
        return known[name], folder
    adapter, like = layout.recognise(folder, known)
    if like in known:
        lent = known[like]
        heads = " Its published heads and knockout layers are used, unless --heads says otherwise."
        notes = [f"Local checkpoint, read and prompted as {like}.{heads if lent.heads_ranked else ''}"]
        own = dict.fromkeys(("hub", "parameters", "size_gb", "layers", "heads"))
        return lent.model_copy(update={"name": name, "title": name, "notes": notes, **own}), folder
    spec = ModelSpec(name=name, title=name, adapter=adapter, notes=["Local checkpoint."])
    return spec, folder


def adapter_class(key: str) -> "type[Adapter]":
    """The class behind an adapter key, built in or from an installed package."""
    outside = {point.name: point for point in entry_points(group="vgtool.adapters")}
    if key in ADAPTERS:
        module, _, name = ADAPTERS[key].partition(":")
        return getattr(importlib.import_module(module), name)
    if key in outside:
        return outside[key].load()
    raise VgError(f"No adapter '{key}'.", did_you_mean(key, [*ADAPTERS, *outside]))


def load(
    spec: ModelSpec,
    *,
    source: Path | None = None,
    dtype: str | None = None,
    device: str | None = None,
    device_map: str | None = None,
    offline: bool = False,
    lora: Path | None = None,
) -> "Adapter":
    """The model of an entry, from `source` or from where the entry says, ready to run."""
    from vgtool.models.checkpoint import Checkpoint
    from vgtool.models.files import digest

    kind = adapter_class(spec.adapter)
    if unknown := sorted(set(spec.options) - kind.settings):
        raise VgError(f"'{spec.name}' has an option '{unknown[0]}'.", did_you_mean(unknown[0], kind.settings))
    folder, commit = hub.locate(spec, source, offline)
    checkpoint = Checkpoint(folder, spec, commit or digest(folder), offline)
    adapter = kind.open(checkpoint, placement(spec, dtype, device, device_map))
    refuse_unknown_tokens(adapter)
    if lora is not None:
        from vgtool.models import lora as low_rank

        low_rank.apply(adapter, lora)
    return adapter


def refuse_unknown_tokens(adapter: "Adapter") -> None:
    """VgError where a prompt holds a token beyond the rows of the embeddings, as with a tokenizer that was grown and
    weights that were not: the first pass would end in an index error."""
    rows = adapter.model.get_input_embeddings().weight.shape[0]
    beyond = sorted(index for index in adapter.spoken("Is there a mass?") if index >= rows)
    if beyond:
        token = adapter.tokenizer.convert_ids_to_tokens(beyond[0])
        raise VgError(
            f"The prompt of '{adapter.spec.name}' holds the token '{token}' (id {beyond[0]}), and its embeddings have "
            f"{rows:,} rows.",
            "Tokenizer and weights are of two models; take the tokenizer's files from the one that was trained.",
        )


def placement(spec: ModelSpec, dtype: str | None, device: str | None, device_map: str | None) -> "Placement":
    """Device and precision: an accelerator when there is one; float32 on the CPU unless asked otherwise."""
    import torch

    from vgtool.models.checkpoint import Placement

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise VgError(f"No device '{device}'.", "Use cpu, cuda or cuda:N.") from None
    if kind not in ("cpu", "cuda"):
        raise VgError(f"No device '{device}' for vgtool.", "Use cpu, cuda or cuda:N.")
    if device_map is not None and device_map not in DEVICE_MAPS:
        raise VgError(f"No --device-map '{device_map}'.", did_you_mean(device_map, DEVICE_MAPS))
    if kind == "cuda" and not torch.cuda.is_available():
        raise VgError(f"--device {device}: this machine has no usable GPU.", "Use --device cpu.")
    if dtype is None or dtype == "auto":
        dtype = "float32" if kind == "cpu" and device_map is None else spec.dtype
    if dtype not in DTYPES:
        raise VgError(f"No dtype '{dtype}'.", did_you_mean(dtype, DTYPES))
    return Placement(getattr(torch, dtype), device, device_map)
