"""The session's rows, logits and answers against full-matrix eager attention, for every text family."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from tests import reference, zoo
from tests.scene import LAYERS, FakeTokenizer, Scene
from vgtool.attention import decode, edits, session
from vgtool.attention.asks import Ask, Change, Rows
from vgtool.attention.engine import Tap, tapped
from vgtool.attention.sinks import Redistribute
from vgtool.attention.tilt import Tilt
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse

SHARED = zoo.FAMILIES
ALL = (*zoo.FAMILIES, "paligemma")


@pytest.mark.parametrize("name", ALL)
def test_rows_equal_eager_attention_rows(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    for index in range(3):
        inputs, columns, _ = scene.full(index)
        logits, weights = reference.forward(scene.adapter.model, inputs.kwargs)
        for layer in LAYERS:
            expected = weights[layer][:, -1][:, columns]
            assert (asked.maps[layer][index] - expected).abs().max() < (1e-6 if layer == 0 else 1e-5)
        assert (asked.logits[index] - logits[-1]).abs().max() < 5e-5


@pytest.mark.parametrize("rows,cols", [(3, 9), (8, 2), (5, 5)])
def test_rows_equal_eager_on_wide_tall_and_square_grids(rows: int, cols: int) -> None:
    scene = Scene("qwen2.5-vl", rows=rows, cols=cols)
    asked = scene.ask()
    inputs, columns, _ = scene.full(1)
    _, weights = reference.forward(scene.adapter.model, inputs.kwargs)
    assert (asked.maps[3][1] - weights[3][:, -1][:, columns]).abs().max() < 1e-5


def test_several_rows_of_a_question_are_averaged() -> None:
    scene = Scene("qwen2")
    asked = scene.ask(read="question", question=(2, 5))
    inputs, columns, rows = scene.full(0)
    _, weights = reference.forward(scene.adapter.model, inputs.kwargs)
    expected = torch.stack([weights[2][:, rows[i]][:, columns] for i in (2, 3, 4)]).mean(0)
    assert (asked.maps[2][0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", ALL)
def test_reading_rows_leaves_every_logit_bit_identical(name: str) -> None:
    scene = Scene(name)
    inputs, columns, _ = scene.full(0)
    model = scene.adapter.model
    with torch.inference_mode():
        plain = model(**inputs.kwargs).logits
        with tapped(Tap(columns, LAYERS, [inputs.length - 1])) as tap:
            read = model(**inputs.kwargs).logits
        model.set_attn_implementation({"text_config": "sdpa"})
        sdpa = model(**inputs.kwargs).logits
    assert set(tap.maps) == LAYERS
    assert torch.equal(plain, read)
    assert torch.equal(plain, sdpa)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("layers", [(2,), (1, 3)])
def test_knocked_out_logits_equal_eager_with_the_models_own_mask_plus_the_cut(name: str, layers) -> None:  # type: ignore[no-untyped-def]
    scene = Scene(name)
    asked = scene.ask()
    count = scene.vision.tokens
    gone = [torch.randperm(count, generator=torch.Generator().manual_seed(q))[: count // 2] for q in range(3)]
    masks = [torch.zeros(count, dtype=torch.bool).index_fill(0, index, True) for index in gone]
    with torch.inference_mode():
        changes = [Change(index=q, layers=frozenset(layers), cut=masks[q]) for q in range(3)]
        knocked = scene.session.rerun(asked, changes, LAYERS)
    for index in range(3):
        inputs, columns, rows = scene.full(index)
        watch = reference.Watch({layer: reference.cut(rows, columns[gone[index]].tolist()) for layer in layers})
        logits, weights = reference.forward(scene.adapter.model, inputs.kwargs, watch)
        assert (knocked.logits[index] - logits[-1]).abs().max() < 5e-5
        assert (knocked.logits[index] - asked.logits[index]).abs().max() > 1e-3  # the cut matters
        for layer in range(min(layers), 4):
            expected = weights[layer][:, -1][:, columns]
            assert (knocked.maps[layer][index] - expected).abs().max() < 1e-5
        assert (knocked.maps[layers[0]][index][:, gone[index]] == 0).all()


@pytest.mark.parametrize("rows", ["question", "last"])
def test_a_cut_can_spare_rows(rows: str) -> None:
    scene = Scene("llama")
    asked = scene.ask(question=(1, 4))
    mask = torch.arange(scene.vision.tokens) % 2 == 0
    with torch.inference_mode():
        knocked = scene.session.rerun(asked, [Change(index=1, layers=frozenset({2}), cut=mask, rows=rows)])
    inputs, columns, after = scene.full(1)
    cut_rows = [after[-1]] if rows == "last" else [after[i] for i in (1, 2, 3)]
    watch = reference.Watch({2: reference.cut(cut_rows, columns[mask].tolist())})
    logits, _ = reference.forward(scene.adapter.model, inputs.kwargs, watch)
    assert (knocked.logits[0] - logits[-1]).abs().max() < 5e-5


@pytest.mark.parametrize("name", ["llama", "gemma3-window", "paligemma"])
def test_a_multiplied_mask_zeroes_weights_without_renormalising(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    mask = torch.arange(scene.vision.tokens) % 3 == 0
    with torch.inference_mode():
        changed = scene.session.rerun(asked, [Change(index=0, layers=frozenset({1, 2}), cut=mask, renormalise=False)])
    inputs, columns, rows = scene.full(0)
    edit = reference.dropped(rows, columns[mask].tolist())
    logits, _ = reference.forward(scene.adapter.model, inputs.kwargs, reference.Watch(weights={1: edit, 2: edit}))
    assert (changed.logits[0] - logits[-1]).abs().max() < 5e-5


@pytest.mark.parametrize("name", ALL)
def test_rescored_logits_equal_eager_with_rescored_last_row(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()

    def louder(scores: torch.Tensor) -> torch.Tensor:
        return scores + 0.5 * scores.abs()

    with torch.inference_mode():
        changed = scene.session.rerun(asked, [Change(index=2, layers=LAYERS - {0}, rescore=louder, rows="last")])
    inputs, columns, _ = scene.full(2)
    edit = reference.last_row(columns.tolist(), louder)
    logits, _ = reference.forward(scene.adapter.model, inputs.kwargs, reference.Watch({1: edit, 2: edit, 3: edit}))
    assert (changed.logits[0] - logits[-1]).abs().max() < 5e-5
    assert (changed.logits[0] - asked.logits[2]).abs().max() > 1e-3


@pytest.mark.parametrize("name", SHARED)
def test_knocking_out_nothing_changes_nothing_bit_for_bit(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    nothing = torch.zeros(scene.vision.tokens, dtype=torch.bool)
    with torch.inference_mode():
        again = scene.session.rerun(asked, [Change(index=q, layers=frozenset({2}), cut=nothing) for q in range(3)])
    assert torch.equal(again.logits, asked.logits)


@pytest.mark.parametrize("name", ALL)
def test_knocking_out_every_image_token_zeroes_the_image_share(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    with torch.inference_mode():
        every = torch.ones(scene.vision.tokens, dtype=torch.bool)
        knocked = scene.session.rerun(asked, [Change(index=0, layers=frozenset({3}), cut=every)], LAYERS)
    assert (knocked.maps[3] == 0).all()
    assert torch.isfinite(knocked.logits).all()


@pytest.mark.parametrize("name", ALL)
def test_packed_greedy_tokens_equal_generate_on_each_prompt(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    ending = decode.Ending(FakeTokenizer(), frozenset({2}), 6)
    with torch.inference_mode():
        answers = decode.decode(scene.session.state([asked]), ending, {q: () for q in range(3)})
    for index in range(3):
        assert answers[index].tokens == generated(scene, index, 6)


@pytest.mark.parametrize("name", ["llama", "qwen2.5-vl", "gemma3-window"])
def test_repetition_penalty_gives_generates_tokens(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    ending = decode.Ending(FakeTokenizer(), frozenset({2}), 8, penalty=1.3)
    with torch.inference_mode():
        prompts = {q: (*scene.head, zoo.IMAGE_ID, *scene.tails[q]) for q in range(3)}
        answers = decode.decode(scene.session.state([asked]), ending, prompts)
    for index in range(3):
        assert answers[index].tokens == generated(scene, index, 8, repetition_penalty=1.3)


@pytest.mark.parametrize("least", [0, 1, 3])
def test_no_answer_ends_before_its_least_length_as_in_generate(least: int) -> None:
    """What would end it, its own first token, is held back until then."""
    scene = Scene("llama")
    first = [generated(scene, index, 1)[0] for index in range(3)]
    for index, end in enumerate(first):
        ending = decode.Ending(FakeTokenizer(), frozenset({end}), 8, min_new_tokens=least, held=frozenset({end}))
        with torch.inference_mode():
            found = decode.decode(scene.session.state([scene.ask()]), ending, {index: ()})[index].tokens
        assert found == generated(scene, index, 8, end, min_new_tokens=least) and (len(found) >= least)


@pytest.mark.parametrize("name", ALL)
def test_baseline_and_knocked_out_answers_decode_in_one_pack(name: str) -> None:
    """Tokens after the prefill see everything: continue the knocked-out reference by whole prompts, cut rows only."""
    scene = Scene(name)
    asked = scene.ask()
    mask = torch.arange(scene.vision.tokens) % 2 == 0
    ending = decode.Ending(FakeTokenizer(), frozenset(), 4)
    with torch.inference_mode():
        knocked = scene.session.rerun(asked, [Change(index=q, layers=frozenset({1}), cut=mask) for q in (2, 0)])
        answers = decode.decode(scene.session.state([asked, knocked]), ending, {q: () for q in (0, 1, 2, 3, 4)})
    for row, index, edited in ((0, 0, False), (1, 1, False), (2, 2, False), (3, 2, True), (4, 0, True)):
        _, columns, rows = scene.full(index)
        edits = {1: reference.cut(rows, columns[mask].tolist())} if edited else {}
        assert answers[row].tokens == continued(scene, index, edits, 4)


@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen3-vl", "paligemma"])
def test_an_edit_held_while_decoding_touches_the_generated_rows(name: str) -> None:
    scene = Scene(name)
    asked = scene.ask()
    mask = torch.arange(scene.vision.tokens) % 2 == 0
    ending = decode.Ending(FakeTokenizer(), frozenset(), 5)
    with torch.inference_mode():
        knocked = scene.session.rerun(asked, [Change(index=1, layers=frozenset({1, 2}), cut=mask, decode=True)])
        answers = decode.decode(scene.session.state([knocked]), ending, {0: ()})
    _, columns, rows = scene.full(1)
    edit = reference.cut(range(rows[0], rows[-1] + 5), columns[mask].tolist())
    assert answers[0].tokens == continued(scene, 1, {1: edit, 2: edit}, 5, growing=True)


@pytest.mark.parametrize("name", ["llama", "qwen2.5-vl", "gemma3", "mistral-window"])
def test_a_blind_question_equals_the_prompt_without_its_image(name: str) -> None:
    scene = Scene(name)
    with torch.inference_mode():
        asked = scene.session.ask([Ask(scene.tails[0]), Ask(scene.tails[1], blind=True)])
        ids = torch.tensor([[*scene.head, *scene.tails[1]]])
        expected = scene.adapter.model(input_ids=ids).logits[0, -1]
        answers = decode.decode(scene.session.state([asked]), decode.Ending(FakeTokenizer(), frozenset(), 4), {1: ()})
        out = scene.adapter.model.generate(input_ids=ids, max_new_tokens=4, do_sample=False, eos_token_id=None)
    assert (asked.logits[1] - expected).abs().max() < 5e-5
    assert answers[1].tokens == tuple(out[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("name", ["llama", "gemma3-window"])
def test_left_padded_batches_read_the_same_rows_as_singles(name: str) -> None:
    scene = Scene(name)
    singles = scene.ask()
    with torch.inference_mode():
        inputs = [scene.adapter.inputs([scene.vision], scene.head, tail) for tail in scene.tails]
        longest = max(one.length for one in inputs)
        pads = [longest - one.length for one in inputs]
        kwargs = {
            "input_ids": torch.cat(
                [torch.nn.functional.pad(i.kwargs["input_ids"], (p, 0)) for i, p in zip(inputs, pads, strict=True)]
            ),
            "attention_mask": torch.stack([torch.arange(longest) >= pad for pad in pads]).long(),
            "position_ids": torch.stack([(torch.arange(longest) - pad).clamp(min=0) for pad in pads]),
            "pixel_values": torch.cat([i.kwargs["pixel_values"] for i in inputs]),
        }
        if "token_type_ids" in inputs[0].kwargs:
            kwargs["token_type_ids"] = (kwargs["input_ids"] == zoo.IMAGE_ID).long()
        columns = torch.stack([i.columns[0] + p for i, p in zip(inputs, pads, strict=True)])
        with tapped(Tap(columns, LAYERS, [at * longest + longest - 1 for at in range(len(inputs))])) as tap:
            logits = scene.adapter.model(**kwargs).logits[:, -1]
    assert (logits - singles.logits).abs().max() < 5e-5
    for layer in LAYERS:
        assert (tap.maps[layer] - singles.maps[layer]).abs().max() < 1e-5


def test_guided_scores_follow_the_formula() -> None:
    own, partner = torch.tensor([2.0, 1.0, -3.0]), torch.tensor([0.0, 1.5, 1.0])
    p, q = own.log_softmax(0), partner.log_softmax(0)
    out = decode.guided(own, partner, decode.Guide(0, 1.1))
    assert torch.allclose(out[:2], (1.1 * (p - q) + q)[:2])
    assert out[2] == -torch.inf  # exp(-5) of the likeliest is below a tenth


def test_an_answer_ends_at_its_stop_string() -> None:
    scene = Scene("llama")
    free = decode.Ending(FakeTokenizer(), frozenset(), 5)
    with torch.inference_mode():
        first = decode.decode(scene.session.state([scene.ask()]), free, {0: ()})[0]
        marker = f"{first.tokens[1]} {first.tokens[2]}"
        stop = decode.Ending(FakeTokenizer(), frozenset(), 5, (marker,))
        ended = decode.decode(scene.session.state([scene.ask()]), stop, {0: ()})[0]
    assert len(first.tokens) == 5
    assert marker in free.text(ended.tokens) and marker not in free.text(ended.tokens[:-1])
    assert ended.text == free.text(ended.tokens).split(marker)[0].strip()


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("read,count", [("last", 3), ("question", 15)])
def test_the_last_layer_works_out_the_rows_that_are_wanted_alone(name: str, read: Rows, count: int) -> None:
    """The last row of each question, or all from the first that is read there."""
    scene, seen = Scene(name, (30, 40, 20)), []
    last = scene.adapter.text.layers[3].mlp  # type: ignore[index,union-attr]
    with torch.inference_mode():
        asks = [Ask(tail, (len(tail) - 5, len(tail) - 3), read) for tail in scene.tails]
        handle = last.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))  # type: ignore[operator,union-attr]
        asked = scene.session.ask(asks, LAYERS, LAYERS)
        handle.remove()
    assert seen == [count]
    assert asked.cache[3][0].shape[2] == 90, "keys and values of every row are there"
    for index, ask in enumerate(asks):
        inputs, columns, rows = scene.full(index)
        logits, weights = reference.forward(scene.adapter.model, inputs.kwargs)
        read_rows = [rows[row] for row in ask.rows(read)]
        expected = weights[3][:, read_rows][:, :, columns].mean(1)
        assert (asked.maps[3][index] - expected).abs().max() < 1e-5
        assert (asked.logits[index] - logits[-1]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_the_last_layer_alone_for_wanted_rows_keeps_targets_sinks_and_tilts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the same passes with all rows in the last layer."""
    scene, target, every = Scene(name, (30, 40, 20)), (7, 9, 11), frozenset({2, 3})
    asks = [Ask(tail, (len(tail) - 5, len(tail) - 3)).answered(target) for tail in scene.tails]
    sinking, plain = Redistribute(1.5, None, 1.0, 0.0, 0.3), [Ask(ask.tail[:-2]) for ask in asks]
    changes = [
        [Change(every, reweigh=sinking, index=at, rows=rows) for at in range(3)]
        for rows in ("last", "text")  # type: ignore[misc]
    ]
    tilting = [Change(every, tilt=Tilt(-1.0, 0), index=at, rows="last") for at in range(3)]

    def results() -> list[torch.Tensor]:
        found = []
        with torch.inference_mode():
            scored, asked = scene.session.ask(asks, LAYERS), scene.session.ask(plain, LAYERS, LAYERS)
            found += [scored.likelihood, scored.logits, scored.maps[3], asked.logits]
            for some in (*changes, tilting):
                edited = scene.session.rerun(asked, some, LAYERS)
                found += [edited.logits, edited.maps[3], *(one[3] for one in edited.sinks.values())]
        return found

    narrow, seen = results(), list[str]()
    monkeypatch.setattr(session, "narrowed", lambda *args: seen.append("narrowed") or nullcontext())
    for found, expected in zip(narrow, results(), strict=True):
        assert (found.double() - expected.double()).abs().max() < 1e-5
    assert len(seen) == 4, "all but the tilted pass"
    assert not torch.allclose(narrow[3], narrow[4]), "the edit is one"


