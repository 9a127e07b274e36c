"""Any model of the auto classes: rows and answers against the untouched model, geometry against what is known."""

import dataclasses
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tests.eager import eager
from tests.embedded import shown
from tests.native import PHANTOM, TALL, WIDE, Families, command, picture, refusal
from tests.reports import brief
from vgtool.attention.asks import Ask
from vgtool.errors import SampleError, VgError
from vgtool.models import entering, native, stripes, written
from vgtool.models.load import load, resolve
from vgtool.registry import ModelSpec

QUESTION = "Is there a mass? Answer the question using a single word or phrase."
KINDS = {
    "idefics3": True,  # tiles, row and column marks, a global view
    "llava_next": True,  # a base view, newlines
    "gemma4": True,  # per-layer embeddings of ids
    "glm4v": True,  # mrope
    "idefics2": True,  # a resampler: no grid
    "llava_latent": True,  # keys and values unfolded from a cached latent
    "paligemma": False,  # image tokens see the question
    "qwen3_5": False,  # gated delta net between attention
}
"""Family, each of another kind -> whether its questions share a prefix."""


TOGETHER = {"idefics3", "llava_next", "gemma4", "glm4v", "llava_latent", "qwen3_5"}
"""Those whose processors prepare an image beside another as they do alone."""


ROUNDING = {"gemma4": 2e-4}
"""How far logits may be from the untouched model's, of the largest, where attention is computed by another kernel:
2e-5 for the others. Gemma 4 does not scale its scores, so that rounding grows: up to 3e-5, by the processor."""


def own_inputs(adapter: Any, *images: Image.Image) -> dict[str, Any]:
    """What the model's own processor makes of its own chat template."""
    content = [*[{"type": "image"}] * len(images), {"type": "text", "text": QUESTION}]
    text = adapter.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return dict(adapter.writer.processor(text=[text], images=[*images], return_tensors="pt"))


