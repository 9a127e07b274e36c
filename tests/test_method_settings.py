"""What each parameter of a method changes, against whole-prompt eager attention: one switched off is noticed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import reference
from tests.eager import KNOCKOUT, RANKED, Eager, refined
from vgtool.attention import decode
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.methods.answers import filled, seen
from vgtool.methods.base import Facts
from vgtool.methods.parse import known, parse
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup
from vgtool.models.inputs import Prompt
from vgtool.records import Sample

Weights = list[torch.Tensor]


def whole(
    eager: Eager, text: str, edit: Callable[[Sequence[int], list[int]], Any] | None = None, at: str = "scores",
    layers: Sequence[int] = (KNOCKOUT,),
) -> tuple[float, Weights, list[int], list[int]]:  # fmt: skip
    """Largest first-token probability, weights per layer [H, L, L], the prompt's rows after the image, and the image's
    columns. `edit`: from those rows and columns; `at`: on scores or on weights."""
    prompt = eager.adapter.prompt(text)
    with torch.inference_mode():
        inputs = eager.adapter.inputs(eager.group.visions, prompt.head, prompt.tail)
    columns = inputs.columns[0].tolist()
    after = list(range(inputs.length - len(prompt.tail), inputs.length))
    edits = {layer: edit(after, columns) for layer in layers} if edit else {}
    logits, weights = reference.forward(eager.adapter.model, inputs.kwargs, reference.Watch(**{at: edits}))
    return float(logits[-1].softmax(-1).max()), weights, after, columns


def hidden(row: dict[str, Any]) -> list[int]:
    return sorted(set(range(len(row["triage"]))) - set(row["kept"]))


def asked(eager: Eager, sample: Sample) -> slice:
    return slice(*eager.adapter.prompt(sample.prompt).question)


CHANGES: dict[str, Callable[[Eager, Sample, dict[str, Any]], float]] = {
    "vgrefine:rows=last": lambda e, s, row: whole(
        e, s.prompt, lambda after, image: reference.cut(after[-1:], [image[t] for t in hidden(row)])
    )[0],
    "vgrefine:rows=question": lambda e, s, row: whole(
        e, s.prompt, lambda after, image: reference.cut(after[asked(e, s)], [image[t] for t in hidden(row)])
    )[0],
    "vgrefine:apply=multiply": lambda e, s, row: whole(
        e, s.prompt, lambda after, image: reference.dropped(after, [image[t] for t in hidden(row)]), "weights"
    )[0],
    "vgrefine:layers=1+2": lambda e, s, row: whole(
        e, s.prompt, lambda after, image: reference.cut(after, [image[t] for t in hidden(row)]), layers=(1, 2)
    )[0],
}


@pytest.mark.parametrize("label", CHANGES)
def test_a_parameter_of_the_knockout_does_what_eager_attention_does(
    label: str, opened: Sessions, groups: list[ImageGroup]
) -> None:
    rows = refined(opened, groups[:2], label, "vgrefine")
    told = []
    for group in groups[:2]:
        eager = Eager(opened, group)
        for sample in group.samples:
            row = rows[sample.id, label]
            assert row["confidence"] == pytest.approx(CHANGES[label](eager, sample, row), abs=1e-5)
            assert row["kept"] == rows[sample.id, "vgrefine"]["kept"]
            told.append(abs(row["confidence"] - rows[sample.id, "vgrefine"]["confidence"]))
    assert max(told) > 1e-4, "the parameter changes something here"


@pytest.mark.parametrize("which", ["question", "text"])
def test_the_row_that_is_read_is_the_mean_of_eagers_rows(
    which: str, opened: Sessions, groups: list[ImageGroup]
) -> None:
    label = f"vgrefine:row={which}"
    rows = refined(opened, groups[:1], label, "vgrefine")
    eager = Eager(opened, groups[0])
    general_prompt = eager.adapter.prompt(GENERAL_PROMPT)
    _, general, after_general, image = whole(eager, GENERAL_PROMPT)
    spans = {"question": slice(*general_prompt.question), "text": slice(None)}
    for sample in groups[0].samples:
        _, weights, after, columns = whole(eager, sample.prompt)
        mine = after[asked(eager, sample)] if which == "question" else after
        below = {la: general[la][:, after_general[spans[which]]].mean((0, 1))[image] for la, _ in RANKED}
        maps = [weights[la][he, mine].mean(0)[columns] / (below[la] + 1e-10) for la, he in RANKED]
        triage = torch.stack(maps).mean(0).numpy()
        assert np.allclose(rows[sample.id, label]["triage"], triage, rtol=1e-3)
        assert not np.allclose(rows[sample.id, "vgrefine"]["triage"], triage, rtol=1e-2)


def test_a_knockout_held_while_decoding_is_asked_for(opened: Sessions, groups: list[ImageGroup]) -> None:
    for text, held in (("vgrefine", False), ("vgrefine:decode=on", True)):
        facts = Facts(opened.adapter.layers, opened.adapter.heads, RANKED, (KNOCKOUT,), 0)
        assert parse(text).settings(facts)["decode"] is held  # type: ignore[attr-defined]


def test_pai_guides_every_token_by_the_prompt_without_its_image(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    """Guidance so strong that it decides: the answers are those of eager passes with and without the image."""
    label = "pai:alpha=0,gamma=9"
    rows = refined(opened, groups, label)
    changed = 0
    for group in groups:
        for sample in group.samples:
            text, _ = Eager(opened, group).answer(sample.prompt, None, 9.0)
            assert rows[sample.id, label]["answer"] == text
            changed += rows[sample.id, "baseline"]["answer"] != text
    assert changed, "guidance changes an answer here"


def test_random_heads_are_drawn_from_the_whole_model_and_by_the_seed() -> None:
    facts = Facts(32, 32, (), (16,), 0)
    drawn = [parse("random-heads").heads(replace(facts, seed=seed)) for seed in range(6)]  # type: ignore[attr-defined]
    assert len({tuple(pairs) for pairs in drawn}) == 6 and all(len(set(pairs)) == 20 for pairs in drawn)
    assert parse("random-heads").heads(facts) == drawn[0], "and by nothing else"  # type: ignore[attr-defined]
    layers = {layer for pairs in drawn for layer, _ in pairs}
    heads = {head for pairs in drawn for _, head in pairs}
    assert len(layers) > 24 and len(heads) > 24, "not the first ones"
    without = parse("random-heads").heads(replace(facts, without=frozenset(range(31))))  # type: ignore[attr-defined]
    assert {layer for layer, _ in without} == {31}, "a layer without attention has no heads to draw"


def test_swap_keeps_what_the_question_keeps_on_the_other_image(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    """Each question's partner is the next picture: its kept tokens are those of an eager triage there."""
    shown = [group.images[0] for group in groups]
    place = {sample.id: at for at, group in enumerate(groups) for sample in group.samples}
    facts = Facts(opened.adapter.layers, opened.adapter.heads, RANKED, (KNOCKOUT,), 0)
    decoding = benchmark("phantom", limit=1).decoding

    def partner(sample: Sample) -> Any:
        return shown[(place[sample.id] + 1) % len(shown)]

    methods = {label: parse(label) for label in ("swap", "vgrefine")}
    task = Refine(opened, methods, facts, decoding, mapping="exact", partner=partner)
    differ = 0
    for at, group in enumerate(groups[:2]):
        rows = {(row["sample_id"], row["method"]): row for row in task.run([group], None)}
        other = Eager(opened, groups[(at + 1) % len(groups)])
        below = other.forward(GENERAL_PROMPT)[1]
        for sample in group.samples:
            above = other.forward(sample.prompt)[1]
            triage = np.mean([above[la][he] / (below[la].mean(0) + 1e-10) for la, he in RANKED], 0)
            expected = np.flatnonzero(~(triage < np.percentile(triage, 50))).tolist()
            assert rows[sample.id, "swap"]["kept"] == expected
            differ += rows[sample.id, "vgrefine"]["kept"] != expected
    assert differ, "the other picture's mask is another one"


