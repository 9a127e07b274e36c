"""Every registry entry's tiny checkpoint, where the Hugging Face cache would have it, for the tests of models."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import checkpoints, published
from vgtool import commands
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.load import load, resolve
from vgtool.registry import models

WRITERS = {
    **checkpoints.WRITERS,
    "chiron-o1-8b": published.intern_chat,
    "fleming-vl-8b": published.intern_chat,
    "lingshu-i-8b": published.intern_chat,
    "hulu-med-7b": published.hulu,
    "citrus-v-8b": published.citrus,
}
NAMES = tuple(WRITERS)
KINDS = tuple({writer: name for name, writer in reversed(WRITERS.items())}.values())[::-1]
"""One entry of each published layout: the first; the others stand in files of the same kind."""
QUESTION = "Is there a lesion in the left lung?"
SHAPES = {"wide": (330, 150), "tall": (140, 300), "square": (240, 240)}


def again(published: checkpoints.Published, folder: Path) -> checkpoints.Published:
    """The same checkpoint in another folder."""
    return replace(published, folder=Path(shutil.copytree(published.folder, folder)))


class Library:
    """The checkpoints, in a Hugging Face cache, and each loaded once."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "hub"
        self.published: dict[str, checkpoints.Published] = {}
        registry = models()
        first: dict[Any, checkpoints.Published] = {}
        for name, make in WRITERS.items():
            at = registry[name].hub
            write = partial(again, first[make]) if make in first else make
            self.published[name] = checkpoints.in_cache(self.cache, at, write) if at else write(root / name)
            first.setdefault(make, self.published[name])
        clip = next(self.cache.rglob("clip"))
        checkpoints.in_cache(self.cache, "openai/clip-vit-large-patch14-336", lambda f: shutil.copytree(clip, f))
        self.adapter: Callable[[str], Adapter] = cache(self.fresh)

    def fresh(self, name: str, **settings: Any) -> Adapter:
        """A newly loaded adapter, found as the commands find it."""
        spec, source = resolve(self.argument(name))
        return load(spec, source=source, device="cpu", offline=True, **settings)

    def argument(self, name: str) -> str:
        """What --model says."""
        return name if models()[name].hub else str(self.published[name].folder)


def picture(width: int = 330, height: int = 150, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


MARKS = {
    "llava": "<image>",
    "qwen2-vl": "<|image_pad|>",
    "qwen2.5-vl": "<|image_pad|>",
    "qwen3-vl": "<|image_pad|>",
    "citrus-v": "<|image_pad|>",
    "internvl": "<IMG_CONTEXT>",
    "gemma3": "<image_soft_token>",
}
PLACEHOLDER = {name: MARKS[spec.adapter] for name, spec in models().items() if spec.adapter in MARKS}
PLACEHOLDER |= dict.fromkeys(("fleming-vl-8b", "chiron-o1-8b", "lingshu-i-8b"), "<IMG_CONTEXT>")


def vgtool(*args: object) -> int:
    """A command in this process; its exit code."""
    return int(commands.app([str(arg) for arg in args], standalone_mode=False) or 0)


def copied(library: Library, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(library.published[name].folder, tmp_path / "model"))


def edit(path: Path, **fields: Any) -> None:
    checkpoints.write(path, json.loads(path.read_text()) | fields)


def refused(folder: Path, name: str) -> str:
    """What loading says; one paragraph without line breaks."""
    with pytest.raises(VgError) as caught:
        load(models()[name], source=folder, device="cpu", offline=True)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    return str(caught.value)