@pytest.mark.parametrize("name", KINDS)
def test_rows_and_answers_equal_the_untouched_models(name: str, family: Families) -> None:
    adapter, opened, model = family.loaded(name), family.opened(name), family.reference(name)
    image = picture((96, 72))  # the shape that opening has measured
    inputs = own_inputs(adapter, image)
    with torch.inference_mode():
        plain = model(**inputs, output_attentions=True)
        made = model.generate(
            **inputs, max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        prompt, vision = adapter.prompt(QUESTION), adapter.prepare(image)
        columns = adapter.inputs([vision], prompt.head, prompt.tail).columns[0]
        session = opened.open([[vision]], prompt.head)
        asked = session.ask([Ask(prompt.tail), Ask(prompt.tail[:-3])], adapter.readable)
        steps = session.state([asked])
        following = [steps.step([0], made.sequences[0, at - 3 : at - 2 or None])[0] for at in (0, 1)]
    weights = [one for one in plain.attentions if one is not None]
    layers = sorted(adapter.readable) if len(weights) < adapter.layers else range(adapter.layers)
    for layer, one in zip(layers, weights, strict=True):
        assert (asked.maps[layer][0] - one[0, :, -1][:, columns]).abs().max() < 2e-5
    for found, expected in zip([asked.logits[0], *following], made.logits, strict=True):
        assert (found - expected[0]).abs().max() < ROUNDING.get(name, 2e-5) * expected.abs().max()
    assert opened.shared == KINDS[name]


@pytest.mark.parametrize("name", KINDS)
def test_two_images_in_one_prompt_equal_the_untouched_model_or_are_refused(name: str, family: Families) -> None:
    adapter, model = family.loaded(name), family.reference(name)
    family.opened(name)
    images = [picture((96, 72)), picture((96, 72), seed=2)]
    prompt, visions = adapter.prompt(QUESTION, 2), [adapter.prepare(image) for image in images]
    if name not in TOGETHER:
        with pytest.raises(SampleError, match="several_images: the processor prepares an image otherwise beside"):
            adapter.inputs(visions, prompt.head, prompt.tail)
        return
    inputs, own = adapter.inputs(visions, prompt.head, prompt.tail), own_inputs(adapter, *images)
    with torch.inference_mode():
        found, expected = adapter.model(**inputs.kwargs).logits[0, -1], model(**own).logits[0, -1]
    assert (found - expected).abs().max() < ROUNDING.get(name, 2e-5) * expected.abs().max()
    ids, (first, second) = own["input_ids"], inputs.columns
    assert torch.equal(inputs.kwargs["input_ids"], ids) and first.max() < second.min()
    assert torch.equal(ids[0, first], ids[0, second]) and len(first) == len(second) > 1


def test_a_hybrid_names_its_layers_without_attention_and_has_no_map_of_them(family: Families) -> None:
    adapter = family.loaded("qwen3_5")
    family.opened("qwen3_5")
    assert adapter.without == dict.fromkeys((0, 1, 2), "linear_attention")
    assert adapter.readable == {3}
    assert adapter.notes == [
        "Layers 0, 1, 2 have no softmax attention (linear_attention): no maps, and a knockout leaves them as a path "
        "around it."
    ]


def test_reliance_of_a_hybrid_counts_and_names_what_it_cannot_edit(family: Families, tmp_path: Path) -> None:
    adapter, run = family.loaded("qwen3_5"), tmp_path / "run"
    family.opened("qwen3_5")
    asked = ["--benchmark", "phantom", "--limit", "3", "--dtype", "float32"]
    command("probe", "--model", str(family.folder("qwen3_5")), *asked, "--reliance", "--window", "1", "--windows", "4",
            "--out", str(run))  # fmt: skip
    said = "Reliance leaves layers 0, 1, 2 unedited: they have no softmax attention; 3 windows hold no other"
    assert said in json.loads((run / "run.json").read_text())["notes"][-1]
    rows = pl.read_parquet(run / "parts" / "*.parquet")
    assert rows.height == 3 and rows["reliance"].null_count() == 0
    for curve, whole in (("reliance_curve", "reliance"), ("reliance_random_curve", "reliance_random")):
        for values, all_layers in rows.select(curve, whole).iter_rows():
            assert values == [None, None, None, pytest.approx(all_layers, abs=1e-6)], "layer 3 is all there is to edit"
    row, groups = rows.sort("sample_id").row(0, named=True), shown(adapter, 3)
    group, sample = next((g, s) for g in groups for s in g.samples if s.id == row["sample_id"])
    target = tuple(adapter.tokenizer(sample.reference, add_special_tokens=False).input_ids)
    prompt = adapter.prompt(sample.prompt)
    plain, gone = (eager(adapter, group.visions, prompt, target, hidden, [3]) for hidden in ([], row["region"]))
    assert row["reference_reliance"] == pytest.approx(plain - gone, abs=1e-5) and abs(plain - gone) > 1e-4
    told = " ".join(command("score", str(run), "--table", "witnesses").split())
    assert said in told
    counted = json.loads(command("score", str(run), "--table", "witnesses", "--format", "json"))
    assert {one["layer"]: one["n"] for one in counted if one["field"] == "layers" and one["metric"] == "reliance"} == {
        0: 0, 1: 0, 2: 0, 3: 3}  # fmt: skip


@pytest.mark.usefixtures("loads_once")
def test_a_hybrid_runs_from_probe_to_report_with_null_where_it_has_no_attention(
    family: Families, tmp_path: Path
) -> None:
    model, run, heads = str(family.folder("qwen3_5")), tmp_path / "probe", tmp_path / "heads.json"
    command("probe", "--model", model, "--benchmark", "scenes", "--limit", "3", "--out", str(run))
    rows = pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")])
    assert rows["error"].null_count() == 3 and rows["warning"].null_count() == 3
    for row in rows.iter_rows(named=True):
        assert [value is None for value in row["layer_kl"]] == [True, True, True, False]
        tokens = row["grid_rows"] * row["grid_cols"]
        assert row["attention"][: 3 * tokens] == [None] * (3 * tokens) and None not in row["attention"][3 * tokens :]
    notes = json.loads((run / "run.json").read_text())["notes"]
    assert any("a knockout leaves them as a path around it" in note for note in notes)
    command("heads", str(run), "-o", str(heads))
    file = json.loads(heads.read_text())
    assert {layer for layer, _, _ in file["ranked"]} == {3} and file["knockout_layers"] == [3]
    answered = ["refine", "--model", model, "--benchmark", "phantom", "--limit", "1", "--heads", str(heads)]
    named = ["--method", "vgrefine", "--method", "random-heads", "--method", "pai", "--method", "adaptvis"]
    command(*answered, *named, "--out", str(tmp_path / "refine"))
    said = refusal(*answered, "--method", "vgrefine:layers=1", "--out", str(tmp_path / "other"))
    assert "layer 1 has no softmax attention to knock out" in said
    command("report", str(run), str(tmp_path / "refine"), "--out", str(tmp_path / "report"))
    assert "path around it" in command("score", str(run))


@pytest.mark.usefixtures("loads_once")
def test_a_model_without_a_grid_answers_and_says_which_methods_need_one(
    family: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief(monkeypatch)
    model = str(family.folder("idefics2"))
    said = refusal("probe", "--model", model, "--benchmark", "scenes", "--limit", "1", "--out", str(tmp_path / "p"))
    assert "cannot be probed: each image token answers to the whole image" in said
    answered = ["refine", "--model", model, "--benchmark", "phantom", "--limit", "1"]
    command(*answered, "--method", "pai", "--method", "no-image", "--out", str(tmp_path / "r"))
    said = refusal(*answered, "--method", "vicrop", "--out", str(tmp_path / "v"))
    assert "--method vicrop needs to know where image tokens stand" in said
    rows = pl.concat([pl.read_parquet(part) for part in (tmp_path / "r" / "parts").glob("*.parquet")])
    assert rows["error"].null_count() == rows.height == 3 and rows["grid_rows"].null_count() == 3
    command("report", str(tmp_path / "r"), "--out", str(tmp_path / "report"))


def test_a_model_whose_layers_have_heads_of_several_sizes_is_probed(family: Families, tmp_path: Path) -> None:
    family.loaded("gemma4")  # skips where its processor cannot be made
    model = str(family.folder("gemma4"))
    command("probe", "--model", model, "--benchmark", "scenes", "--limit", "1", "--out", str(tmp_path / "run"))


def test_models_says_what_a_folder_is(family: Families) -> None:
    folder = str(family.folder("qwen3_5"))
    facts = {row["fact"]: row["value"] for row in json.loads(command("models", folder, "--size", "120x90", "--json"))}
    assert facts["family"] == "qwen3_5 (Qwen3_5ForConditionalGeneration), adapter native"
    assert facts["layers"] == "1 of 4 with softmax attention, 4 heads each"
    assert facts["tokens"] == "3 x 4, for 120 x 90 pixels"
    assert facts["geometry"].startswith("measured: squash, worst edge")
    assert facts["prompts"].startswith("whole, since what its recurrent layers remember")
    assert "is not WIDTHxHEIGHT" in refusal("models", folder, "--size", "120")


# ---- geometry ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handwritten(family: Families) -> Callable[[str], Any]:
    """A family's own adapter."""

    @cache
    def read(name: str) -> Any:
        spec, folder = resolve(str(family.folder(name)))
        return load(spec, source=folder, device="cpu", offline=True)

    return read


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "gemma3"])
@pytest.mark.parametrize("size", [(96, 96), WIDE, TALL], ids=["square", "wide", "tall"])
def test_measured_geometry_equals_the_hand_written(
    name: str, size: tuple[int, int], family: Families, handwritten: Callable[[str], Any]
) -> None:
    own = handwritten(name).prepare(picture(size))
    vision: Any = family.loaded(name).prepare(picture(size))
    assert vision.geometry.grid == own.geometry.grid and vision.overview == own.overview
    box = np.array(vision.geometry.grid_box()) - own.geometry.grid_box()
    assert np.abs(box).max() <= vision.shape.stripe
    order = np.arange(own.geometry.tokens) if own.order is None else own.order.numpy()
    assert (np.array(vision.shape.cells) - min(vision.shape.cells) == order - order.min()).all()