def test_a_repetition_penalty_sees_the_prompt_with_its_image_where_the_models_own_code_hands_it_over() -> None:
    def ids(image: int | None = 5, penalises: bool = True, penalty: float = 1.3, blind: bool = False) -> Any:
        adapter: Any = SimpleNamespace(image_token=image, penalises_prompt=penalises)
        return seen(adapter, Prompt((1, 2), (3,)), decode.Ending(None, frozenset(), 1, penalty=penalty), blind)  # type: ignore[arg-type]

    assert ids() == (1, 2, 5, 3), "generate: its image token once"
    assert ids(image=None) == ids(blind=True) == (1, 2, 3)
    assert ids(penalises=False) == ids(penalty=1.0) == ()


def test_every_parameter_of_every_method_says_what_it_is() -> None:
    for name, method in known().items():
        assert [one.name for one in fields(method) if not one.metadata.get("help")] == [], name


def test_lists_are_filled_up_to_what_they_may_hold() -> None:
    assert [*filled([2, 2, 2, 2, 2], abs, 4)] == [[2, 2], [2, 2], [2]]
    assert [*filled([5, 1, 3, 1], abs, 4)] == [[5], [1, 3], [1]]


def test_a_repetition_penalty_multiplies_scores_below_zero_and_divides_the_others() -> None:
    """1.5 by hand: 2 -> 4/3, -2 -> -3, and what was not there stays."""
    steps = SimpleNamespace(logits=torch.tensor([[2.0, -2.0, 1.4, -2.5]]))
    tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: " ".join(map(str, ids)))
    ending = decode.Ending(tokenizer, frozenset(), 1, penalty=1.5)
    assert decode.decode(steps, ending, {0: [0, 1]})[0].tokens == (2,)  # type: ignore[arg-type]
    steps.logits = torch.tensor([[-9.0, -2.0, -9.0, -2.5]])
    assert decode.decode(steps, ending, {0: [0, 1]})[0].tokens == (3,), "-2 x 1.5 is below -2.5"  # type: ignore[arg-type]
    assert math.isclose(float(decode._penalised(torch.tensor(-2.0), 1.5)), -3.0)
