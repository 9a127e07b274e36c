"""What this machine has, and what would stop a run here, each with its fix. No network, and no model is loaded; of one
on disk every setting is checked and every weight read once."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from vgtool.errors import VgError
from vgtool.models import hub
from vgtool.registry import ModelSpec
from vgtool.runs import sizes

Level = Literal["ok", "note", "stop"]
SHOWN = ("torch", "transformers", "accelerate", "huggingface-hub", "polars", "pyarrow", "numpy", "pillow")
"""Versions that a report of a fault should name."""
ROOM = 1e9
"""Bytes: less than that for rows is worth a note."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `stop`: a run would end on it; `fix` says what to do."""

    topic: str
    level: Level
    what: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """What a model can be loaded on; memory in bytes."""

    name: str
    memory: float
    cards: int = 0
    """GPUs of this machine; 0 for the CPU."""


def versions(required: Iterable[str], installed: dict[str, str]) -> list[Finding]:
    """What vgtool needs (`torch>=2.6`), against what is installed (name -> version). Extras are noted, not needed."""
    base, extras = [], dict[str, list[Requirement]]()
    for text in required:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            base.append(need)
            continue
        for extra in metadata.metadata("vgtool").get_all("Provides-Extra") or []:
            if extra != "dev" and need.marker.evaluate({"extra": extra}):
                extras.setdefault(extra, []).append(need)
    here = sys.version_info
    named = ", ".join(f"{name} {installed[name]}" for name in SHOWN if name in installed)
    found = [Finding("versions", "ok", f"Python {here.major}.{here.minor}.{here.micro}, {named}")]
    for need in base:
        if (problem := _unmet(need, installed)) is not None:
            found.append(Finding("versions", "stop", problem, f"pip install '{need.name}{need.specifier}'"))
    for extra, needs in sorted(extras.items()):
        lacking = [problem for need in needs if (problem := _unmet(need, installed)) is not None]
        fix = f"pip install 'vgtool[{extra}]' where it is needed" if lacking else ""
        what = f"{extra}: " + ("; ".join(lacking) if lacking else "there")
        found.append(Finding("extras", "note" if lacking else "ok", what, fix))
    return found


def _unmet(need: Requirement, installed: dict[str, str]) -> str | None:
    version = installed.get(need.name.lower())
    if version is None:
        return f"{need.name} is not installed"
    if not need.specifier.contains(version, prereleases=True):
        return f"{need.name} {version} is installed, {need.specifier} is needed"
    return None


def installed_versions() -> dict[str, str]:
    """Every distribution's version, by its name in lower case."""
    found = ((one.metadata["Name"], one.version) for one in metadata.distributions())
    return {name.lower().replace("_", "-"): version for name, version in found if name}


def device() -> tuple[Device, list[Finding]]:
    """Where a model would be loaded, and everything there is to load it on."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = ram()
    found = [Finding("devices", "ok", f"CPU: {cores} cores, {memory / 1e9:.0f} GB of memory")]
    if not torch.cuda.is_available():
        fix = "Install a torch build for your driver if there is a GPU; published models are slow on a CPU."
        return Device("cpu", memory), [*found, Finding("devices", "note", "no usable GPU", fix)]
    cards = torch.cuda.device_count()
    free = []
    for at in range(cards):
        left, total = torch.cuda.mem_get_info(at)
        free.append(float(left))
        name = torch.cuda.get_device_name(at)
        found.append(Finding("devices", "ok", f"cuda:{at}: {name}, {left / 1e9:.0f} of {total / 1e9:.0f} GB free"))
    return Device("cuda", free[0], cards), found


def ram() -> float:
    """Bytes of memory: the machine's, or what its control group allows."""
    total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, float(text)) if text.isdecimal() else total


def folder(topic: str, path: Path, fix: str) -> Finding:
    """Whether files can be written below a path, and how many bytes fit. Creates nothing."""
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        return Finding(topic, "stop", f"nothing can be written in '{path}'", fix)
    free = shutil.disk_usage(there).free
    return Finding(
        topic, "ok" if free > ROOM else "note", f"{path}: {free / 1e9:.1f} GB free", "" if free > ROOM else fix
    )


def network() -> list[Finding]:
    """The Hugging Face switches: offline or not, a token or none (which is never shown)."""
    from huggingface_hub import constants, get_token

    off = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    found = [
        Finding("offline", "note" if off else "ok", f"{', '.join(off)} set" if off else "no offline switch is set")
    ]
    if constants.HF_HUB_OFFLINE:
        found[0] = Finding("offline", "note", f"{', '.join(off)}: nothing will be fetched", "Unset to fetch.")
    token = get_token() is not None
    fix = "" if token else "`hf auth login`, for gated models only"
    return [*found, Finding("token", "ok" if token else "note", "there" if token else "none", fix)]


