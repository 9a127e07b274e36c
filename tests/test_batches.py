"""Several images in one pass: a question's rows, logits and answers are those it has by itself, whatever else runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests import reference, zoo
from tests.embedded import shown
from tests.scene import FakeTokenizer
from vgtool.attention import decode, packing, whole
from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask, Change
from vgtool.attention.engine import attach
from vgtool.attention.session import Session
from vgtool.attention.sharing import Sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.images import open_image
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup, Row
from vgtool.records import Sample
from vgtool.runs.attempt import Limits, attempt

EVERY = frozenset(range(4))
SIZES = ((9, 12), (7,), (4, 15, 6), (11,), (3, 3))
"""Tokens of the questions on each of five images."""
ALL = (*zoo.FAMILIES, "paligemma")
ENDING = decode.Ending(FakeTokenizer(), frozenset({2}), 3)


class Batch:
    """One model, five images, questions of unequal number and length; and each image in a session of its own."""

    def __init__(self, name: str) -> None:
        self.adapter = zoo.family(name)
        self.visions = [zoo.vision(self.adapter, seed) for seed in range(len(SIZES))]
        self.head = zoo.head()
        self.asked = [(at, tail) for at, sizes in enumerate(SIZES) for tail in zoo.tails(at, *sizes)]
        attach(self.adapter.model, self.adapter.text)
        self.kind = whole.WholeSession if name == "paligemma" else Session

    def open(self, *images: int) -> Any:
        return self.kind(self.adapter, [[self.visions[image]] for image in images], self.head)

    def asks(self, **settings: Any) -> list[Ask]:
        """Every question, where it belongs; mixed, so that no image's questions stand together."""
        asks = [Ask(tail, (1, 3), image=image, **settings) for image, tail in self.asked]
        return asks[::2] + asks[1::2]

    def change(self, kind: str, index: int, tokens: int) -> Change:
        cut = torch.rand(tokens, generator=torch.Generator().manual_seed(index)) < 0.5
        return {
            "cut": Change(frozenset({1, 3}), cut, index=index),
            "cut while answering": Change(frozenset({2}), cut, decode=True, index=index),
            "cut of the question": Change(frozenset({1}), cut, rows="question", index=index),
            "multiplied": Change(frozenset({1, 2}), cut, renormalise=False, index=index),
            "rescored": Change(frozenset({0, 2}), rescore=louder, rows="last", decode=True, index=index),
            "cut and rescored": Change(frozenset({2}), cut, louder, index=index),
        }[kind]


def louder(scores: torch.Tensor) -> torch.Tensor:
    return scores + 0.5 * scores.abs()


KINDS = ("cut", "cut while answering", "cut of the question", "multiplied", "rescored", "cut and rescored")


@pytest.mark.parametrize("name", ALL)
def test_rows_and_logits_of_five_images_in_one_pass_equal_eager(name: str) -> None:
    batch = Batch(name)
    asks = batch.asks()
    with torch.inference_mode():
        asked = batch.open(*range(len(SIZES))).ask(asks, EVERY)
        inputs = [batch.adapter.inputs([batch.visions[ask.image]], batch.head, ask.tail) for ask in asks]
    for at, one in enumerate(inputs):
        logits, weights = reference.forward(batch.adapter.model, one.kwargs)
        for layer in EVERY:
            expected = weights[layer][:, -1][:, one.columns[0]]
            assert (asked.maps[layer][at] - expected).abs().max() < 1e-5
        assert (asked.logits[at] - logits[-1]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ALL)
