"""Thumbnail tiles: rescoring takes them as the originals do, or leaves them; cuts never touch them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import reference, zoo
from vgtool.attention.asks import Ask, Change
from vgtool.attention.engine import attach
from vgtool.attention.session import Session
from vgtool.attention.whole import WholeSession
from vgtool.grounding.geometry import Geometry
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.models.inputs import Inputs, Vision
from vgtool.records import Grid


class Tiled(zoo.ZooAdapter):
    """The last eleven of its 36 image tokens stand for a thumbnail."""

    def inputs(self, visions: Sequence[Vision], head: Sequence[int], tail: Sequence[int]) -> Inputs:
        made = super().inputs(visions, head, tail)
        return replace(made, columns=tuple(c[:25] for c in made.columns), overview=tuple(c[25:] for c in made.columns))


@pytest.mark.parametrize("overview", [True, False])
@pytest.mark.parametrize(("kind", "images"), [(Session, 1), (WholeSession, 1), (Session, 2), (WholeSession, 2)])
def test_rescored_thumbnails_of_all_a_prompts_images_equal_eager(kind: type, images: int, overview: bool) -> None:
    plain = zoo.family("llama")
    adapter = Tiled(**{name: getattr(plain, name) for name in ("model", "tokenizer", "spec", "template", "extra")})
    attach(adapter.model, adapter.text)
    square = Geometry.squash(48, 48, 48, 48, Grid(5, 5))
    visions = [Vision(zoo.vision(plain, seed).tensors, square, overview=11) for seed in range(images)]
    head, (tail,) = zoo.head(), zoo.tails(1, 9)
    change = Change(frozenset({1, 2}), rescore=lambda s: s + 2 * s.abs(), rows="last", overview=overview, decode=True)
    with torch.inference_mode():
        session = kind(adapter, [visions], head)
        asked = session.ask([Ask(tail)], keep=frozenset({1}))
        changed = session.rerun(asked, [change])
        state = session.state([changed])
        token = torch.tensor([int(changed.logits[0].argmax())])
        following = state.step([0], token)[0]
    for made, found in (((), changed.logits[0]), ((int(token),), following)):
        inputs = adapter.inputs(visions, head, (*tail, *made))
        columns = torch.cat([*inputs.columns, *(inputs.overview if overview else ())]).tolist()
        rows = [inputs.length - 1 - len(made)] if not made else [inputs.length - 2, inputs.length - 1]

        def edit(scores: torch.Tensor, rows: list[int] = rows, columns: list[int] = columns) -> torch.Tensor:
            out = scores.clone()
            for row in rows:
                picked = scores[:, :, row, columns]
                out[:, :, row, columns] = picked + 2 * picked.abs()
            return out

        logits, _ = reference.forward(adapter.model, dict(inputs.kwargs), reference.Watch({1: edit, 2: edit}))
        assert (found - logits[-1]).abs().max() < 5e-5


def test_rivals_take_thumbnails_unless_they_are_told_not_to() -> None:
    for name in ("pai", "adaptvis"):
        assert parse(name).overview == "on" and parse(f"{name}:overview=off").overview == "off"


class Two(list[None]):
    """What a method's plan reads of two questions of a small model."""

    facts = Facts(4, 4, (), (), 0)
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7]])


@pytest.mark.parametrize("name", ["pai", "adaptvis", "pai:first=plain"])
@pytest.mark.parametrize("overview", ["on", "off"])
def test_a_rivals_plan_says_whether_thumbnails_are_taken(name: str, overview: str) -> None:
    method = parse(f"{name}{',' if ':' in name else ':'}overview={overview}")
    for plan in method.plan(Two([None, None])):  # type: ignore[arg-type]
        assert plan.change.overview is (overview == "on")  # type: ignore[union-attr]
