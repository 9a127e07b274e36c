"""Side by side, interleaved, on random weights: what vgtool's attention and session cost.

    python perf/attention.py [--hidden 512 --layers 8 --heads 8 --tokens 576 --rounds 5 --device cpu]
(a) a plain SDPA forward, the same with last-row capture, and eager with output_attentions: time and peak memory, at
    several lengths
(b) the released code's sequence (eager question, eager general, eager knocked-out generate, each question) against a
    session
(c) plain generate per question against a session's baseline AND refined answers
(d) 20 variants of VGRefine on 4 questions against the baseline alone, both in a session
Ratios of medians; times are of this machine at this moment. The bound counts tokens that pass through layers.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from random_llava import llava

from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask, Change
from vgtool.attention.decode import Ending, decode
from vgtool.attention.engine import Tap, attach, tapped
from vgtool.attention.session import Session
from vgtool.grounding.geometry import Geometry
from vgtool.methods.questions import PACK_TOKENS
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Vision
from vgtool.records import Grid
from vgtool.registry import ModelSpec

TAIL, ANSWER = 28, 4


class Digits:
    """Stands in for a tokenizer; no text is needed here."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def medians(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each way, interleaved after one warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if index:
                spent[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in spent.items()}


def single(model: Any, adapter: Adapter, length: int, layers: frozenset[int]) -> dict[str, Callable[[], object]]:
    """A text-only forward of `length` embeddings, plain, with the last row captured, and eager with every matrix."""
    embeds = torch.randn(1, length, adapter.text.config.hidden_size, device=adapter.device, dtype=adapter.dtype)
    columns = torch.arange(10, length - TAIL, device=adapter.device)

    @torch.inference_mode()
    def forward(kernel: str, tap: bool = False, **kwargs: bool) -> None:
        model.set_attn_implementation({"text_config": kernel})
        watch = Tap(columns, layers if tap else frozenset(), [length - 1])
        with tapped(watch):
            adapter.text(inputs_embeds=embeds, use_cache=False, **kwargs)

    return {
        "sdpa": lambda: forward("sdpa"),
        "capture": lambda: forward("vgtool", True),
        "eager": lambda: forward("eager", output_attentions=True),
    }


