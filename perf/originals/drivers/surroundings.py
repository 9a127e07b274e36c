"""What lets a repository written for CUDA and half precision run on a CPU in float32, and nothing more: weights and
pixels are float32 (no comparison at 1e-4 survives half precision), a random padding offset is its lower bound, `cuda()`
stays where it is, attention is computed as matrices, and what is imported for training alone may be absent."""

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import random
import sys
from unittest.mock import MagicMock

import torch

ABSENT = (
    "av", "cv2", "datasets", "decord", "deepspeed", "ffmpeg", "imageio", "moviepy", "nibabel", "pytorchvideo",
    "skimage", "wandb",
)  # fmt: skip
"""Imported by the repositories for training, video or plots, and never called here."""


def on_cpu():
    """Everything above, before anything of the repository is imported."""
    importlib.import_module("safetensors.torch")  # which keeps a table of dtypes
    torch.bfloat16 = torch.float16 = torch.float32
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **settings: self
    torch.Tensor.half = torch.Tensor.float
    random.randint = lambda low, high: low
    move, ones = torch.Tensor.to, torch.ones

    def to(self, *args, **settings):
        place = settings.get("device", args[0] if args and isinstance(args[0], str) else None)
        return self if place == "cuda" else move(self, *args, **settings)

    torch.Tensor.to = to
    torch.ones = lambda *args, device=None, **settings: ones(*args, **settings)
    stand_in(*ABSENT)
    operators()
    eager()


def eager():
    """Attention as matrices, which is what can be compared; some repositories ask for flash attention."""
    from transformers import PreTrainedModel

    def choose(cls, config, *args, **settings):
        config._attn_implementation = "eager"
        return config

    if hasattr(PreTrainedModel, "_autoset_attn_implementation"):
        PreTrainedModel._autoset_attn_implementation = classmethod(choose)


def stand_in(*names):
    """Empty modules for those that are not installed."""
    absent = {name for name in names if importlib.util.find_spec(name) is None}

    class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path, target=None):
            if name.partition(".")[0] in absent:
                return importlib.machinery.ModuleSpec(name, self, is_package=True)

        def create_module(self, spec):
            module = MagicMock(name=spec.name)
            module.__path__, module.__spec__ = [], spec
            return module

        def exec_module(self, module):
            pass

    sys.meta_path.append(Finder())


def operators():
    """Those whose absence keeps a CPU build of torchvision from being imported."""
    with contextlib.suppress(RuntimeError):
        global library
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def functions(path, names, given):
    """Some functions of a module, without the module's imports."""
    tree = ast.parse(path.read_text("utf-8"))
    tree.body = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in names]
    exec(compile(tree, str(path), "exec"), given)
    return given


def weights(folder):
    """Every tensor of a checkpoint."""
    from safetensors.torch import load_file

    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def last(out, start, tokens):
    """(last logits [V], attention of the last row to the image [layers, heads, tokens])."""
    attention = torch.stack([layer[0, :, -1, start : start + tokens] for layer in out.attentions])
    return out.logits[0, -1], attention
