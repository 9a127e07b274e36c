"""What asking beside attention costs: a probe with --reliance against the same probe, on random weights, interleaved.

    python perf/witnesses.py [--hidden 512 --layers 8 --heads 8 --tokens 576 --questions 4 --rounds 5 --device cpu]
Whole tasks are timed, from prepared images to rows with metrics and maps, answers of --answer tokens decoded among it.
On a CPU in processor time. `tokens` is the same ratio by what passes through layers, of a probe without its tower and
metrics: what no packing can go below, for every row behind the image is another one for each thing that is hidden.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from random_llava import llava

from vgtool.attention.engine import attach
from vgtool.attention.sharing import Sessions
from vgtool.grounding.geometry import Geometry
from vgtool.methods.probe import Probe
from vgtool.methods.task import ImageGroup
from vgtool.methods.witnesses import Asking, Witnesses
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Prompt, Vision
from vgtool.records import Box, Decoding, Grid, ImageSource, Sample
from vgtool.registry import ModelSpec

TAIL = 28


class Text:
    """Stands in for a tokenizer; no text is needed here."""

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, ids))

    def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[5])


class Spoken(Adapter):
    """Prompts of TAIL random tokens, by question."""

    def prompt(self, text: str, images: int = 1) -> Prompt:
        ids = torch.randint(20, 2000, (TAIL,), generator=torch.Generator().manual_seed(sum(map(ord, text))))
        return Prompt(tuple(range(20, 30)), tuple(ids.tolist()))


def opened(args: Any) -> tuple[Sessions, ImageGroup]:
    side = round(args.tokens**0.5)
    model = llava(args, side)
    spec = ModelSpec(name="random", title="random", adapter="llava")
    adapter = Spoken(model=model, tokenizer=Text(), spec=spec, template="")
    attach(model, adapter.text)
    size = 14 * side
    geometry = Geometry.squash(10, 10, size, size, Grid(side, side))
    vision = Vision({"pixel_values": torch.randn(1, 3, size, size)}, geometry)
    source = ImageSource("image", bytes)
    samples = tuple(
        Sample(f"{at}", "i", source, f"q{at}", f"q{at}", "medical", "", "open", boxes=(Box(2, 2, 5, 5),))
        for at in range(args.questions)
    )
    return Sessions(adapter, True, 0.0), ImageGroup(samples, (Image.new("RGB", (10, 10)),), (vision,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("hidden", 512), ("layers", 8), ("heads", 8), ("tokens", 576), ("questions", 4),
                        ("answer", 3), ("rounds", 5), ("images", 1)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    args.kv_heads = args.heads
    sessions, group = opened(args)
    decoding = Decoding(max_new_tokens=args.answer)

    def task(**asking: Any) -> Probe:
        witnesses = Witnesses(sessions, Asking(**asking), decoding)
        return Probe(sessions, maps="layers", row="last", mapping="exact", witnesses=witnesses)

    ways = {
        "probe": task(),
        "all layers, one draw": task(reliance=True, windows=0),
        "one window, one draw": task(reliance=True, windows=1),
        "8 windows, one draw": task(reliance=True, windows=8),
    }
    runs: dict[str, Callable[[], object]] = {
        name: (lambda one=one: one.run([group] * args.images, None)) for name, one in ways.items()
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    clock = time.process_time if args.device == "cpu" else time.perf_counter  # other work on the machine is not counted
    for round_ in range(args.rounds + 1):
        for name, run in runs.items():
            started = clock()
            run()
            if args.device != "cpu":
                torch.cuda.synchronize()
            if round_:
                spent[name].append(clock() - started)
    for name, one in ways.items():
        ratio = statistics.median(a / b for a, b in zip(spent[name], spent["probe"], strict=True))
        taken = 1000 * statistics.median(spent[name])
        print(f"{name:22} {taken:7.0f} ms   {ratio:5.2f} x   {passed(one, args):5.2f} by tokens")


def passed(task: Probe, args: Any) -> float:
    """Tokens times layers of a task over those of a probe."""
    plain = (args.tokens + 10 + TAIL * (args.questions + 1)) * args.layers
    windows = task.witnesses.windows if task.witnesses else None
    if windows is None:
        return 1.0
    each = args.questions * (TAIL + args.answer - 1)
    deep = [args.layers - min(layers) for layers in windows.places]
    extra = each * (2 * sum(deep) + args.layers) + args.questions * (args.answer - 1) * args.layers
    return 1 + extra / plain


if __name__ == "__main__":
    main()