def model(
    spec: ModelSpec, source: Path | None, on: Device, free: float, *, offline: bool, token: bool
) -> list[Finding]:
    """Whether a model can be had and held: files, license, disk for what must be fetched, memory for its weights."""
    where = source or (hub.embedded_folder(spec) if spec.embedded else hub.cached_folder(spec))
    found = []
    if where is not None and where.is_dir():
        from vgtool.models.examine import faults

        found.append(Finding("model", "ok", f"{spec.name} is on disk"))
        found += [Finding("model", "stop", error.message, error.hint) for error in faults(spec, where, offline)]
    elif spec.hub is None:
        found.append(Finding("model", "stop", f"{spec.name} is not on disk", "Give a checkpoint folder as --model."))
    else:
        size = f"{spec.size_gb:g} GB" if spec.size_gb else "size unknown"
        fetch = hub.fetch_command(spec)
        if offline:
            fix = f"`{fetch}` where there is a network, and point HF_HOME to it."
            found.append(Finding("model", "stop", f"{spec.name} is not on disk, and offline", fix))
        elif spec.gated and not token:
            fix = f"Accept its terms at https://huggingface.co/{spec.hub}, then `hf auth login`."
            found.append(Finding("model", "stop", f"{spec.name} is gated, and there is no token", fix))
        elif spec.size_gb and 1e9 * spec.size_gb > free:
            fix = "Set HF_HOME to a larger disk."
            found.append(Finding("model", "stop", f"{spec.name} is {size}, and {free / 1e9:.1f} GB are free", fix))
        else:
            found.append(Finding("model", "note", f"{spec.name} will be fetched: {size}", f"`{fetch}` does it ahead."))
    found += [Finding("model", "note", f"unverified: {text}") for text in spec.unverified]
    return [*found, *_memory(spec, where, on)]


def _memory(spec: ModelSpec, where: Path | None, on: Device) -> list[Finding]:
    try:
        weights = sizes.shape(spec, where).parameters
    except VgError as error:
        return [Finding("memory", "note", error.message, error.hint)]
    dtype = "float32" if on.name == "cpu" else spec.dtype
    needed = weights * (4 if dtype == "float32" else 2)
    what = f"{needed / 1e9:.1f} GB of weights in {dtype}, {on.memory / 1e9:.0f} GB on {on.name}"
    if needed < on.memory:
        return [Finding("memory", "ok", what)]
    if on.cards > 1:
        return [Finding("memory", "note", what, f"--device-map auto spreads it over {on.cards} cards.")]
    fix = "--dtype bfloat16 halves it; else a machine with more." if dtype == "float32" else "A larger card, or more."
    return [Finding("memory", "stop", what, fix)]


def benchmark(name: str, split: str | None, protocol: str, data_root: Path | None, registry: Path | None) -> Finding:
    """Whether a benchmark's rows can be read: the first one is."""
    from vgtool.benchmarks.load import load

    try:
        rows = load(name, split=split, protocol=protocol, data_root=data_root, limit=1, registry=registry)
    except VgError as error:
        return Finding("benchmark", "stop", error.message, error.hint)
    if not rows.rows:
        return Finding("benchmark", "stop", f"'{name}' has no rows in split '{rows.split}'", "Check --split.")
    if rows.rejected:
        return Finding("benchmark", "note", f"{rows.name}: its first row cannot be used: {rows.rejected[0].reason}")
    return Finding("benchmark", "ok", f"{rows.name} ({rows.split}, {rows.protocol}) can be read")


def examine(
    name: str | None,
    asked: str | None,
    *,
    split: str | None = None,
    protocol: str = "default",
    data_root: Path | None = None,
    out: Path = Path("runs"),
    registry: Path | None = None,
) -> list[Finding]:
    """Everything, in the order of a run. `name`: a model, `asked`: a benchmark; None leaves them out."""
    from huggingface_hub import constants, get_token

    from vgtool.models.load import resolve

    on, devices = device()
    cache = Path(constants.HF_HUB_CACHE)
    found = [*versions(metadata.requires("vgtool") or [], installed_versions()), *devices]
    found += [folder("cache", cache, "Set HF_HOME to a folder on a large disk."), *network()]
    found.append(folder("output", out, "Choose another --out."))
    if name is not None:
        try:
            spec, source = resolve(name, registry)
        except VgError as error:
            found.append(Finding("model", "stop", error.message, error.hint))
        else:
            there = next(one for one in (cache, *cache.parents) if one.exists())
            free = float(shutil.disk_usage(there).free)
            offline = bool(constants.HF_HUB_OFFLINE)
            found += model(spec, source, on, free, offline=offline, token=get_token() is not None)
    if asked is not None:
        found.append(benchmark(asked, split, protocol, data_root, registry))
    return found


def lines(found: Sequence[Finding]) -> list[str]:
    """One line a finding, its fix below it, and a last line that sums up."""
    text = []
    for one in found:
        text.append(f"{one.level:4}  {one.topic:9} {one.what}")
        if one.fix:
            text.append(f"{'':16}{one.fix}")
    stops = sum(one.level == "stop" for one in found)
    return [*text, f"{stops} would stop a run." if stops else "Nothing here would stop a run."]
