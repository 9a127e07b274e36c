"""A folder of weights on disk: found, checked, and only then opened, without running anything in it.

Nothing a checkpoint holds chooses code: `trust_remote_code` is never set, `auto_map` is refused where a library would
read it, pickles are read by torch's weights-only reader and must hold tensors alone. A model that would keep one
random weight is refused: missing and mismatched names are errors that name them, and so are unexpected ones outside
an allow-list. Weights are read lazily, one tensor at a time, so loading needs no second copy of them.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, PreTrainedConfig

from vgtool.errors import VgError
from vgtool.registry import ModelSpec

BLOCK = 1 << 16
LFS = b"version https://git-lfs"
UNUSED = (r"rotary_emb\.inv_freq$", r"embeddings\.position_ids$")
"""Buffers that old files carry and current classes compute."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and in which precision the weights go."""

    dtype: torch.dtype
    device: str = "cpu"
    device_map: str | None = None
    """A strategy of accelerate ("auto", "balanced"), for a model larger than one card; overrides `device`."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint folder. Making one checks its JSON files."""

    folder: Path
    spec: ModelSpec
    revision: str

    # ---- small files -------------------------------------------------------------------------------------------

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; {} when the file is not there."""
        return read_json(self.folder / name)

    def config(self) -> dict[str, Any]:
        config = self.json("config.json")
        if not config:
            raise VgError(f"'{self.folder}' has no config.json.", "Give the folder of a whole checkpoint.")
        if "quantization_config" in config:
            raise VgError(f"'{self.folder}' is quantised, which vgtool does not load.", "Use the full checkpoint.")
        return config

    def refuse_remote_code(self, *names: str) -> None:
        """VgError when one of these files names classes of its own to run."""
        for name in names:
            if read_json(self.folder / name).get("auto_map"):
                raise VgError(
                    f"{name} of '{self.spec.name}' asks to run code from the checkpoint (auto_map).",
                    "vgtool never does; use a checkpoint in the native transformers layout.",
                )

    def tokenizer(self, sub: str = "") -> Any:
        self.refuse_remote_code(f"{sub}tokenizer_config.json")
        folder = self.folder / sub
        names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
        for path in (folder / name for name in names):
            refuse_lfs(path)
        if not any((folder / name).exists() for name in names):
            raise VgError(f"'{folder}' holds no tokenizer.", f"Looked for {', '.join(names)}.")
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)

    def image_processor(self, **settings: Any) -> Any:
        """The checkpoint's image processor, always on the PIL backend, which matches the original pipelines."""
        self.refuse_remote_code("preprocessor_config.json", "processor_config.json")
        if not (self.json("preprocessor_config.json") or self.json("processor_config.json")):
            raise VgError(f"'{self.folder}' has no preprocessor_config.json.", "Copy it from the original checkpoint.")
        return AutoImageProcessor.from_pretrained(
            self.folder, backend="pil", trust_remote_code=False, local_files_only=True, **settings
        )

    def chat_template(self) -> str | None:
        """The processor's own chat template, where it is kept apart from the tokenizer."""
        jinja = self.folder / "chat_template.jinja"
        return jinja.read_text("utf-8") if jinja.exists() else self.json("chat_template.json").get("chat_template")

    # ---- weights -----------------------------------------------------------------------------------------------

    def tensors(self, sub: str = "", prefix: str = "") -> dict[str, Any]:
        """Every tensor of a folder by name, read when it is used."""
        folder = self.folder / sub
        files = weight_files(folder)
        if not files:
            raise VgError(f"'{folder}' holds no weights.", "Looked for *.safetensors and pytorch_model*.bin.")
        read = _safetensors if files[0].suffix == ".safetensors" else _pickled
        return {prefix + name: tensor for path in files for name, tensor in read(path).items()}

    def build(
        self,
        kind: Any,
        config: PreTrainedConfig,
        placement: Placement,
        *,
        tensors: Mapping[str, Any] | None = None,
        renames: Mapping[str, str] | None = None,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
    ) -> Any:
        """A model of class `kind` with this checkpoint's weights, in eval mode on its device.

        `missing`, `unexpected`: patterns of names that may be absent from, or left over in, the checkpoint.
        """
        try:
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(self.tensors() if tensors is None else tensors),
                key_mapping=dict(renames) if renames else None,
                generation_config=GenerationConfig(),
                dtype=placement.dtype,
                device_map=placement.device_map or (None if placement.device == "cpu" else {"": placement.device}),
                attn_implementation="sdpa",
                ignore_mismatched_sizes=True,  # so that they come back as a list, which is refused below
                output_loading_info=True,
            )
        except torch.cuda.OutOfMemoryError:
            raise VgError(
                f"'{self.spec.name}' does not fit on {placement.device_map or placement.device}.",
                "Use --device-map auto to spread it, or --device cpu.",
            ) from None
        self._refuse(info["missing_keys"], missing, "lacks")
        self._refuse([key[0] for key in info["mismatched_keys"]], (), "has another shape for")
        self._refuse(info["unexpected_keys"], (*unexpected, *UNUSED), "holds, and the model has no place for,")
        return model.eval()

    def _refuse(self, names: Iterable[str], allowed: Iterable[str], verb: str) -> None:
        patterns = [re.compile(pattern) for pattern in allowed]
        bad = sorted(name for name in names if not any(pattern.search(name) for pattern in patterns))
        if bad:
            shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            raise VgError(
                f"The checkpoint of '{self.spec.name}' {verb} {shown}.",
                "It is damaged, or of another layout than its config says; nothing was loaded.",
            )


