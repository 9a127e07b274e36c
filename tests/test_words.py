"""The model is asked for a box: what it is sent, what becomes of what it says, and who is refused."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.embedded import shown
from vgtool.attention.sharing import Sessions
from vgtool.errors import VgError
from vgtool.grounding.spoken import overlap
from vgtool.methods import words
from vgtool.methods.probe import Probe
from vgtool.methods.task import ImageGroup
from vgtool.methods.witnesses import Asking, Witnesses
from vgtool.records import Box, Decoding
from vgtool.registry import Boxes


def trained(opened: Sessions, **boxes: Any) -> Sessions:
    """The embedded model under an entry that says it speaks boxes; what it says is no box."""
    adapter = copy.copy(opened.adapter)
    spoken = Boxes(scale="0-1000", source="a test", **boxes)
    adapter.spec = adapter.spec.model_copy(update={"boxes": spoken})
    return replace(opened, adapter=adapter)


@pytest.fixture(scope="module")
def groups(opened: Sessions) -> list[ImageGroup]:
    return shown(opened.adapter, 10)


def probed(opened: Sessions, groups: list[ImageGroup]) -> list[dict[str, Any]]:
    witnesses = Witnesses(opened, Asking(ask="box"), Decoding())
    task = Probe(opened, maps="none", row="last", mapping="exact", witnesses=witnesses)
    return [dict(row) for row in task.run(groups, None)]


def greedy(opened: Sessions, group: ImageGroup, head: tuple[int, ...], tail: tuple[int, ...], steps: int) -> str:
    """The answer by whole passes alone."""
    adapter, made = opened.adapter, ()
    while len(made) < steps:
        with torch.inference_mode():
            inputs = adapter.inputs(group.visions, head, (*tail, *made))
            token = int(adapter.forward(inputs.kwargs, [inputs.length - 1])[0, 0].argmax())
        if token in adapter.eos:
            break
        made = (*made, token)
    return adapter.tokenizer.decode(list(made), skip_special_tokens=True).strip()


@pytest.mark.parametrize(
    "boxes", [{"ask": "Where? {question} Say."}, {"prompt": "Look well.\n<image>\nFind {question}\nAnswer:"}]
)
def test_the_model_is_asked_in_its_entrys_words_and_answers_as_whole_passes_do(
    opened: Sessions, groups: list[ImageGroup], boxes: dict[str, str]
) -> None:
    model = trained(opened, **boxes)
    rows = {row["sample_id"]: row for row in probed(model, groups[:2])}
    sample, adapter = groups[1].samples[0], opened.adapter
    template = boxes.get("prompt") or adapter.template.replace("{question}", boxes["ask"])
    sent = template.replace("{question}", sample.question)
    prompt = model.adapter.rephrased(boxes.get("ask", "{question}"), boxes.get("prompt")).prompt(sample.question)
    image = adapter.image_token
    ids = adapter.tokenizer(sent.replace("<image>", adapter.tokenizer.convert_ids_to_tokens(image))).input_ids
    at = ids.index(image)
    assert (list(prompt.head), list(prompt.tail)) == (ids[:at], ids[at + 1 :])
    row = rows[sample.id]
    assert row["box_answer"] == greedy(opened, groups[1], prompt.head, prompt.tail, words.BOX_TOKENS)
    assert row["box_outcome"] in ("none", "unreadable") and row["box_said"] == []
    assert row.get("box_iou") is None


def test_what_it_says_is_placed_and_measured_against_the_boxes(opened: Sessions, groups: list[ImageGroup]) -> None:
    model = trained(opened)
    speaker = Witnesses(model, Asking(ask="box"), Decoding()).words
    assert speaker is not None
    group = groups[0]
    sample, geometry = group.samples[0], group.visions[0].geometry
    relative = np.random.default_rng(0).random((6, 64))
    row = speaker._row("[250, 250, 750, 500]", sample, group, relative)
    box = Box(geometry.width / 4, geometry.height / 4, geometry.width * 3 / 4, geometry.height / 2)
    assert row["box_outcome"] == "box" and row["box_said"] == [pytest.approx(box.as_list())]
    assert row["box_iou"] == pytest.approx(overlap([box], sample.boxes))
    assert "box_iou" not in speaker._row("[250, 250, 750, 500]", replace(sample, boxes=()), group, relative)


def test_a_model_without_such_training_says_so(opened: Sessions) -> None:
    with pytest.raises(VgError, match="'phantom-vlm' was not trained to answer with boxes"):
        Witnesses(opened, Asking(ask="box"), Decoding())


def test_a_question_that_may_not_be_put_is_named(opened: Sessions, groups: list[ImageGroup]) -> None:
    group = replace(groups[0], samples=(replace(groups[0].samples[0], question="the <image> of it"),))
    row = probed(trained(opened), [group])[0]
    assert row["unmeasured"].startswith("placeholder_in_question") and row.get("box_answer") is None
    assert row["error"] is None, "its metrics stand"
