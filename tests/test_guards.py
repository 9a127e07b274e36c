"""Guards against silently wrong numbers: what each one stops, and that it lets sound work through."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from statsmodels.stats.proportion import proportion_confint
from transformers import AttentionMaskInterface

from tests import zoo
from tests.made_runs import one, probe_run, refine_run
from tests.scene import Scene
from vgtool.attention import engine, selfcheck, sharing
from vgtool.attention.engine import NAME, attach
from vgtool.attention.session import Session
from vgtool.attention.tap import Call
from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.grounding.heads import HeadFile, refuse_mismatch
from vgtool.models.inputs import Prompt, Vision
from vgtool.records import Grid
from vgtool.scoring.frame import Estimates
from vgtool.scoring.runs import read
from vgtool.scoring.statistics import clustered_means, wilson
from vgtool.scoring.thirds import accuracy_by_attention

# ---- attaching the engine ------------------------------------------------------------------------------------------


def test_a_lost_mask_is_noticed_when_the_engine_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers drops it where a mask function is not registered under the attention's name."""
    adapter = zoo.family("llama")
    assert attach(adapter.model, adapter.text) == {}
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, NAME, lambda *args, **kwargs: None)
    with pytest.raises(VgError, match="attention mask is lost"):
        attach(adapter.model, adapter.text)