@pytest.fixture(scope="module")
def trained(family: Families) -> Callable[[str], Any]:
    """The embedded model, the only trained one here, read by an adapter."""

    @cache
    def read(adapter: str) -> Any:
        spec = ModelSpec(name="phantom", title="phantom", adapter=adapter)
        return load(spec, source=PHANTOM, device="cpu", offline=True)

    return read


@pytest.mark.parametrize(
    "size,shown", [((128, 128), 64), ((160, 120), 48), ((90, 150), 48), ((300, 80), 32)], ids=str
)  # fmt: skip
def test_on_a_trained_model_the_measured_cells_are_the_hand_written(
    size: tuple[int, int], shown: int, trained: Callable[[str], Any]
) -> None:
    """Padding to a square leaves whole rows without pixels, and cuts others."""
    hand, vision = trained("llava").prepare(picture(size)).geometry, trained("native").prepare(picture(size))
    assert vision.shape.cells == list(range(64)) and not vision.overview
    boxes = [(hand.cell_box(token), vision.geometry.cell_box(token)) for token in range(64)]
    both = [(one.as_list(), other.as_list()) for one, other in boxes if one and other]
    assert len(both) == shown == sum(one is not None for one, _ in boxes) == sum(one is not None for _, one in boxes)
    for (x0, y0, x1, y1), (left, top, right, bottom) in both:
        assert x0 < (left + right) / 2 < x1 and y0 < (top + bottom) / 2 < y1
    assert max(abs(a - b) for one, other in both for a, b in zip(one, other, strict=True)) <= vision.shape.stripe


