"""LoRA adapters on a loaded model, through peft (optional extra): read, matched to modules by name, merged.

The adapter's files are data: the settings are read field by field, weights by safetensors or torch's weights-only
reader. Every weight must find its place and its shape. Whole weights beside the low-rank ones (`modules_to_save`,
LLaVA's non_lora_trainables.bin) replace the base's.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.checkpoint import digest, read_tensors
from vgtool.models.files import read_json, refuse_lfs

SETTINGS = ("r", "lora_alpha", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern")
OLDER = (
    (r"^language_model\.model", "model.language_model"),
    (r"^language_model\.lm_head", "lm_head"),
    (r"^model\.(layers|embed_tokens|norm)", r"model.language_model.\1"),
)
"""Names of adapters trained with transformers 4, tried last."""
LOW = re.compile(r"^(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight$")


def apply(adapter: Adapter, folder: Path) -> None:
    """Merge the LoRA adapter in `folder` into the model; its digest joins the model's revision."""
    try:
        import peft
    except ImportError:
        raise VgError("--lora needs peft, which is not installed.", "Run `pip install 'vgtool[lora]'`.") from None
    config = read_json(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
        raise VgError(
            f"'{folder}' holds no plain LoRA adapter in adapter_config.json.",
            "vgtool reads peft_type LORA without DoRA and without trained biases.",
        )
    modules, parameters = dict(adapter.model.named_modules()), dict(adapter.model.named_parameters())
    low: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _tensors(folder).items():
        name = name.removeprefix("base_model.model.")
        if match := LOW.match(name):
            low.setdefault(_place(adapter, match["module"], modules), {})[match["half"]] = tensor
        elif ".lora_" in name:
            raise VgError(f"'{folder}' holds '{name}', which is no low-rank weight of a linear layer.", "")
        else:
            _replace(
                parameters[_place(adapter, name.replace(".modules_to_save", ""), parameters)], tensor, name, folder
            )
    for place, halves in low.items():
        _check(place, halves, modules[place], folder)
    if not low:
        raise VgError(f"'{folder}' holds no LoRA weights.", "Looked for adapter_model.safetensors and .bin.")
    known = {name: config[name] for name in SETTINGS if config.get(name) is not None}
    made = peft.get_peft_model(adapter.model, peft.LoraConfig(target_modules=sorted(low), **known))
    state = {
        f"base_model.model.{place}.lora_{half}.weight": t for place, both in low.items() for half, t in both.items()
    }
    result: Any = peft.set_peft_model_state_dict(made, state)
    if result.unexpected_keys:
        raise VgError(f"'{folder}' holds weights that peft has no place for: {result.unexpected_keys[0]}.", "")
    adapter.model = made.merge_and_unload().eval()
    adapter.revision = f"{adapter.revision}+lora-{digest(folder).removeprefix('local-')}"


def _tensors(folder: Path) -> dict[str, Any]:
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_model.bin") if (folder / name).exists()][
        :1
    ]
    if (folder / "non_lora_trainables.bin").exists():
        files.append(folder / "non_lora_trainables.bin")
    out: dict[str, Any] = {}
    for file in files:
        refuse_lfs(file)
        out |= {name: tensor[...] for name, tensor in read_tensors(file).items()}
    return out


def _place(adapter: Adapter, name: str, known: Iterable[str]) -> str:
    """The native name of a published one."""
    renamed = name
    for pattern, native in adapter.renames.items():
        renamed = re.sub(pattern, native, renamed)
    older = [re.sub(pattern, native, name) for pattern, native in OLDER]
    for candidate in (renamed, name, *older):
        if candidate in known:
            return candidate
    raise VgError(
        f"The LoRA adapter changes '{name}', which '{adapter.spec.name}' does not have.",
        "It was trained on another base.",
    )


def _check(place: str, halves: dict[str, Tensor], module: Any, folder: Path) -> None:
    shapes = {half: list(tensor.shape) for half, tensor in halves.items()}
    fits = isinstance(module, nn.Linear) and set(shapes) == {"A", "B"}
    if not fits or shapes["A"][1] != module.in_features or shapes["B"][0] != module.out_features:
        raise VgError(
            f"The LoRA weights of '{place}' in '{folder}' do not fit the base.", "It was trained on another one."
        )


def _replace(parameter: Tensor, tensor: Tensor, name: str, folder: Path) -> None:
    if parameter.shape != tensor.shape:
        raise VgError(f"'{name}' in '{folder}' does not fit the base.", "The adapter was trained on another one.")
    with torch.no_grad():
        parameter.copy_(tensor)