def test_edits_and_answers_of_five_images_in_one_pass_are_those_of_each_alone(name: str) -> None:
    batch = Batch(name)
    asks, tokens = batch.asks(), batch.visions[0].tokens
    with torch.inference_mode():
        together = batch.open(*range(len(SIZES)))
        asked = together.ask(asks, EVERY, EVERY)
        passes = [asked, *(changed(together, asked, batch, kind, range(len(asks)), tokens) for kind in KINDS)]
        answers = decode.decode(together.state(passes), ENDING, dict.fromkeys(range(len(asks) * len(passes)), ()))
        for image in range(len(SIZES)):
            mine = [at for at, ask in enumerate(asks) if ask.image == image]
            alone = batch.open(image)
            by_itself = alone.ask([replace(asks[at], image=0) for at in mine], EVERY, EVERY)
            others = [by_itself, *(changed(alone, by_itself, batch, kind, mine, tokens) for kind in KINDS)]
            for which, (one, other) in enumerate(zip(passes, others, strict=True)):
                assert (one.logits[mine] - other.logits).abs().max() < 1e-4, which
                for layer in other.maps:
                    assert (one.maps[layer][mine] - other.maps[layer]).abs().max() < 1e-5, which
                assert torch.equal(kept(one, mine), kept(other, range(len(mine)))), which
            found = decode.decode(alone.state(others), ENDING, dict.fromkeys(range(len(mine) * len(others)), ()))
            for which in range(len(others)):
                for row, at in enumerate(mine):
                    expected = found[which * len(mine) + row].tokens
                    assert answers[which * len(asks) + at].tokens == expected, (KINDS[which - 1] if which else "plain")


def kept(asked: Asked, rows: Any) -> torch.Tensor:
    """Tokens that each question keeps, by its own heads over the mean of a layer; bool [Q, N]."""
    ratio = asked.maps[3][list(rows)][:, 0] / (asked.maps[2][list(rows)].mean(1) + 1e-10)
    return ratio >= ratio.quantile(0.5, dim=-1, keepdim=True)


def changed(opened: Any, asked: Asked, batch: Batch, kind: str, questions: Any, tokens: int) -> Asked:
    """Every question of `asked` under a change that is drawn by its number among all of the batch."""
    changes = [replace(batch.change(kind, at, tokens), index=row) for row, at in enumerate(questions)]
    return opened.rerun(asked, changes, EVERY)


@pytest.mark.parametrize("name", zoo.FAMILIES)
def test_blind_and_guided_answers_of_several_images_are_those_of_each_alone(name: str) -> None:
    batch = Batch(name)
    asks = batch.asks()[:6]
    blind = [replace(ask, blind=True) for ask in asks]
    guides = {row: decode.Guide(row + len(asks), 1.1) for row in range(len(asks))}
    with torch.inference_mode():
        together = batch.open(*range(len(SIZES)))
        passes = [together.ask(asks), together.ask(blind)]
        answers = decode.decode(together.state(passes), ENDING, dict.fromkeys(range(len(asks)), ()), guides)
        for at, ask in enumerate(asks):
            ids = torch.tensor([[*batch.head, *ask.tail]])
            expected = batch.adapter.model(input_ids=ids).logits[0, -1]
            assert (passes[1].logits[at] - expected).abs().max() < 1e-4
            alone = batch.open(ask.image)
            both = [alone.ask([replace(one, image=0)]) for one in (ask, blind[at])]
            found = decode.decode(alone.state(both), ENDING, {0: ()}, {0: decode.Guide(1, 1.1)})
            assert answers[at].tokens == found[0].tokens


def test_groups_hold_the_questions_of_one_image_and_each_once() -> None:
    rng = np.random.default_rng(0)
    for prefix in (3, 60, 2000):
        sizes = rng.integers(1, 40, 30)
        first = np.cumsum(sizes) - sizes
        parts = [
            packing.Part(int(rng.integers(4)), np.arange(a, a + n), np.arange(a, a + n), prefix)
            for a, n in zip(first, sizes, strict=True)
        ]
        groups = packing.grouped(parts, prefix)
        assert sorted(at for group in groups for at in group) == list(range(30))
        assert all(len({parts[at].image for at in group}) == 1 for group in groups)
    assert len(groups) == 4, "behind a long prefix an image's questions stand together"


# ---- whole tasks on the embedded model ---------------------------------------------------------------------------

METHODS = (
    *("vgrefine", "vgrefine:apply=multiply,decode=on,rows=question", "vgrefine:row=text,general=head", "random-keep"),
    *("pai:start=1", "adaptvis:threshold=0.9,decode=on", "vicrop", "swap", "oracle", "centre", "invert"),
    *("blank", "noise", "no-image"),
)


