"""What an answer depends on: its log-probability when nothing after the image may attend to the region.

Attention knockout (Geva et al. 2023, arXiv 2304.14767; between image and text in Neo et al. 2024, arXiv 2410.07149): at
the layers of a window, every token after the image, the answer's own included, loses the tokens of the region R. With
    l(V) = log p(answer | prompt, image tokens V visible)     summed over the answer's tokens, in nats
the numbers are
    reliance         l(all) - l(all but R)          at every layer, and in each window (the curve)
    reliance_random  l(all) - l(all but |R| others) drawn outside R, mean over draws, likewise
    sufficiency      l(R alone) - l(all)            at every layer; 0: R is all the answer needs
for the baseline's own answer and, where there is one, for the reference.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import torch

from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask, Change
from vgtool.benchmarks.options import letter, right_option
from vgtool.benchmarks.references import accepted
from vgtool.errors import VgError
from vgtool.methods.answers import filled
from vgtool.methods.questions import FLOATS, PACK_TOKENS, Question
from vgtool.methods.reading import AnySession
from vgtool.methods.task import Row
from vgtool.records import Sample

OF = ("", "reference_")
"""Whose log-probability: the baseline's own answer, the reference."""
MEASURES = ("reliance", "reliance_random", "sufficiency")
CURVES = ("reliance_curve", "reliance_random_curve")
COLUMNS = [
    ("answer", pa.string()),
    ("choices", pa.list_(pa.string())),
    ("reference", pa.string()),
    ("log_probability", pa.float32()),
    *((name, pa.float32()) for name in MEASURES),
    *((name, FLOATS) for name in CURVES),
    ("reference_log_probability", pa.float32()),
    *((f"reference_{name}", pa.float32()) for name in MEASURES),
    *((f"reference_{name}", FLOATS) for name in CURVES),
    ("unmeasured", pa.string()),
]
NO_ANSWER = "no_answer: the model ended its answer before its first word"
Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Windows:
    """What is hidden where, and how often at random."""

    layers: int
    """Of the model."""
    readable: frozenset[int]
    """Those whose attention can be edited."""
    width: int
    count: int
    draws: int = 1
    seed: int = 0

    @classmethod
    def of(
        cls, layers: int, readable: frozenset[int], width: int | None, count: int, draws: int = 1, seed: int = 0
    ) -> "Windows":
        """`width`: layers of a window, None for a quarter of the depth. VgError where it does not fit."""
        if width is not None and width > layers:
            raise VgError(f"--window {width} is more than the model's {layers} layers.", "Give a smaller one.")
        return cls(layers, frozenset(readable), width or max(round(layers / 4), 1), count, draws, seed)

    @property
    def starts(self) -> list[int]:
        """First layer of each window, from the first to the last that fits; a single one lies in the middle."""
        last = self.layers - self.width
        if self.count < 2:
            return [last // 2] * self.count
        return sorted({round(float(at)) for at in np.linspace(0, last, self.count)})

    @property
    def places(self) -> list[frozenset[int]]:
        """Layers edited: all of them, then each window's; empty where a window has none that can be edited."""
        windows = [frozenset(range(at, at + self.width)) & self.readable for at in self.starts]
        return [self.readable, *windows]

    @property
    def keep(self) -> frozenset[int]:
        """Layers whose input a knocked-out pass starts from."""
        return frozenset(min(layers) for layers in self.places if layers)

    def settings(self) -> dict[str, Any]:
        """For run.json."""
        return {"window": self.width, "starts": self.starts, "draws": self.draws, "seed": self.seed}

    @property
    def notes(self) -> list[str]:
        """Layers that no knockout reaches."""
        lacking = sorted(frozenset(range(self.layers)) - self.readable)
        if not lacking:
            return []
        none = sum(not layers for layers in self.places)
        windows = f"; {none} windows hold no other and are not measured" if none else ""
        layers = ", ".join(map(str, lacking))
        return [f"Reliance leaves layers {layers} unedited: they have no softmax attention{windows}."]

    def outside(self, sample: Sample, region: Sequence[int], tokens: int) -> list[list[int]]:
        """For each draw as many tokens as the region has, of the other ones; by seed and sample alone."""
        others = np.setdiff1d(np.arange(tokens), region)
        if len(others) < len(region):
            return []
        seeds = ([self.seed, crc32(sample.id.encode()), crc32(b"reliance"), draw] for draw in range(self.draws))
        return [np.random.default_rng(seed).permutation(others)[: len(region)].tolist() for seed in seeds]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One question with one answer behind it, and the region it may rest on."""

    question: Question
    target: Tokens
    region: Sequence[int]
    drawn: Sequence[Sequence[int]]
    tokens: int
    """Image tokens of the prompt, all its images together."""
    given: int | None = None
    """Its place in the pass that is given, where it went through the model already."""

    def ask(self) -> Ask:
        return Ask(self.question.prompt.tail, image=self.question.image).answered(self.target)

    def hidden(self) -> Iterator[tuple[str, Sequence[int]]]:
        """What is hidden, by the measure it is for; at all layers and windows, but for `sufficiency`."""
        yield "reliance", self.region
        for drawn in self.drawn:
            yield "reliance_random", drawn
        yield "sufficiency", np.setdiff1d(np.arange(self.tokens), self.region).tolist()


@dataclass(frozen=True, slots=True)
class Given:
    """Questions with the answers that were decoded, as one pass over both."""

    asked: Asked | None = None
    places: Mapping[int, int] = field(default_factory=dict)
    """Question -> its place in the pass."""


@dataclass(frozen=True, slots=True)
class _Run:
    """One pass of one of the wanted: what for, and where."""

    of: int
    measure: str
    place: int
    change: Change


def measured(
    session: AnySession, wanted: Sequence[Wanted], windows: Windows, images: int, given: Asked | None = None
) -> list[Row]:
    """The numbers of each, under the names of MEASURES and CURVES, and its plain `log_probability`."""
    rows, room = dict[int, Row](), PACK_TOKENS * images
    known = {one.given: at for at, one in enumerate(wanted) if one.given is not None}
    if given is not None and known:
        found = _knocked(session, given, {place: wanted[at] for place, at in known.items()}, windows.places, room)
        rows |= {known[place]: row for place, row in found.items()}
    others = [(at, one) for at, one in enumerate(wanted) if at not in rows]
    for some in filled(others, lambda one: len(one[1].ask().tail), room):
        plain = session.ask([one.ask() for _, one in some], keep=windows.keep)
        found = _knocked(session, plain, {place: one for place, (_, one) in enumerate(some)}, windows.places, room)
        rows |= {some[place][0]: row for place, row in found.items()}
    return [rows[at] for at in range(len(wanted))]


def _knocked(
    session: AnySession, plain: Asked, some: Mapping[int, Wanted], places: Sequence[frozenset[int]], room: int
) -> dict[int, Row]:
    """The numbers of questions by their place in a pass `plain`."""
    runs = [run for at, one in some.items() for run in _runs(at, one, places)]
    found: dict[tuple[int, str, int], list[float]] = {}
    for run in runs:
        if run.change.empty:  # hiding nothing is no pass: another packing would differ in its last digits
            found.setdefault((run.of, run.measure, run.place), []).append(float(plain.likelihood[run.of]))
    runs = [run for run in runs if not run.change.empty]
    runs.sort(key=lambda run: run.change.start)
    for _, same in groupby(runs, key=lambda run: run.change.start):
        for pack in filled(same, lambda run: len(plain.asks[run.of].tail), room):
            again = session.rerun(plain, [run.change for run in pack])
            for run, now in zip(pack, again.likelihood.tolist(), strict=True):
                found.setdefault((run.of, run.measure, run.place), []).append(now)
    return {at: _row(at, float(plain.likelihood[at]), found, len(places)) for at in some}


def _runs(at: int, one: Wanted, places: Sequence[frozenset[int]]) -> Iterator[_Run]:
    for measure, hidden in one.hidden():
        cut = torch.zeros(one.tokens, dtype=torch.bool)
        cut[list(hidden)] = True
        for place, layers in enumerate(places[:1] if measure == "sufficiency" else places):
            if layers:
                yield _Run(at, measure, place, Change(layers, cut, decode=True, index=at))


def _row(at: int, before: float, found: Mapping[tuple[int, str, int], list[float]], places: int) -> Row:
    def change(measure: str, place: int) -> float | None:
        now = found.get((at, measure, place))
        if now is None or not all(map(math.isfinite, [before, *now])):
            return None
        lost = before - sum(now) / len(now)
        return -lost if measure == "sufficiency" else lost

    row: Row = {"log_probability": before if math.isfinite(before) else None}
    row |= {measure: change(measure, 0) for measure in MEASURES}
    curves = zip(CURVES, MEASURES, strict=False)
    return row | {curve: [change(name, place) for place in range(1, places)] for curve, name in curves}


def spoken(sample: Sample) -> str:
    """The reference as an answer would say it: the letter of a choice, the first of several accepted ones."""
    first = accepted(sample.reference)[0]
    if sample.question_type == "choice" and sample.choices:
        at = right_option(first, sample.choices)
        return first if at is None else letter(at)
    return first


def rows_of(
    session: AnySession,
    questions: Sequence[Question],
    regions: Mapping[int, Sequence[int]],
    answers: Mapping[int, tuple[str, Tokens]],
    windows: Windows,
    tokens: tuple[int, int],
    given: Given = Given(),
) -> dict[int, Row]:
    """The columns of each question that has a region (perhaps an empty one). `answers`: text and tokens of each.
    `tokens`: image tokens of the first image, and of all. `given`: the answers, where they went through the model."""
    rows, wanted, owners = dict[int, Row](), list[Wanted](), list[tuple[int, list[str]]]()
    images = 1 + max((question.image for question in questions), default=0)
    for at, region in regions.items():
        sample, (text, own) = questions[at].sample, answers[at]
        rows[at] = {"answer": text, "reference": sample.reference or None}
        rows[at]["choices"] = list(sample.choices) if sample.choices else None
        if not sample.boxes and not region:
            rows[at]["unmeasured"] = "no_region: the sample has neither box nor mask"
            continue
        drawn = windows.outside(sample, region, tokens[0])
        if not drawn:
            rows[at]["unmeasured"] = "few_outside: the region has more tokens than the rest of the image"
        if not own:
            rows[at]["unmeasured"] = NO_ANSWER
        reference = spoken(sample) if sample.reference else ""
        ids = session.adapter.tokenizer(reference, add_special_tokens=False).input_ids if reference else ()
        targets: dict[Tokens, list[str]] = {}
        for kind, target in zip(OF, (own, tuple(ids)), strict=True):
            if target:
                targets.setdefault(target, []).append(kind)
        for target, of in targets.items():
            place = given.places.get(at) if "" in of else None
            wanted.append(Wanted(questions[at], target, region, drawn, tokens[1], place))
            owners.append((at, of))
    for (at, of), found in zip(owners, measured(session, wanted, windows, images, given.asked), strict=True):
        for kind in of:
            rows[at] |= {f"{kind}{name}": value for name, value in found.items()}
    return rows
