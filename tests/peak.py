"""The most bytes that tensors take at once, counted by the storages that operations make; and a batch to count them of:
a 7B model's proportions, a fraction as wide. And what loading a checkpoint takes, by perf/load.py."""

import copy
import json
import weakref
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from forked import SERVER, end
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from perf import load as load_cost
from vgtool.attention.sharing import sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.images import open_image
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.pictures import other_image
from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup
from vgtool.models.load import load, resolve
from vgtool.records import Grid
from vgtool.runs.memory import Shape, batch_bytes


class Peak(TorchDispatchMode):
    """Counts every storage made inside from its first tensor to the end of its last. What an operation takes for itself
    while it works is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {_name(one) for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and _name(one) not in given:
                self._add(one.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        if name in self._known:
            return

        def gone(_: Any) -> None:
            self.bytes -= size
            self._known.pop(name, None)

        self._known[name] = weakref.ref(storage, gone)
        self.bytes += size
        self.most = max(self.most, self.bytes)


def _name(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


METHODS = ("vgrefine", "random-keep", "pai", "swap", "no-image")


def narrow(layers: int, kv_heads: int, side: int, width: int = 256) -> Any:
    """LLaVA-1.5-7B's proportions, at a sixteenth of its width if `width` is not given, with random weights, behind the
    embedded model's tokenizer."""
    spec, source = resolve("phantom-vlm")
    adapter = load(spec, source=source, dtype="float32", device="cpu")
    heads = width // 16
    text = LlamaConfig(
        hidden_size=width, intermediate_size=width * 43 // 16, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads, vocab_size=2000, max_position_embeddings=4096,
    )  # fmt: skip
    tower = CLIPVisionConfig(
        hidden_size=width // 4, intermediate_size=width, num_hidden_layers=3, num_attention_heads=4,
        image_size=14 * side, patch_size=14,
    )  # fmt: skip
    placeholder = adapter.model.config.image_token_index
    config = LlavaConfig(vision_config=tower, text_config=text, image_token_index=placeholder)
    torch.manual_seed(0)
    processor = copy.deepcopy(adapter.image_processor)
    for name in ("size", "crop_size"):
        given = getattr(processor, name)
        edges = {edge: 14 * side for edge in ("height", "width", "shortest_edge") if given and given.get(edge)}
        setattr(processor, name, replace(given, **edges) if edges else given)
    model = LlavaForConditionalGeneration(config).eval()
    return sessions(replace(adapter, model=model, image_processor=processor, grid=Grid(side, side)))


def task_of(opened: Any, rows: Any, methods: int) -> Any:
    if not methods:
        return Probe(opened, maps="layers", row="last", mapping="exact")
    adapter = opened.adapter
    facts = Facts(adapter.layers, adapter.heads, ((1, 0), (2, 3), (2, 1)), (adapter.layers // 2,), 0)
    named = {label: parse(label) for label in METHODS[:methods]}
    partner = other_image(rows.samples, 0)
    return Refine(opened, named, facts, rows.decoding, mapping="exact", partner=partner)


def groups_of(adapter: Any, rows: Any, images: int, questions: int) -> list[ImageGroup]:
    """Images of so many questions each, one question asked again where a benchmark has fewer."""
    out = []
    for _, some in groupby(rows.samples, key=lambda sample: sample.image_id):
        mine = list(some)
        asked = tuple(replace(mine[at % len(mine)], id=f"{mine[0].image_id} {at}") for at in range(questions))
        image = open_image(mine[0].image)
        out.append(ImageGroup(asked, (image,), (adapter.prepare(image),)))
    return out[:images]


def measured(opened: Any, images: int, questions: int, methods: int, longest: int | None = None) -> tuple[int, float]:
    """(bytes counted, bytes reckoned) of a batch, its answers of `longest` tokens or as many as the benchmark asks."""
    adapter = opened.adapter
    rows = benchmark("phantom", limit=5 * images + 5)
    if longest is not None:
        rows = replace(rows, decoding=replace(rows.decoding, max_new_tokens=longest))
    groups = groups_of(adapter, rows, images, questions)
    task = task_of(opened, rows, methods)
    task.run(groups[:1], None)
    with Peak() as peak:
        task.run(groups, None)
    text = adapter.model.config.get_text_config()
    tokens = groups[0].visions[0].tokens
    kv_width = text.num_key_value_heads * text.head_dim
    shape = Shape(0, 4.0, adapter.layers, adapter.heads, kv_width, tokens, text.hidden_size)
    tail = max(sum(len(adapter.prompt(sample.prompt).tail) for sample in group.samples) for group in groups)
    return peak.most, batch_bytes(shape, images, questions, tail, methods)


def loading(folder: Path, layout: str) -> dict[str, float]:
    """Peaks in bytes of a process that loads a checkpoint."""
    child = SERVER.Process(target=_load, args=(folder, layout))
    child.start()
    assert end(child) == 0
    return json.loads((folder / "peaks").read_text())


def _load(folder: Path, layout: str) -> None:
    with (folder / "peaks").open("w") as out, redirect_stdout(out):
        load_cost.load(folder, layout, "float32")