def test_on_a_trained_model_a_bright_cell_changes_its_own_token_most(trained: Callable[[str], Any]) -> None:
    adapter = trained("native")
    vision, grey = adapter.prepare(picture((128, 128))), np.full((128, 128, 3), 110, np.uint8)
    columns = torch.tensor(vision.shape.cells) + len(adapter.around.lead)
    with torch.inference_mode():
        base = adapter.first_states(Image.fromarray(grey))
        for token in range(64):
            x0, y0, x1, y1 = (round(edge) for edge in vision.geometry.cell_box(token).as_list())
            bright = grey.copy()
            bright[y0:y1, x0:x1] = 255
            change = (adapter.first_states(Image.fromarray(bright)) - base).norm(dim=-1)
            assert int(change[columns].argmax()) == token


@pytest.mark.parametrize("name,grid,overview", [("idefics3", (4, 4), 4), ("llava_next", (6, 8), 16)])
def test_tiles_are_joined_and_views_of_the_whole_image_set_apart(
    name: str, grid: tuple[int, int], overview: int, family: Families
) -> None:
    vision = family.loaded(name).prepare(picture(WIDE))
    assert (vision.geometry.grid.rows, vision.geometry.grid.cols, vision.overview) == (*grid, overview)


@pytest.mark.parametrize("name", ["idefics3", "llava_next", "glm4v", "gemma4"])
def test_a_bright_patch_changes_the_named_token_most(name: str, family: Families) -> None:
    """Exchanging the pixels of one cell, with the tower as it is, mixing and all."""
    adapter: Any = family.loaded(name)
    vision = adapter.prepare(picture(WIDE))
    dark = np.zeros((WIDE[1], WIDE[0], 3), np.uint8)
    with torch.inference_mode():
        base = adapter.first_states(Image.fromarray(dark))
        for token in range(0, vision.geometry.tokens, 5):
            x0, y0, x1, y1 = (round(edge) for edge in vision.geometry.cell_box(token).as_list())
            bright = dark.copy()
            bright[y0:y1, x0:x1] = 255
            change = (adapter.first_states(Image.fromarray(bright)) - base).norm(dim=-1)
            cells = torch.tensor(vision.shape.cells) + len(adapter.around.lead)
            assert int(change[cells].argmax()) == token


