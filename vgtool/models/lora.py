"""LoRA and its relatives on a loaded model, through peft (optional extra): read, matched to modules by name, merged.

The adapter's files are data: settings are read field by field, weights by safetensors or torch's weights-only reader.
Every weight must find its place and its shape, whatever names the layout it was trained in had: the names of published
layouts, of transformers 4, of today. Merging is peft's own, with the adapter's own settings; a setting that peft would
need more than these files for, or that vgtool does not know, is refused. Whole weights beside the low-rank ones
(`modules_to_save`, trained biases, LLaVA's non_lora_trainables.bin) replace the base's.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgtool.errors import VgError, one_line
from vgtool.models import quantised
from vgtool.models.adapter import Adapter
from vgtool.models.checkpoint import read_tensors
from vgtool.models.files import digest, read_json, refuse_hlora, refuse_lfs

OLDER = (
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head", "lm_head"),
    (r"^model\.language_model\.model\.", "model.language_model."),
    (r"^model\.(layers|embed_tokens|norm)(?=\.|$)", r"model.language_model.\1"),
    (r"^(?=(vision_tower|visual|multi_modal_projector|mm_projector)(\.|$))", "model."),
    (r"^(model\.vision_tower)\.vision_model(?=\.|$)", r"\1"),
)
"""Names of transformers 4, before 4.52 and after, each applied in turn."""
FUSED = ".attn.qkv"
"""One module of InternVL's layout that is three in the native one."""
THIRDS = tuple(f".attention.{one}_proj" for one in "qkv")
METHODS = frozenset(
    ("LORA", "ADALORA", "BOFT", "C3A", "DELORA", "FOURIERFT", "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "MISS", "OFT",
     "RANDLORA", "ROAD", "SHIRA", "VBLORA", "VERA", "WAVEFT")
)  # fmt: skip
"""Kinds of peft whose files alone make their merge: tested to give what peft itself gives."""
PLACED = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save")
"""Which modules of the base are changed: told by the weights themselves."""
UNTOLD = ("task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version")
PATTERNS = ("rank_pattern", "alpha_pattern", "lambda_pattern", "n_frequency_pattern", "block_size_pattern")
"""Settings by name of a module."""
REFUSED = ("alora_invocation_tokens", "layer_replication", "target_parameters", "arrow_config", "use_qalora",
           "use_bdlora", "monteclora_config", "velora_config", "kasa_config", "runtime_config",
           "megatron_config")  # fmt: skip
"""Settings with which a merge is not what the adapter computes, or not from these files alone."""
ELSEWHERE = "Merge it with the code that trained it, and give the merged checkpoint."
STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica", "pissa", "olora")
"""How the low-rank weights began. pissa and olora take them out of the base, which peft does again when it loads; other
starts change the base in ways that these files do not repeat."""