# ---- reading ---------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or {} when there is no such file. VgError for anything else."""
    if not path.exists():
        return {}
    refuse_lfs(path)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise VgError(f"Cannot read '{path}': {error}.", "Fetch the checkpoint again.") from None
    if not isinstance(value, dict):
        raise VgError(f"'{path}' does not hold a JSON object.", "Fetch the checkpoint again.")
    return value


def refuse_lfs(path: Path) -> None:
    """VgError when a file is the pointer that git leaves in place of a large file."""
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(LFS)) == LFS:
                raise VgError(
                    f"'{path}' is a Git LFS pointer, not the file itself.",
                    "Run `git lfs pull` there, or fetch the checkpoint with `hf download`.",
                )


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a folder (safetensors before .bin), every shard of an index checked to be there."""
    for index, single, pattern in (
        ("model.safetensors.index.json", "model.safetensors", "*.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model*.bin"),
    ):
        if (folder / index).exists():
            names = sorted(set(read_json(folder / index).get("weight_map", {}).values()))
            files = [folder / Path(str(name)).name for name in names]
        else:
            files = [folder / single] if (folder / single).exists() else sorted(folder.glob(pattern))
        absent = [path.name for path in files if not path.exists()]
        if absent:
            raise VgError(f"'{folder}' lacks {', '.join(absent)}, which {index} lists.", "Fetch the missing file.")
        if files:
            for path in files:
                refuse_lfs(path)
            return files
    return []


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        file = safe_open(path, framework="pt", device="cpu")
        return {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise VgError(f"'{path}' is not a whole safetensors file: {error}.", "Fetch it again.") from None


def _pickled(path: Path) -> dict[str, Any]:
    try:
        value = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # the weights-only reader raises many kinds; each means the same to a user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VgError(
            f"'{path}' is not a plain file of tensors, and nothing in it was run: {reason}",
            "Use the safetensors version of the checkpoint.",
        ) from None
    if not isinstance(value, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        raise VgError(f"'{path}' holds more than named tensors.", "Use the safetensors version of the checkpoint.")
    return value


def digest(folder: Path) -> str:
    """What tells one local checkpoint from another: names and sizes of all files, all of the small ones, and sixteen
    blocks spread over each large one (two fine-tunes differ everywhere; reading it all would take minutes)."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts):
        size = path.stat().st_size
        total.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= 16 * BLOCK:
                total.update(file.read())
                continue
            for part in range(16):
                file.seek(part * (size - BLOCK) // 15)
                total.update(file.read(BLOCK))
    return f"local-{total.hexdigest()[:16]}"
