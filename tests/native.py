"""Families of the auto classes for the tests of the adapter native: each checkpoint written and loaded once."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner

from tests import families
from vgtool.attention.sharing import Sessions, sessions
from vgtool.commands import app
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.load import load
from vgtool.registry import ModelSpec

PHANTOM = Path(__file__).parent.parent / "vgtool/models/phantom/weights"
"""The embedded model, the only trained one here."""
WIDE, TALL = (120, 90), (75, 160)


class Families:
    """Checkpoints of families, each written and loaded once, with a geometry cache of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loaded: Callable[[str], Adapter] = cache(self.fresh)
        self.opened: Callable[[str], Sessions] = cache(lambda name: sessions(self.loaded(name)))
        self.reference: Callable[[str], Any] = cache(self._reference)

    def folder(self, name: str) -> Path:
        folder = self.root / name
        if not folder.exists():
            try:
                families.write(name, folder)
            except ImportError:  # some versions of transformers write more processors for torchvision alone
                shutil.rmtree(folder)
                pytest.skip(f"{name} needs torchvision in this transformers")
        return folder

    def fresh(self, name: str, adapter: str = "native") -> Adapter:
        spec = ModelSpec(name=name, title=name, adapter=adapter)
        try:
            return load(spec, source=self.folder(name), device="cpu", offline=True)
        except VgError as error:
            if "needs torchvision" not in error.message:
                raise
            pytest.skip(f"{name} needs torchvision in this transformers")

    def _reference(self, name: str) -> Any:
        """The model as transformers loads it, with attention that shows its weights."""
        return AutoModelForImageTextToText.from_pretrained(self.folder(name), attn_implementation="eager").eval()


def picture(size: tuple[int, int], seed: int = 1) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def command(*words: str) -> str:
    """What a command prints. AssertionError when it does not end as it should."""
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == 0, done.output
    return done.stdout


def refusal(*words: str) -> str:
    """The sentence of a mistake."""
    done = CliRunner().invoke(app, [*words])
    assert isinstance(done.exception, VgError) or done.exit_code == 2, done.output
    return " ".join(str(done.exception if isinstance(done.exception, VgError) else done.output).split())