def generated(scene: Scene, index: int, count: int, end: int = 2, **kwargs: float) -> tuple[int, ...]:
    """model.generate of the whole prompt, up to eos."""
    inputs, _, _ = scene.full(index)
    given = {k: v for k, v in inputs.kwargs.items() if k != "position_ids"}
    with torch.inference_mode():
        out = scene.adapter.model.generate(**given, max_new_tokens=count, do_sample=False, eos_token_id=end, **kwargs)
    tokens = out[0, inputs.length :].tolist()
    return tuple(tokens[: tokens.index(end)] if end in tokens else tokens)


def continued(scene: Scene, index: int, edits, count: int, growing: bool = False) -> tuple[int, ...]:  # type: ignore[no-untyped-def]
    """Greedy tokens by a whole eager pass per token; the edited rows stay the prompt's unless `growing`."""
    made: list[int] = []
    for _ in range(count):
        tail = (*scene.tails[index], *made)
        with torch.inference_mode():
            inputs = scene.adapter.inputs([scene.vision], scene.head, tail)
        if scene.adapter.extra.get("types") == "prefix":  # generated tokens are causal, not part of the prefix
            types = torch.zeros(1, inputs.length, dtype=torch.long)
            types[:, inputs.length - len(made) :] = 1 if made else 0
            inputs.kwargs["token_type_ids"] = types  # type: ignore[index]
        present = {layer: _clipped(edit, inputs.length) for layer, edit in edits.items()} if growing else edits
        logits, _ = reference.forward(scene.adapter.model, inputs.kwargs, reference.Watch(present))
        made.append(int(logits[-1].argmax()))
    return tuple(made)