@dataclass
class Found:
    """The adapter's weights, in native names."""

    state: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the method."""
    places: dict[str, str] = field(default_factory=dict)
    """Native module that they change -> its name in the files."""
    whole: dict[str, tuple[str, Tensor]] = field(default_factory=dict)
    """Native parameter -> its name in the files, and what replaces it."""


def apply(adapter: Adapter, folder: Path) -> None:
    """Merge the adapter in `folder` into the model; its digest joins the model's revision."""
    try:
        import peft
    except ImportError:
        raise VgError("--lora needs peft, which is not installed.", "Run `pip install 'vgtool[lora]'`.") from None
    if by := quantised.method(adapter.model.config):
        raise VgError(f"--lora: '{adapter.spec.name}' is quantised ({by}), so that no merge is exact.", quantised.FULL)
    refuse_hlora(folder)
    config = read_json(folder / "adapter_config.json")
    _refuse(config, folder)
    found = _found(adapter, folder, str(config["peft_type"]))
    made_of = _config(config, found, folder)
    parameters = dict(adapter.model.named_parameters())
    for place, (name, tensor) in found.whole.items():
        _replace(parameters[place], tensor, name, folder)
    try:
        made: Any = peft.get_peft_model(adapter.model, made_of)
        result: Any = peft.set_peft_model_state_dict(made, found.state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"The weights in '{folder}' do not fit the base: {one_line(error)}."
        raise VgError(said, "They were trained on another one.") from None
    prefix = peft.mapping.PEFT_TYPE_TO_PREFIX_MAPPING[made_of.peft_type]
    shared = {name.rpartition(".")[2] for name in found.state if not name.startswith("base_model.model.")}
    lacking = [name for name in result.missing_keys if prefix in name and not shared & set(name.split("."))]
    if result.unexpected_keys or lacking:
        name = (result.unexpected_keys or lacking)[0].removeprefix("base_model.model.")
        verb = "holds weights that peft has no place for" if result.unexpected_keys else "lacks weights"
        raise VgError(f"'{folder}' {verb}: {name}.", "Fetch the adapter again.")
    try:
        adapter.model = made.merge_and_unload().eval()
    except (RuntimeError, ValueError, NotImplementedError) as error:  # DoRA with biases of its own, and their like
        raise VgError(f"peft does not merge the adapter in '{folder}': {error}.", ELSEWHERE) from None
    adapter.revision = f"{adapter.revision}+lora-{digest(folder).removeprefix('local-')}"


def _refuse(config: Mapping[str, Any], folder: Path) -> None:
    """VgError for an adapter whose merge would not be what it computes."""
    kind = config.get("peft_type")
    if kind not in METHODS:
        known = ", ".join(sorted(METHODS))
        raise VgError(f"'{folder}' holds an adapter of peft_type {kind!r}, which is not merged.", f"Known: {known}.")
    for name in REFUSED:
        if config.get(name):
            raise VgError(f"The adapter in '{folder}' has {name} set, which is not merged.", ELSEWHERE)
    start = config.get("init_lora_weights", True)
    if kind == "LORA" and start not in STARTS:
        raise VgError(
            f"The adapter in '{folder}' began with init_lora_weights {start!r}, which changed its base.",
            "Convert it to plain LoRA (peft's path_initial_model_for_weight_conversion), or merge it yourself.",
        )


def _config(config: Mapping[str, Any], found: Found, folder: Path) -> Any:
    """peft's config object, which names the native modules one by one."""
    import peft

    kind: Any = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]]
    known = {one.name for one in fields(kind)}
    told = {name: value for name, value in config.items() if value is not None and name not in (*PLACED, *UNTOLD)}
    if unknown := [name for name, value in told.items() if name not in known and value]:
        raise VgError(
            f"The adapter in '{folder}' has a setting '{unknown[0]}', which peft {peft.__version__} does not know.",
            "Install the peft that saved it.",
        )
    settings = {name: value for name, value in told.items() if name in known and name != "peft_type"}
    for name in PATTERNS:
        if settings.get(name):
            settings[name] = _by_place(settings[name], found.places)
    if config["peft_type"] == "IA3":
        settings["feedforward_modules"] = [
            place for place, name in found.places.items() if _matches(config.get("feedforward_modules"), name)
        ]
    try:
        return kind(target_modules=sorted(found.places), **settings)
    except (TypeError, ValueError) as error:
        said = f"adapter_config.json in '{folder}' cannot be used: {one_line(error)}."
        raise VgError(said, "Fetch it again.") from None