@pytest.mark.parametrize("off,sound", [(3e-5, True), (3e-4, False)])
def test_rows_must_explain_the_layers_output(off: float, sound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """1e-4 of the largest output in float32: weights @ values that are further off are not the layer's attention."""
    adapter = zoo.family("llama")
    output = Call.output

    def further(self: Call, *args: Any) -> torch.Tensor:
        found = output(self, *args)
        return found + off * found.abs().max()

    monkeypatch.setattr(engine.Call, "output", further)
    if sound:
        attach(adapter.model, adapter.text)
    else:
        with pytest.raises(VgError, match="does more than softmax attention in 4 layers, from layer 0 on"):
            attach(adapter.model, adapter.text)


# ---- the session's self-check --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared,whole,alike,expected", [
    (0.0009, 0.0, 0.0, (True, True)),
    (0.0011, 0.0, 0.0, (False, True)),
    (0.0009, 9.9, 0.0011, (True, False)),
    (0.0011, 0.0011, 0.0, None),
])  # fmt: skip
def test_the_self_check_decides_which_session_a_model_gets(
    shared: float, whole: float, alike: float, expected: tuple[bool, bool] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 1e-3 of the largest logit is the edge, for a session's own difference and for images beside each
    other; a model for which neither session is right is refused."""
    scene = Scene("llama")
    monkeypatch.setattr(scene.adapter, "prepare", lambda image: scene.vision, raising=False)
    prompt = Prompt(scene.head, scene.tails[0], (0, 1))
    monkeypatch.setattr(scene.adapter, "prompt", lambda text: prompt, raising=False)
    found = {Session: shared, sharing.WholeSession: whole}
    monkeypatch.setattr(sharing, "difference", lambda adapter, session, vision, prompt: found[type(session)])
    monkeypatch.setattr(sharing, "alike", lambda *args: alike)
    if expected is None:
        with pytest.raises(VgError, match=r"differ by 1\.1e-03 of the largest in float32"):
            sharing.sessions(scene.adapter)
    else:
        made = sharing.sessions(scene.adapter)
        assert (made.shared, made.batches, made.difference) == (*expected, shared)


class Untouched(Session):
    """Loses every knockout."""

    def rerun(self, asked: Any, changes: Any, read: frozenset[int] = frozenset()) -> Any:
        return replace(asked, logits=asked.logits[[change.index for change in changes]])


class Muddled(Session):
    """Gives the second question of a pass other logits than the first."""

    def ask(self, asks: Any, read: frozenset[int] = frozenset(), keep: frozenset[int] = frozenset()) -> Any:
        asked = super().ask(asks, read, keep)
        if len(asks) > 1:
            asked.logits[1] = asked.logits[1].roll(1)
        return asked


class Forgetful(Session):
    """Decodes without having seen the pass."""

    def state(self, packs: Any, keep: frozenset[int] = frozenset()) -> Any:
        made = super().state(packs, keep)
        made.places = type(made.places)(made.places.asks, made.places.first, [at + 3 for at in made.places.rope])
        return made


@pytest.mark.parametrize("broken", [Untouched, Muddled, Forgetful])
def test_the_self_check_sees_a_session_that_is_wrong_in_one_way(broken: type[Session]) -> None:
    scene = Scene("llama")
    prompt = Prompt(scene.head, scene.tails[0], (0, 1))
    with torch.inference_mode():
        sound = selfcheck.difference(scene.adapter, scene.session, scene.vision, prompt)
        other = broken(scene.adapter, [[scene.vision]], scene.head)
        assert sound < 1e-5 < 1e-3 < selfcheck.difference(scene.adapter, other, scene.vision, prompt)


# ---- where tokens stand --------------------------------------------------------------------------------------------


def test_an_images_columns_follow_the_order_its_tokens_come_in() -> None:
    """A column-major tower of 2 x 3 tokens and one overview token, from column 5 on."""
    adapter = zoo.family("llama")
    geometry = Geometry.squash(60, 40, 60, 40, Grid(2, 3))
    order = torch.arange(6).view(3, 2).T.reshape(-1)
    grid, overview = adapter.places(Vision({}, geometry, order=order, overview=1), 5)
    assert grid.tolist() == [5, 7, 9, 6, 8, 10] and overview.tolist() == [11]
    assert adapter.places(Vision({}, geometry), 5)[0].tolist() == [5, 6, 7, 8, 9, 10]


# ---- heads of another model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers,heads", [(6, 8), (8, 6), (8, 8)])
def test_heads_of_another_shape_are_refused(layers: int, heads: int) -> None:
    file = HeadFile("mine", "r", 6, 6, {}, [(0, 1, 0.5)], [2])
    refuse_mismatch(file, "other", 6, 6)
    with pytest.raises(VgError, match=rf"is for 'mine' \(6 layers x 6 heads\); 'other' has {layers} x {heads}"):
        refuse_mismatch(file, "other", layers, heads)


# ---- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_an_interval_has_the_level_asked_for(level: float) -> None:
    assert wilson(7, 10, level) == pytest.approx(proportion_confint(7, 10, 1 - level, "wilson"), abs=1e-9)
    values = np.random.default_rng(0).normal(size=(400, 1))
    names = [str(i) for i in range(400)]
    (_, low, high), = clustered_means(values, names, seed=3, level=level, draws=4000)
    z = {0.8: 1.2816, 0.95: 1.9600, 0.99: 2.5758}[level]
    assert high - low == pytest.approx(2 * z * values.std() / 20, rel=0.06)


def test_a_run_is_judged_by_its_own_rule_unless_another_is_asked_for(tmp_path: Path) -> None:
    """'No finding' is no for a rule that looks for the word; strict reads it as neither."""
    path = refine_run(tmp_path / "r", {"baseline": ["Yes it is no."]}, rule="llava-med")
    outcomes = {rule: read([path], rule, False)[0].rows["outcome"].to_list() for rule in (None, "llava-med", "strict")}
    assert outcomes[None] == outcomes["llava-med"] != outcomes["strict"]


def test_a_sample_on_the_edge_belongs_to_the_lower_third(tmp_path: Path) -> None:
    """Ratios 1, 1, 2, 2, 3, 3, 4: the cuts, at a third and two thirds of the way, are 2 and 3."""
    ratios = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]
    run = refine_run(tmp_path / "r", {"baseline": ["yes"] * 7})
    found: Estimates = accuracy_by_attention(one(probe_run(tmp_path / "p", ratios)), one(run))
    counts = found.frame.filter(pl.col("metric") == "accuracy").select("level", "n").rows()
    assert counts == [("lowest", 4), ("middle", 2), ("highest", 1)]