def _clipped(edit: reference.ScoreEdit, length: int) -> reference.ScoreEdit:
    """The edit on scores padded to the rows it expects, cut back to `length`."""

    def clipped(scores: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(scores, (0, 0, 0, 8))
        return edit(padded)[:, :, :length]

    return clipped


class One(SimpleNamespace):
    """Stands in for the scenes of one question."""

    def __len__(self) -> int:
        return 1


def test_changes_that_differ_only_in_rows_and_tokens_are_one_edit() -> None:
    def cutting(*tokens: int) -> Change:
        return Change(frozenset({2}), torch.isin(torch.arange(4), torch.tensor(tokens)))

    pai = [parse("pai"), parse("pai"), parse("pai:alpha=0.3")]
    louder = [method.plan(One(facts=Facts(4, 1, (), (), 0)))[0].change for method in pai]  # type: ignore[arg-type]
    changes = [(cutting(0), [5, 6]), (cutting(1, 3), [9]), *((change, [at]) for at, change in enumerate(louder))]
    cut, same, other = edits.edits_of([*changes, (cutting(), [1])])  # type: ignore[list-item]
    assert cut.rows.tolist() == [5, 6, 9] and cut.cut is not None and cut.which is not None
    rows = cut.cut[torch.from_numpy(cut.which)]
    assert rows.int().tolist() == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1]], "an empty change edits nothing"
    assert same.rows.tolist() == [0, 1] and other.rows.tolist() == [2] and same.cut is None
