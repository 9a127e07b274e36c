"""What perf/batch.py starts under each version: one measurement, as JSON. Speaks the interface of both.

python perf/batch_worker.py probe|refine|operations SAMPLES
"""

import inspect
import json
import sys
import tempfile
import time
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vgtool.attention import sharing
from vgtool.benchmarks.load import load as benchmark
from vgtool.images import open_image
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.pictures import other_image
from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup
from vgtool.models.load import load, resolve
from vgtool.runs import runner
from vgtool.runs.store import Shard, Store

BATCHES = "images" in inspect.signature(runner.run).parameters
IMAGES = 16
"""What `--images auto` takes where memory allows."""


def embedded() -> Any:
    spec, source = resolve("phantom-vlm")
    return sharing.sessions(load(spec, source=source, dtype="float32", device="cpu"))


def task_of(kind: str, opened: Any, rows: Any) -> Any:
    if kind == "probe":
        return Probe(opened, maps="layers", row="last", mapping="exact")
    adapter = opened.adapter
    heads = ((adapter.layers // 3, 0), (adapter.layers // 3, 3), (adapter.layers // 6, 1), (adapter.layers // 2, 2))
    facts = Facts(adapter.layers, adapter.heads, heads, (adapter.layers // 2,), 0)
    methods = {label: parse(label) for label in ("vgrefine", "random-keep")}
    partner = other_image(rows.samples, 0)
    return Refine(opened, methods, facts, rows.decoding, mapping="exact", partner=partner)


def timed(kind: str, limit: int) -> dict[str, float]:
    """Seconds of a run, processor seconds of the whole process and of this thread; after a short run to warm up."""
    opened = embedded()
    spent: dict[str, float] = {}
    for count in (100, limit):
        rows = benchmark("phantom", limit=count)
        task = task_of(kind, opened, rows)
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder))
            store.open(kind, {}, [])
            clocks = (time.perf_counter, time.process_time, time.thread_time)
            began = [clock() for clock in clocks]
            more: dict[str, Any] = {"images": IMAGES} if BATCHES else {}
            runner.run(task, opened.adapter, rows, store, shard=Shard(), **more)
            found = [clock() - start for clock, start in zip(clocks, began, strict=True)]
            spent = dict(zip(("seconds", "cpu", "main"), found, strict=True))
    return spent


class Count(TorchDispatchMode):
    """Counts operations that would be started on a device: all but views and reads of sizes."""

    FREE = ("view", "expand", "transpose", "slice", "select", "unsqueeze", "squeeze", "permute", "split", "t.default",
            "detach", "alias", "as_strided", "unbind", "chunk")  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.").lstrip("_")
        self.count += not name.startswith(self.FREE)
        return func(*args, **(kwargs or {}))


def groups_of(adapter: Any, images: int, questions: int) -> list[ImageGroup]:
    rows = benchmark("phantom", limit=5 * images)
    out = []
    for _, some in groupby(rows.samples, key=lambda sample: sample.image_id):
        mine = tuple(some)[:questions]
        image = open_image(mine[0].image)
        out.append(ImageGroup(mine, (image,), (adapter.prepare(image),)))
    return out


def deepened(opened: Any, layers: int) -> Any:
    """The embedded model with its text layers repeated: as many operations as a model of that depth starts."""
    adapter = opened.adapter
    text, config = adapter.text, adapter.model.config.get_text_config()
    kept = list(text.layers)
    import copy

    text.layers = torch.nn.ModuleList(copy.deepcopy(kept[at % len(kept)]) for at in range(layers))
    for at, layer in enumerate(text.layers):
        layer.self_attn.layer_idx = at
    config.num_hidden_layers = layers
    return replace(opened, adapter=adapter)


def operations() -> dict[str, float]:
    """Operations a sample of 8 images of 4 questions through 28 layers, the depth of a 7B model."""
    opened = deepened(embedded(), 28)
    rows = benchmark("phantom", limit=40)
    groups = groups_of(opened.adapter, 8, 4)
    found = {}
    for kind in ("probe", "refine"):
        task = task_of(kind, opened, rows)
        with Count() as counted:
            if BATCHES:
                task.run(groups, None)
            else:
                for group in groups:
                    task.run(group, None)
        found[kind] = counted.count / 32
    return found


def main() -> None:
    kind, limit = sys.argv[1], int(sys.argv[2])
    found = operations() if kind == "operations" else timed(kind, limit)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