def _by_place(pattern: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """A setting by module, from the names it was written for to the native ones; the first pattern that fits counts,
    as in peft. AdaLoRA names a weight (`.lora_E`) where others name a module."""
    out = {}
    for place, name in places.items():
        for key, value in pattern.items():
            exact = key.removesuffix(".lora_E").removeprefix("base_model.model.")
            if key.endswith(".lora_E") and name == exact:
                out[f"{place}.lora_E"] = value
                break
            if re.match(rf"(.*\.)?({key})$", name):
                out[re.escape(place.partition(".")[2] or place)] = value  # some of its kinds want a dot before
                break
    return out


def _matches(modules: str | Iterable[str] | None, name: str) -> bool:
    """Whether peft counts a module among these."""
    if isinstance(modules, str):
        return re.fullmatch(modules, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in modules or ())


# ---- weights and their places ----------------------------------------------------------------------------------------


def _found(adapter: Adapter, folder: Path, kind: str) -> Found:
    modules, parameters = dict(adapter.model.named_modules()), dict(adapter.model.named_parameters())
    found = Found()
    for key, tensor in _tensors(folder).items():
        name = key.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save", "")
        place = _place(adapter, name, parameters)
        if place is not None:
            found.whole[place] = (name, tensor)
        elif FUSED in name and kind == "LORA" and "lora_" in name:
            _split(adapter, name, tensor, modules, found)
        else:
            _keep(adapter, name, tensor, modules, found, shared=not key.startswith("base_model.model."))
    if not found.state:
        raise VgError(f"'{folder}' holds no LoRA weights.", "Looked for adapter_model.safetensors and .bin.")
    return found


def _keep(
    adapter: Adapter, name: str, tensor: Tensor, modules: Mapping[str, Any], found: Found, *, shared: bool
) -> None:
    """A weight of the method under the native name of the longest module that its name begins with."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        place = _place(adapter, module, modules)
        if place and any(True for _ in modules[place].children()):
            break  # a container: the module that the name means is not there
        if place:
            found.state[".".join(["base_model.model", place, *parts[length:]])] = tensor
            if parts[length] != "token_adapter":  # rows of an embedding, which another setting names
                found.places[place] = module
            return
    if shared and name.startswith("base_model."):  # one for all modules: VeRA's projections, VB-LoRA's bank
        found.state[name] = tensor
        return
    raise VgError(
        f"The adapter changes '{name}', which '{adapter.spec.name}' does not have.", "It was trained on another base."
    )


def _split(adapter: Adapter, name: str, tensor: Tensor, modules: Mapping[str, Any], found: Found) -> None:
    """LoRA of a fused qkv: the input half is shared, the output half is cut in three."""
    module, _, rest = name.partition(".lora_")
    if not rest.startswith(("A", "B")):
        raise VgError(f"The adapter holds '{name}' of a module that is three here.", ELSEWHERE)
    halves = tensor.chunk(3) if rest.startswith("B") else (tensor,) * 3
    for third, half in zip(THIRDS, halves, strict=True):
        _keep(adapter, f"{module.replace(FUSED, third)}.lora_{rest}", half.contiguous(), modules, found, shared=False)


def _place(adapter: Adapter, name: str, known: Iterable[str]) -> str | None:
    """The native name of a published one."""
    renamed = older = name
    for pattern, native in adapter.renames.items():
        renamed = re.sub(pattern, native, f"{renamed}.").removesuffix(".")
    for pattern, native in OLDER:
        older = re.sub(pattern, native, older)
    return next((candidate for candidate in (renamed, name, older) if candidate in known), None)


def _tensors(folder: Path) -> dict[str, Any]:
    names = ("adapter_model.safetensors", "adapter_model.bin")
    files = [folder / name for name in names if (folder / name).exists()][:1]
    if (folder / "non_lora_trainables.bin").exists():
        files.append(folder / "non_lora_trainables.bin")
    out: dict[str, Any] = {}
    for file in files:
        refuse_lfs(file)
        out |= {name: tensor[...] for name, tensor in read_tensors(file).items()}
    return out


def _replace(parameter: Tensor, tensor: Tensor, name: str, folder: Path) -> None:
    if parameter.shape != tensor.shape:
        raise VgError(f"'{name}' in '{folder}' does not fit the base.", "The adapter was trained on another one.")
    with torch.no_grad():
        parameter.copy_(tensor)