def peak_mib(way: Callable[[], object]) -> float:
    """Peak memory of one call above what is held before it, in MiB: of the GPU, or of this process (Linux)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        way()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = resident("VmRSS")
    way()
    return (resident("VmHWM") - before) / 1024


def resident(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


@dataclass
class Bench:
    """One image and its questions, asked in every way that is compared."""

    adapter: Adapter
    vision: Vision
    layers: int
    head: tuple[int, ...] = tuple(range(20, 30))
    tails: list[tuple[int, ...]] = field(
        default_factory=lambda: [tuple(torch.randint(20, 2000, (TAIL,)).tolist()) for _ in range(11)]
    )

    @property
    def half(self) -> int:
        return self.layers // 2

    @torch.inference_mode()
    def whole(self, kernel: str, tail: tuple[int, ...], **kwargs: bool) -> None:
        self.adapter.model.set_attn_implementation({"text_config": kernel})
        inputs = self.adapter.inputs([self.vision], self.head, tail)
        self.adapter.model(**inputs.kwargs, use_cache=False, logits_to_keep=1, **kwargs)

    @torch.inference_mode()
    def generate(self, kernel: str, tail: tuple[int, ...]) -> None:
        self.adapter.model.set_attn_implementation({"text_config": kernel})
        embeds = self.adapter.inputs([self.vision], self.head, tail).kwargs["inputs_embeds"]
        self.adapter.model.generate(
            inputs_embeds=embeds, max_new_tokens=ANSWER, min_new_tokens=ANSWER, do_sample=False, pad_token_id=0
        )

    def released(self, questions: int) -> None:
        """As the released code does it."""
        for tail in self.tails[:questions]:
            self.whole("eager", tail, output_attentions=True)
            self.whole("eager", self.tails[-1], output_attentions=True)
            self.generate("eager", tail)

    def plain(self, questions: int) -> None:
        for tail in self.tails[:questions]:
            self.generate("sdpa", tail)

    def opened(self) -> Session:
        self.adapter.model.set_attn_implementation({"text_config": "vgtool"})
        return Session(self.adapter, [[self.vision]], self.head)

    @torch.inference_mode()
    def session(self, questions: int) -> None:
        """Both answers of every question."""
        opened, half = self.opened(), self.half
        gone = torch.arange(self.vision.tokens) % 2 == 0
        asks = [Ask(tail) for tail in [*self.tails[:questions], self.tails[-1]]]
        asked = opened.ask(asks, frozenset(range(half)), frozenset({half}))
        changes = [Change(layers=frozenset({half}), cut=gone, index=q) for q in range(questions)]
        packs = [asked, opened.rerun(asked, changes)]
        answer(opened, packs, [*range(questions), *range(questions + 1, 2 * questions + 1)])

    @torch.inference_mode()
    def variants(self, count: int) -> None:
        """Four questions under `count` knockouts each."""
        opened, half = self.opened(), self.half
        asks = [Ask(tail) for tail in [*self.tails[:4], self.tails[-1]]]
        asked = opened.ask(asks, frozenset(range(half)), frozenset({half}))
        masks = [torch.rand(self.vision.tokens) < 0.5 for _ in range(4 * count)]
        changes = [Change(layers=frozenset({half}), cut=mask, index=i % 4) for i, mask in enumerate(masks)]
        size = PACK_TOKENS // TAIL
        packs = [opened.rerun(asked, changes[at : at + size]) for at in range(0, len(changes), size)]
        answer(opened, [asked], range(4))
        for pair in zip_longest(packs[::2], packs[1::2]):
            some = [pack for pack in pair if pack is not None]
            answer(opened, some, range(sum(len(pack.asks) for pack in some)))

    @torch.inference_mode()
    def alone(self) -> None:
        """Four questions, unedited."""
        opened = self.opened()
        answer(opened, [opened.ask([Ask(tail) for tail in self.tails[:4]], frozenset())], range(4))


def answer(opened: Session, packs: list[Asked], rows: Sequence[int]) -> None:
    decode(opened.state(packs), Ending(Digits(), frozenset(), ANSWER), {row: () for row in rows})


def bench(args: argparse.Namespace) -> Bench:
    """A LLaVA of the sizes that were asked for, random weights, one random image."""
    side = round(args.tokens**0.5)
    model = llava(args, side)
    spec = ModelSpec(name="random", title="random", adapter="llava")
    adapter = Adapter(model=model, tokenizer=Digits(), spec=spec, template="")
    pixels = torch.randn(1, 3, 14 * side, 14 * side)
    vision = Vision({"pixel_values": pixels}, Geometry.squash(10, 10, 14 * side, 14 * side, Grid(side, side)))
    attach(model, adapter.text)
    return Bench(adapter, vision, args.layers)


def capturing(one: Bench, length: int, rounds: int) -> None:
    """(a)"""
    forward = single(one.adapter.model, one.adapter, length, frozenset(range(one.layers)))
    found = medians(rounds, forward)
    peak = {name: peak_mib(way) for name, way in forward.items()}
    print(
        f"(a) {length:5d} tokens: time capture / sdpa {found['capture'] / found['sdpa']:.2f}, eager / sdpa "
        f"{found['eager'] / found['sdpa']:.2f}; peak MiB sdpa {peak['sdpa']:.0f}, capture {peak['capture']:.0f}, "
        f"eager {peak['eager']:.0f}"
    )


def asking(one: Bench, questions: int, rounds: int) -> None:
    """(b), (c)"""
    ways: dict[str, Callable[[], object]] = {
        "released": lambda: one.released(questions),
        "plain": lambda: one.plain(questions),
        "session": lambda: one.session(questions),
    }
    found = medians(rounds, ways)
    prefix = one.vision.tokens + len(one.head)
    ours = prefix + TAIL * (questions * 1.5 + 1)
    bound = 3 * questions * (prefix + TAIL) / ours
    print(
        f"(b) {questions:2d} questions: released / session {found['released'] / found['session']:.1f} "
        f"(tokens alone {bound:.1f})   (c) session / plain generate {found['session'] / found['plain']:.2f} "
        f"(tokens alone {ours / (questions * (prefix + TAIL)):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("hidden", 512), ("layers", 8), ("heads", 8), ("kv-heads", 8), ("tokens", 576), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lengths", default="640,1280,2560,4096", help="of (a)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    torch.manual_seed(0)
    one = bench(args)
    heads = f"{args.heads}/{args.kv_heads} heads, {one.vision.tokens} image tokens"
    print(f"{args.layers} layers, hidden {args.hidden}, {heads}, {args.dtype}, {args.device}, ", end="")
    print(f"{torch.get_num_threads()} threads, {args.rounds} rounds")
    for length in map(int, args.lengths.split(",")):
        capturing(one, length, args.rounds)
    attach(one.adapter.model, one.adapter.text)
    for questions in (1, 4, 10):
        asking(one, questions, args.rounds)
    found = medians(args.rounds, {"baseline": one.alone, "variants": lambda: one.variants(20)})
    print(f"(d) 20 variants x 4 questions / baseline of 4 questions {found['variants'] / found['baseline']:.1f}")


if __name__ == "__main__":
    main()
