"""Peak bytes of a batch beside what `vgtool plan` reckons with: a 7B model's shape, a sixteenth as wide.

python perf/memory.py [--images 1 8 16 --questions 1 4 --methods 0 2]

Counted are the tensors that operations make, on the CPU, without weights and inputs (tests/peak.py).
"""

import argparse
import copy
import sys
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from peak import Peak

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

METHODS = ("vgrefine", "random-keep", "pai", "swap", "no-image")


def narrow(layers: int, kv_heads: int, side: int, width: int = 256) -> Any:
    """LLaVA-1.5-7B's proportions at a sixteenth of its width, with random weights, behind the embedded tokenizer."""
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
    processor.size, processor.crop_size = {"shortest_edge": 14 * side}, {"height": 14 * side, "width": 14 * side}
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


def measured(opened: Any, images: int, questions: int, methods: int) -> tuple[int, float]:
    """(bytes counted, bytes reckoned) of a batch."""
    adapter = opened.adapter
    rows = benchmark("phantom", limit=5 * images + 5)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--methods", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=0, help="0: as many as heads")
    parser.add_argument("--side", type=int, default=24, help="image tokens along a side")
    args = parser.parse_args()
    opened = narrow(args.layers, args.kv_heads, args.side)
    for images, questions, methods in product(args.images, args.questions, args.methods):
        found, reckoned = measured(opened, images, questions, methods)
        print(
            f"{images:3} images of {questions} questions, {methods} methods: {found / 1e6:7.1f} MB counted, "
            f"{reckoned / 1e6:7.1f} reckoned, {found / reckoned:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
