"""What an answer depends on, against whole prompts with explicit masks, one pass a number, nothing shared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import zoo
from tests.eager import eager
from tests.embedded import shown
from vgtool.attention.asks import Ask
from vgtool.attention.decode import Ending, decode
from vgtool.attention.engine import attach
from vgtool.attention.session import Session
from vgtool.attention.sharing import Sessions
from vgtool.attention.whole import WholeSession
from vgtool.benchmarks.load import load as benchmark
from vgtool.errors import VgError
from vgtool.methods.probe import Probe
from vgtool.methods.questions import Question
from vgtool.methods.reliance import Wanted, Windows, measured, rows_of, spoken
from vgtool.methods.task import ImageGroup
from vgtool.methods.witnesses import Asking, Witnesses
from vgtool.models.inputs import Prompt
from vgtool.records import Box, Decoding, ImageSource, Sample


@pytest.fixture(scope="module")
def groups(opened: Sessions) -> list[ImageGroup]:
    return shown(opened.adapter, 10)


def probed(opened: Sessions, groups: Sequence[ImageGroup], **asking: Any) -> list[dict[str, Any]]:
    decoding = benchmark("phantom", limit=1).decoding
    witnesses = Witnesses(opened, Asking(reliance=True, **asking), decoding)
    task = Probe(opened, maps="none", row="last", mapping="exact", witnesses=witnesses)
    return [dict(row) for row in task.run(groups, None)]


def test_reliance_of_a_probe_equals_an_eager_run_with_explicit_masks(
    opened: Sessions, groups: list[ImageGroup]
) -> None:
    rows = {row["sample_id"]: row for row in probed(opened, groups[:1], draws=2, seed=3)}
    adapter, image = opened.adapter, groups[0]
    every, windows = range(6), [range(at, at + 2) for at in (0, 1, 2, 3, 4)]  # a quarter of 6 layers, rounded: 2
    for sample in image.samples[:3]:
        row, prompt = rows[sample.id], adapter.prompt(sample.prompt)
        answer = tuple(adapter.tokenizer(row["answer"], add_special_tokens=False).input_ids)

        def p(hidden: Sequence[int], layers: Iterable[int], target: tuple[int, ...] = answer) -> float:
            return eager(adapter, image.visions, prompt, target, hidden, layers)  # noqa: B023

        region, plain = row["region"], p([], every)
        others = [token for token in range(64) if token not in region]
        assert row["log_probability"] == pytest.approx(plain, abs=1e-5)
        assert row["reliance"] == pytest.approx(plain - p(region, every), abs=1e-5)
        assert row["sufficiency"] == pytest.approx(p(others, every) - plain, abs=1e-5)
        assert row["reliance_curve"] == pytest.approx([plain - p(region, w) for w in windows], abs=1e-5)
        drawn = Windows.of(6, frozenset(every), None, 8, 2, 3).outside(sample, region, 64)
        assert all(len(set(one)) == len(region) and not set(one) & set(region) for one in drawn)
        assert row["reliance_random"] == pytest.approx(plain - np.mean([p(one, every) for one in drawn]), abs=1e-5)
        found = [plain - np.mean([p(one, w) for one in drawn]) for w in windows]
        assert row["reliance_random_curve"] == pytest.approx(found, abs=1e-5)
        right = tuple(adapter.tokenizer(spoken(sample), add_special_tokens=False).input_ids)
        assert row["reference_log_probability"] == pytest.approx(p([], every, right), abs=1e-5)
        change = p([], every, right) - p(region, every, right)
        assert row["reference_reliance"] == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize("name", ["mistral-window", "qwen2.5-vl", "gemma3-window", "internvl", "paligemma"])
def test_reliance_on_every_kind_of_attention_equals_eager(name: str) -> None:
    adapter = zoo.family(name)
    vision, head = zoo.vision(adapter), zoo.head()
    attach(adapter.model, adapter.text)
    tails, targets = zoo.tails(1, 9, 12), zoo.tails(2, 1, 3)
    questions = [Question(0, None, Prompt(head, tail)) for tail in tails]  # type: ignore[arg-type]
    with torch.inference_mode():
        session = (WholeSession if name == "paligemma" else Session)(adapter, [[vision]], head)
        count = vision.tokens
        region, drawn = [1, 2, 4], [[0, 3, 5]]
        wanted = [Wanted(q, t, region, drawn, count) for q, t in zip(questions, targets, strict=True)]
        windows = Windows.of(4, frozenset(range(4)), 2, 2)
        rows = measured(session, wanted, windows, 1)
    for row, question, target in zip(rows, questions, targets, strict=True):
        plain, gone, some = (
            eager(adapter, [vision], question.prompt, target, hidden, layers)
            for hidden, layers in (([], ()), (region, range(4)), (drawn[0], (2, 3)))
        )
        assert row["log_probability"] == pytest.approx(plain, abs=1e-5)
        assert row["reliance"] == pytest.approx(plain - gone, abs=1e-5)
        assert row["reliance_random_curve"][1] == pytest.approx(plain - some, abs=1e-5)


@pytest.mark.parametrize("kind", [Session, WholeSession])
def test_reliance_in_a_prompt_of_two_images_is_on_the_first_and_sufficiency_without_the_second(kind: type) -> None:
    adapter = zoo.family("llama")
    visions, head, (tail,) = [zoo.vision(adapter, seed) for seed in (0, 1)], zoo.head(), zoo.tails(1, 9)
    attach(adapter.model, adapter.text)
    question = Question(0, None, Prompt(head, tail))  # type: ignore[arg-type]
    region, target = [1, 2, 4], (30, 41)
    with torch.inference_mode():
        session = kind(adapter, [visions], head)
        windows = Windows.of(4, frozenset(range(4)), 2, 1)
        (row,) = measured(session, [Wanted(question, target, region, [[0, 3, 5]], 72)], windows, 1)
    others = [token for token in range(72) if token not in region]
    plain, gone, alone = (
        eager(adapter, visions, question.prompt, target, hidden, range(4)) for hidden in ([], region, others)
    )
    assert row["reliance"] == pytest.approx(plain - gone, abs=1e-5)
    assert row["sufficiency"] == pytest.approx(alone - plain, abs=1e-5) and abs(alone - plain) > 1e-3


@pytest.mark.parametrize("name", ["llama", "qwen2.5-vl", "gemma3-window", "paligemma"])
def test_an_answer_that_was_decoded_is_not_asked_again_and_measured_as_if_it_were(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = zoo.family(name)
    vision, head, tails = zoo.vision(adapter), zoo.head(), zoo.tails(1, 9, 12, 5)
    attach(adapter.model, adapter.text)
    questions = [Question(0, None, Prompt(head, tail)) for tail in tails]  # type: ignore[arg-type]
    windows = Windows.of(4, frozenset(range(4)), 2, 3)
    ending = Ending(SimpleNamespace(decode=lambda ids, **how: str(ids)), frozenset(), 4)
    with torch.inference_mode():
        session = (WholeSession if name == "paligemma" else Session)(adapter, [[vision]], head)
        state = session.state([session.ask([Ask(tail) for tail in tails], keep=windows.keep)], windows.keep)
        found = decode(state, ending, {2: (), 0: ()}, likely=True)  # another order, and not all
        given = state.answered(found)
        wanted = [Wanted(questions[row], found[row].tokens, [1, 2, 4], [[0, 3, 5]], vision.tokens) for row in found]
        again = measured(session, wanted, windows, 1)
        monkeypatch.setattr(type(session), "ask", None)
        once = measured(session, [replace(one, given=at) for at, one in enumerate(wanted)], windows, 1, given)
    for at, (row, other) in enumerate(zip(once, again, strict=True)):
        for key, value in row.items():
            assert value == pytest.approx(other[key], abs=2e-5), key
        plain, gone = (
            eager(adapter, [vision], wanted[at].question.prompt, wanted[at].target, hidden, (1, 2))
            for hidden in ([], [1, 2, 4])
        )
        assert row["log_probability"] == pytest.approx(plain, abs=1e-5)
        assert row["reliance_curve"][1] == pytest.approx(plain - gone, abs=2e-5)


def asked(opened: Sessions, image: ImageGroup, region: Sequence[int], sample: Sample, own: tuple[int, ...]) -> Any:
    """The columns of one question with a region and an answer of one's own choosing."""
    adapter = opened.adapter
    prompt = adapter.prompt(sample.prompt)
    with torch.inference_mode():
        session = opened.open([image.visions], prompt.head)
        windows = Windows.of(6, frozenset(range(6)), None, 2)
        answers: Mapping[int, tuple[str, tuple[int, ...]]] = {0: ("", own)}
        return rows_of(session, [Question(0, sample, prompt)], {0: region}, answers, windows, (64, 64))[0]