def test_a_resampler_has_no_grid_and_is_refused_for_probe_by_name(family: Families) -> None:
    from vgtool.methods.probe import Probe

    opened = family.opened("idefics2")
    vision = opened.adapter.prepare(picture(WIDE))
    assert not vision.geometry.placed and vision.geometry.tokens == 8
    assert vision.geometry.region([]) == [] and vision.geometry.cell_box(0) is None
    with pytest.raises(VgError, match="'idefics2' cannot be probed: each image token answers to the whole image"):
        Probe(opened, maps="none", row="last", mapping="exact")


def test_a_shape_is_measured_once_and_read_again_by_the_next_run(
    family: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = family.loaded("llava").prepare(picture(TALL))
    again: Any = family.fresh("llava")
    monkeypatch.setattr(stripes, "measure", None)  # would raise
    assert again.prepare(picture(TALL, seed=5)).shape == first.shape
    [path] = [p for p in (family.root / "cache").rglob("75x160.json") if json.loads(p.read_text())["span"] == 16]
    whole = path.read_text()
    shape = json.loads(whole)["shape"]
    cells = shape["cells"][1:]
    damage = {"cells": cells}, {"cells": [*cells, 16]}, {"overview": [-1]}, {"x": [0, math.nan]}
    others = [json.dumps(json.loads(whole) | {"shape": shape | one}) for one in damage]
    for text in (whole[:40], *others, json.dumps(json.loads(whole) | {"span": 15})):
        path.write_text(text)
        with pytest.raises(TypeError):
            family.fresh("llava").prepare(picture(TALL))
    path.write_text(whole)


def test_a_second_image_of_a_shape_costs_no_pass_of_the_model(
    family: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, calls = family.fresh("idefics3"), list[int]()
    monkeypatch.setattr(native, "entering", lambda *args: calls.append(1) or entering.entering(*args))
    first: Any = adapter.prepare(picture((100, 70)))
    assert len(calls) == first.shape.passes
    again: Any = adapter.prepare(picture((100, 70), seed=2))
    assert len(calls) == first.shape.passes and again.shape is first.shape


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3"])
@pytest.mark.parametrize("size", [(3, 3), (2, 40), (300, 1)])
def test_an_image_smaller_than_its_cells_is_placed_whole_or_costs_its_own_row(
    name: str, size: tuple[int, int], family: Families
) -> None:
    """A processor enlarges it, or refuses it by a sentence; cells then are parts of pixels."""
    try:
        vision: Any = family.loaded(name).prepare(picture(size))
    except SampleError as error:
        assert f"{size[0]} x {size[1]} pixels" in str(error)
        return
    geometry = vision.geometry
    if geometry.placed:
        x0, y0, x1, y1 = geometry.grid_box()
        assert x0 <= 0.5 and y0 <= 0.5 and x1 >= size[0] - 0.5 and y1 >= size[1] - 0.5


def test_the_first_token_that_a_processor_writes_itself_is_no_images(family: Families) -> None:
    """As Molmo 2's does."""
    writer: Any = family.loaded("llava").writer  # type: ignore[attr-defined]
    first = writer.tokenizer.bos_token

    def processor(text: list[str], **others: Any) -> Any:
        return writer.processor(text=[first + one for one in text], **others)

    around = dataclasses.replace(writer, processor=processor).around()
    plain = writer.around()
    assert around.lead == (writer.tokenizer.bos_token_id, *plain.lead)
    assert dataclasses.replace(around, lead=plain.lead) == plain


def test_what_stands_between_two_images_is_told_or_they_are_prepared_otherwise_together() -> None:
    assert written.separating([1, 2, 9, 1, 3], [[1, 2], [1, 3]]) == (9,)
    assert written.separating([1, 2, 1, 3], [[1, 2], [1, 3]]) == ()
    assert written.separating([1, 2, 9, 1, 3, 9, 4], [[1, 2], [1, 3], [4]]) == (9,)
    for inner in ([1, 2, 9, 1, 4], [1, 2, 1], [1, 2, 9, 1, 3, 4]):
        assert written.separating(inner, [[1, 2], [1, 3]]) is None