@pytest.fixture(scope="module")
def groups(opened: Sessions) -> list[ImageGroup]:
    """Four images of unequal shape with one, two, three and four questions."""
    every = shown(opened.adapter, 20)
    return [replace(group, samples=group.samples[:count]) for count, group in enumerate(every, 1)]


def refine(opened: Sessions, *labels: str) -> Refine:
    samples = benchmark("phantom", limit=20).samples
    facts = Facts(opened.adapter.layers, opened.adapter.heads, ((2, 0), (2, 3), (1, 1), (3, 2)), (3,), 0)

    def partner(sample: Sample) -> Any:
        at = [one.id for one in samples].index(sample.id)
        return open_image(samples[(at + 7) % len(samples)].image)

    decoding = benchmark("phantom", limit=1).decoding
    return Refine(opened, {la: parse(la) for la in labels}, facts, decoding, mapping="exact", partner=partner)


def by_id(rows: Any) -> dict[tuple[str, str], Row]:
    return {(row["sample_id"], row.get("method", "")): row for row in rows}


def same(found: dict[tuple[str, str], Row], expected: dict[tuple[str, str], Row]) -> None:
    """Equal but for the last digits of numbers."""
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for column, value in row.items():
            if value is not None and column not in ("confidence", "insertion", "deletion", "triage", "first"):
                assert found[key][column] == value, (key, column)
        for column in ("confidence", "insertion", "deletion", "triage"):
            if row.get(column) is not None:
                assert np.allclose(found[key][column], row[column], rtol=1e-4, atol=1e-5), (key, column)


