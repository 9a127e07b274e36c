"""The files of a checkpoint folder: found and checked before anything opens them. No torch here.

`vgtool models` asks what is whole on disk without loading a framework, and the loader asks the same before it reads.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from vgtool.errors import VgError

BLOCK = 1 << 16
LFS = b"version https://git-lfs"
PARTS = ("llm", "vision_tower", "mm_projector")
"""Folders of a checkpoint that VILA saved, each a save of its own."""


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


def processor_type(folder: Path) -> str:
    """What a checkpoint's files call its image processor."""
    inner = read_json(folder / "processor_config.json").get("image_processor")
    named = read_json(folder / "preprocessor_config.json").get("image_processor_type")
    named = named or (inner.get("image_processor_type") if isinstance(inner, dict) else None)
    return str(named or "of no image_processor_type")


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
            listed = read_json(folder / index).get("weight_map")
            if not isinstance(listed, dict) or not listed:
                raise VgError(f"'{folder / index}' lists no weights.", "Fetch the checkpoint again.")
            files = [folder / Path(str(name)).name for name in sorted(set(map(str, listed.values())))]
            if (folder / single).exists() and not any(path.exists() for path in files):
                files = [folder / single]  # an index left over from before the shards became one file
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


def whole(folder: Path) -> bool:
    """Whether a folder (or the part folders of VILA's layout) has weights and every shard its index lists."""
    places = [folder / part for part in PARTS] if (folder / PARTS[0]).is_dir() else [folder]
    try:
        return all(weight_files(place) for place in places)
    except VgError:
        return False


def refuse_hlora(folder: Path) -> None:
    """VgError for HealthGPT's adapters, as its repositories hold them alone."""
    if any(folder.glob("*hlora*")):
        raise VgError(
            f"'{folder}' holds H-LoRA weights without their language model, and no merge of them is exact.",
            "HealthGPT-Pro's checkpoints load.",
        )


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