def test_an_empty_region_has_no_reliance(opened: Sessions, groups: list[ImageGroup]) -> None:
    sample = replace(groups[0].samples[0], boxes=(Box(0, 0, 1, 1),))
    row = asked(opened, groups[0], [], sample, (9, 12))
    assert abs(row["reliance"]) < 1e-6 and abs(row["reliance_random"]) < 1e-6
    assert all(abs(value) < 1e-6 for value in (*row["reliance_curve"], *row["reliance_random_curve"]))
    assert row["sufficiency"] < -1e-3, "nothing of the image is visible"


def test_what_cannot_be_measured_is_named(opened: Sessions, groups: list[ImageGroup]) -> None:
    sample = groups[0].samples[0]
    row = asked(opened, groups[0], [], replace(sample, boxes=(), mask=None), (9,))
    assert row["unmeasured"].startswith("no_region:") and "reliance" not in row
    row = asked(opened, groups[0], [1, 2], sample, ())
    assert row["unmeasured"].startswith("no_answer:")
    assert "reliance" not in row and row["reference_reliance"] is not None
    row = asked(opened, groups[0], list(range(40)), sample, (9,))
    assert row["unmeasured"].startswith("few_outside:")
    assert row["reliance"] is not None and row["reliance_random"] is None


def test_windows_slide_from_the_first_layer_to_the_last() -> None:
    every = frozenset(range(28))
    assert Windows.of(28, every, None, 8).starts == [0, 3, 6, 9, 12, 15, 18, 21]
    assert Windows.of(28, every, None, 8).width == 7
    assert Windows.of(28, every, 7, 1).starts == [10]
    assert Windows.of(2, frozenset({0, 1}), None, 8).starts == [0, 1]
    with pytest.raises(VgError, match="--window 29 is more than the model's 28 layers"):
        Windows.of(28, every, 29, 8)


def test_layers_that_cannot_be_edited_are_named_and_left_alone() -> None:
    windows = Windows.of(4, frozenset({3}), 1, 4)
    assert windows.places == [{3}, frozenset(), frozenset(), frozenset(), {3}]
    assert "layers 0, 1, 2 unedited" in windows.notes[0] and "3 windows" in windows.notes[0]


def test_a_choice_is_spoken_as_its_letter_and_of_several_references_the_first() -> None:
    source = ImageSource("a", bytes)
    choice = Sample("a", "a", source, "?", "?", "medical", "", "choice", "liver", ("heart", "liver"))
    assert spoken(choice) == "B"
    assert spoken(replace(choice, question_type="open", reference='["left lung", "lung"]')) == "left lung"


def test_a_model_that_reasons_first_is_refused(opened: Sessions) -> None:
    spec = opened.adapter.spec.model_copy(update={"thinking": SimpleNamespace(opens="<answer>")})
    adapter = replace(opened.adapter, spec=spec)
    with pytest.raises(VgError, match="reasons before it answers"):
        Witnesses(replace(opened, adapter=adapter), Asking(reliance=True), Decoding())