def test_every_methods_rows_are_the_same_for_four_images_together_and_each_alone(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    task = refine(opened, *METHODS)
    alone = [row for group in groups for row in task.run([group], None)]
    assert all(row["error"] is None for row in alone)
    same(by_id(task.run(groups, None)), by_id(alone))
    same(by_id(task.run(groups, 1)), by_id(alone))


def test_probed_rows_are_the_same_for_four_images_together_and_each_alone(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    task = Probe(opened, maps="heads", row="last", mapping="exact")
    alone = by_id(row for group in groups for row in task.run([group], None))
    together = by_id(task.run(groups, None))
    assert together.keys() == alone.keys()
    for key, row in alone.items():
        assert np.abs(together[key]["head_attention"] - row["head_attention"]).max() < 1e-5
        assert np.abs(together[key]["attention"] - row["attention"]).max() < 1e-5
        for column in ("layer_ratio", "layer_kl", "layer_js"):
            assert np.allclose(together[key][column], row[column], rtol=1e-3, atol=1e-4), column
        assert together[key]["region"] == row["region"]


# ---- what goes wrong in a batch ----------------------------------------------------------------------------------


def test_a_prompt_that_cannot_be_made_costs_its_own_row(opened: Sessions, groups: list[ImageGroup]) -> None:
    task = refine(opened, "vgrefine")
    bad = replace(groups[2].samples[1], id="bad", prompt="what is <image> here?")
    mixed = [*groups[:2], replace(groups[2], samples=(bad, *groups[2].samples)), groups[3]]
    found = by_id(task.run(mixed, None))
    said = {row["error"].split(":")[0] for (name, _), row in found.items() if name == "bad"}
    assert said == {"placeholder_in_question"}
    same({key: row for key, row in found.items() if key[0] != "bad"}, by_id(task.run(groups, None)))


@contextmanager
def replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@pytest.mark.parametrize("kind", ["refine", "probe"])
def test_numbers_that_are_not_finite_cost_the_rows_of_their_own_question(
    kind: str, opened: Sessions, groups: list[ImageGroup]
) -> None:
    """One question whose embeddings are NaN, and one image whose features are."""
    adapter = opened.adapter
    task: Any = refine(opened, "vgrefine", "pai") if kind == "refine" else Probe(
        opened, maps="layers", row="last", mapping="exact"
    )
    expected = by_id(task.run(groups, None))
    question, image = groups[3].samples[1], groups[1]
    tail = list(adapter.prompt(question.prompt).tail)
    continuation, featured = adapter.continuation, adapter.featured

    def broken(ids: torch.Tensor, rope: torch.Tensor) -> dict[str, Any]:
        made = continuation(ids, rope)
        line = ids[0].tolist()
        starts = [at for at in range(len(line)) if line[at : at + len(tail)] == tail]
        if kind == "refine" and starts and len(line) > len(tail):
            assert all(adapter.prompt(s.prompt).tail != tuple(tail) for g in groups[:3] for s in g.samples)
        for at in starts:
            made["inputs_embeds"][0, at : at + len(tail)] = torch.nan
        return made

    def blinded(scenes: Any) -> Any:
        made = featured(scenes)
        for vision in (vision for scene in made for vision in scene if vision.geometry is image.visions[0].geometry):
            vision.features[5:9] = torch.nan
        return made

    mine = {sample.id for group in groups for sample in group.samples if sample.prompt == question.prompt}
    lost = mine | {sample.id for sample in image.samples}
    with replaced(adapter, "featured", blinded), replaced(adapter, "continuation", broken):
        kind_of = attempt(task, groups, None, Limits())
    found = by_id(kind_of)
    assert found.keys() == expected.keys() and len(lost) < sum(len(group.samples) for group in groups)
    for key, row in found.items():
        said = row["error"] or row.get("warning") or ""
        assert said.startswith("not_finite") == (key[0] in lost), key
    if kind == "refine":
        kept = lambda rows: {key: row for key, row in rows.items() if key[0] not in lost}  # noqa: E731
        same(kept(found), kept(expected))


def test_out_of_memory_at_any_pass_gives_the_same_rows(opened: Sessions, groups: list[ImageGroup]) -> None:
    groups, task = groups[:3], refine(opened, "vgrefine", "swap")
    expected = by_id(task.run(groups, None))
    adapter, forward = opened.adapter, opened.adapter.forward
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise torch.OutOfMemoryError("no room")
        return forward(*args, **kwargs)

    fatal = 0
    with replaced(adapter, "forward", counted):
        task.run(groups, None)
        total = calls
        assert total > 5
        for fatal in {1, 2, *range(3, total, 3), total}:  # noqa: B007 (`counted` reads it)
            calls, limits = 0, Limits()
            same(by_id(attempt(task, groups, None, limits)), expected)
            assert limits.images == {groups[0].visions[0].tokens: 2}, "half of three images, and remembered"


def test_what_fits_no_device_fails_alone(opened: Sessions, groups: list[ImageGroup]) -> None:
    task = refine(opened, "vgrefine")
    huge = groups[2].samples[0]

    def run(some: Any, most: int | None) -> Any:
        if any(sample.id == huge.id for group in some for sample in group.samples):
            raise torch.OutOfMemoryError("no room")
        return task.run(some, most)

    class Small:
        def __getattr__(self, name: str) -> Any:
            return run if name == "run" else getattr(task, name)

    found = by_id(attempt(Small(), groups, None, Limits()))  # type: ignore[arg-type]
    expected = by_id(task.run(groups, None))
    failed = {key for key, row in found.items() if row["error"]}
    assert failed == {(huge.id, "baseline"), (huge.id, "vgrefine")}
    assert all(found[key]["error"].startswith("out_of_memory") for key in failed)
    same({k: r for k, r in found.items() if k not in failed}, {k: r for k, r in expected.items() if k not in failed})


def test_an_error_of_the_whole_batch_is_raised_by_the_task_and_settled_by_the_runner(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    task = refine(opened, "vgrefine")

    def short(scenes: Any) -> Any:
        return [[cut_short(vision) for vision in scene] for scene in featured(scenes)]

    def cut_short(vision: Any) -> Any:
        ours = vision.geometry is groups[1].visions[0].geometry
        return replace(vision, features=vision.features[:12]) if ours else vision

    expected, featured = by_id(task.run(groups, None)), opened.adapter.featured
    with replaced(opened.adapter, "featured", short):
        found = by_id(attempt(task, groups, None, Limits()))
    lost = {sample.id for sample in groups[1].samples}
    assert {key[0] for key, row in found.items() if row["error"]} == lost
    assert {row["error"] for row in found.values() if row["error"]} == {
        "grid_mismatch: 12 image tokens for a grid of 64"
    }
    same({k: r for k, r in found.items() if k[0] not in lost}, {k: r for k, r in expected.items() if k[0] not in lost})
