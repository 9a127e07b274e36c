"""Any model of the auto classes: rows and answers against the untouched model, geometry against what is known."""

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner

from tests import families
from tests.embedded import shown
from tests.test_reliance import eager
from vgtool.attention import engine
from vgtool.attention.asks import Ask
from vgtool.attention.sharing import Sessions, sessions
from vgtool.commands import app
from vgtool.errors import SampleError, VgError
from vgtool.models import entering, native, stripes, written
from vgtool.models.adapter import Adapter
from vgtool.models.load import load, resolve
from vgtool.registry import ModelSpec

ROOT = Path(__file__).parent.parent
QUESTION = "Is there a mass? Answer the question using a single word or phrase."
WIDE, TALL = (120, 90), (75, 160)
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


class Library:
    """Checkpoints of families, each written and loaded once, with a geometry cache of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.loaded: Callable[[str], Adapter] = cache(self.fresh)
        self.opened: Callable[[str], Sessions] = cache(lambda name: sessions(self.loaded(name)))
        self.reference: Callable[[str], Any] = cache(self._reference)

    def folder(self, name: str) -> Path:
        folder = self.root / name
        if not folder.exists():
            try:
                families.write(name, folder)
            except ImportError:  # some versions of transformers write more processors for torchvision alone
                shutil.rmtree(folder)
                pytest.skip(f"{name} needs torchvision in this transformers")
        return folder

    def fresh(self, name: str, adapter: str = "native") -> Adapter:
        spec = ModelSpec(name=name, title=name, adapter=adapter)
        try:
            return load(spec, source=self.folder(name), device="cpu", offline=True)
        except VgError as error:
            if "needs torchvision" not in error.message:
                raise
            pytest.skip(f"{name} needs torchvision in this transformers")

    def _reference(self, name: str) -> Any:
        """The model as transformers loads it, with attention that shows its weights."""
        return AutoModelForImageTextToText.from_pretrained(self.folder(name), attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("families")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield Library(root)


def picture(size: tuple[int, int], seed: int = 1) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def own_inputs(adapter: Any, image: Image.Image) -> dict[str, Any]:
    """What the model's own processor makes of its own chat template."""
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = adapter.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return dict(adapter.writer.processor(text=[text], images=[image], return_tensors="pt"))


@pytest.mark.parametrize("name", KINDS)
def test_rows_and_answers_equal_the_untouched_models(name: str, library: Library) -> None:
    adapter, opened, model = library.loaded(name), library.opened(name), library.reference(name)
    image = picture(WIDE)
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
        assert (found - expected[0]).abs().max() < 2e-5 * expected.abs().max()
    assert opened.shared == KINDS[name]


def test_a_hybrid_names_its_layers_without_attention_and_has_no_map_of_them(library: Library) -> None:
    adapter = library.loaded("qwen3_5")
    library.opened("qwen3_5")
    assert adapter.without == dict.fromkeys((0, 1, 2), "linear_attention")
    assert adapter.readable == {3}
    assert adapter.notes == [
        "Layers 0, 1, 2 have no softmax attention (linear_attention): no maps, and a knockout leaves them as a path "
        "around it."
    ]


def test_reliance_of_a_hybrid_counts_and_names_what_it_cannot_edit(library: Library, tmp_path: Path) -> None:
    adapter, run = library.loaded("qwen3_5"), tmp_path / "run"
    library.opened("qwen3_5")
    asked = ["--benchmark", "phantom", "--limit", "3", "--dtype", "float32"]
    command("probe", "--model", str(library.folder("qwen3_5")), *asked, "--reliance", "--window", "1", "--windows", "4",
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


def command(*words: str) -> str:
    """What a command prints. AssertionError when it does not end as it should."""
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == 0, done.output
    return done.stdout


def refusal(*words: str) -> str:
    """The sentence of a mistake."""
    done = CliRunner().invoke(app, [*words])
    assert isinstance(done.exception, VgError) or done.exit_code == 2, done.output
    return " ".join(str(done.exception if isinstance(done.exception, VgError) else done.output).split())


def test_a_hybrid_runs_from_probe_to_report_with_null_where_it_has_no_attention(
    library: Library, tmp_path: Path
) -> None:
    model, run, heads = str(library.folder("qwen3_5")), tmp_path / "probe", tmp_path / "heads.json"
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


def test_a_model_without_a_grid_answers_and_says_which_methods_need_one(library: Library, tmp_path: Path) -> None:
    model = str(library.folder("idefics2"))
    said = refusal("probe", "--model", model, "--benchmark", "scenes", "--limit", "1", "--out", str(tmp_path / "p"))
    assert "cannot be probed: each image token answers to the whole image" in said
    answered = ["refine", "--model", model, "--benchmark", "phantom", "--limit", "1"]
    command(*answered, "--method", "pai", "--method", "no-image", "--out", str(tmp_path / "r"))
    said = refusal(*answered, "--method", "vicrop", "--out", str(tmp_path / "v"))
    assert "--method vicrop needs to know where image tokens stand" in said
    rows = pl.concat([pl.read_parquet(part) for part in (tmp_path / "r" / "parts").glob("*.parquet")])
    assert rows["error"].null_count() == rows.height == 3 and rows["grid_rows"].null_count() == 3
    command("report", str(tmp_path / "r"), "--out", str(tmp_path / "report"))


def test_a_model_whose_layers_have_heads_of_several_sizes_is_probed(library: Library, tmp_path: Path) -> None:
    library.loaded("gemma4")  # skips where its processor cannot be made
    model = str(library.folder("gemma4"))
    command("probe", "--model", model, "--benchmark", "scenes", "--limit", "1", "--out", str(tmp_path / "run"))


def test_models_says_what_a_folder_is(library: Library) -> None:
    folder = str(library.folder("qwen3_5"))
    facts = {row["fact"]: row["value"] for row in json.loads(command("models", folder, "--size", "120x90", "--json"))}
    assert facts["family"] == "qwen3_5 (Qwen3_5ForConditionalGeneration), adapter native"
    assert facts["layers"] == "1 of 4 with softmax attention, 4 heads each"
    assert facts["tokens"] == "3 x 4, for 120 x 90 pixels"
    assert facts["geometry"].startswith("measured: squash, worst edge")
    assert facts["prompts"].startswith("whole, since what its recurrent layers remember")
    assert "is not WIDTHxHEIGHT" in refusal("models", folder, "--size", "120")


# ---- geometry ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "gemma3"])
@pytest.mark.parametrize("size", [(96, 96), WIDE, TALL], ids=["square", "wide", "tall"])
def test_measured_geometry_equals_the_hand_written(name: str, size: tuple[int, int], library: Library) -> None:
    spec, folder = resolve(str(library.folder(name)))
    own = load(spec, source=folder, device="cpu", offline=True).prepare(picture(size))
    vision: Any = library.loaded(name).prepare(picture(size))
    assert vision.geometry.grid == own.geometry.grid and vision.overview == own.overview
    box = np.array(vision.geometry.grid_box()) - own.geometry.grid_box()
    assert np.abs(box).max() <= vision.shape.stripe
    order = np.arange(own.geometry.tokens) if own.order is None else own.order.numpy()
    assert (np.array(vision.shape.cells) - min(vision.shape.cells) == order - order.min()).all()


PHANTOM = ROOT / "vgtool/models/phantom/weights"


@pytest.fixture(scope="module")
def trained(library: Library) -> Callable[[str], Any]:
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
    name: str, grid: tuple[int, int], overview: int, library: Library
) -> None:
    vision = library.loaded(name).prepare(picture(WIDE))
    assert (vision.geometry.grid.rows, vision.geometry.grid.cols, vision.overview) == (*grid, overview)


@pytest.mark.parametrize("name", ["idefics3", "llava_next", "glm4v", "gemma4"])
def test_a_bright_patch_changes_the_named_token_most(name: str, library: Library) -> None:
    """Exchanging the pixels of one cell, with the tower as it is, mixing and all."""
    adapter: Any = library.loaded(name)
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


def test_a_resampler_has_no_grid_and_is_refused_for_probe_by_name(library: Library) -> None:
    from vgtool.methods.probe import Probe

    opened = library.opened("idefics2")
    vision = opened.adapter.prepare(picture(WIDE))
    assert not vision.geometry.placed and vision.geometry.tokens == 8
    assert vision.geometry.region([]) == [] and vision.geometry.cell_box(0) is None
    with pytest.raises(VgError, match="'idefics2' cannot be probed: each image token answers to the whole image"):
        Probe(opened, maps="none", row="last", mapping="exact")


def test_a_shape_is_measured_once_and_read_again_by_the_next_run(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: Any = library.loaded("llava").prepare(picture(TALL))
    again: Any = library.fresh("llava")
    monkeypatch.setattr(stripes, "measure", None)  # would raise
    assert again.prepare(picture(TALL, seed=5)).shape == first.shape
    [path] = [p for p in (library.root / "cache").rglob("75x160.json") if json.loads(p.read_text())["span"] == 16]
    path.write_text(path.read_text()[:40])
    with pytest.raises(TypeError):
        library.fresh("llava").prepare(picture(TALL))


def test_a_second_image_of_a_shape_costs_no_pass_of_the_model(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, calls = library.fresh("idefics3"), list[int]()
    monkeypatch.setattr(native, "entering", lambda *args: calls.append(1) or entering.entering(*args))
    first: Any = adapter.prepare(picture((100, 70)))
    assert len(calls) == first.shape.passes
    again: Any = adapter.prepare(picture((100, 70), seed=2))
    assert len(calls) == first.shape.passes and again.shape is first.shape


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3"])
@pytest.mark.parametrize("size", [(3, 3), (2, 40), (300, 1)])
def test_an_image_smaller_than_its_cells_is_placed_whole_or_costs_its_own_row(
    name: str, size: tuple[int, int], library: Library
) -> None:
    """A processor enlarges it, or refuses it by a sentence; cells then are parts of pixels."""
    try:
        vision: Any = library.loaded(name).prepare(picture(size))
    except SampleError as error:
        assert f"{size[0]} x {size[1]} pixels" in str(error)
        return
    geometry = vision.geometry
    if geometry.placed:
        x0, y0, x1, y1 = geometry.grid_box()
        assert x0 <= 0.5 and y0 <= 0.5 and x1 >= size[0] - 0.5 and y1 >= size[1] - 0.5


def test_the_first_token_that_a_processor_writes_itself_is_no_images(library: Library) -> None:
    """As Molmo 2's does."""
    writer: Any = library.loaded("llava").writer  # type: ignore[attr-defined]
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


# ---- what is refused -----------------------------------------------------------------------------------------------


def refused(folder: Path) -> str:
    with pytest.raises(VgError) as caught:
        load(ModelSpec(name="model", title="model", adapter="native"), source=folder, device="cpu", offline=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edited(library: Library, name: str, tmp_path: Path, file: str, **fields: Any) -> Path:
    for path in library.folder(name).iterdir():
        (tmp_path / path.name).symlink_to(path)
    raw = json.loads((tmp_path / file).read_text())
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps(raw | fields))
    return tmp_path


def test_cross_attention_has_no_image_token_to_read(library: Library) -> None:
    assert refused(library.folder("mllama")) == (
        "No token of the prompt of 'model' changes with the image. It takes its image beside the text "
        "(cross-attention), where vgtool reads no map."
    )


def test_code_of_a_checkpoint_is_never_run(library: Library, tmp_path: Path) -> None:
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        folder = tmp_path / file
        folder.mkdir()
        edited(library, "idefics3", folder, file, auto_map={"AutoProcessor": "evil.P"})
        assert f"{file} of 'model' asks to run code" in refused(folder)


def test_a_type_that_transformers_lacks_is_named(library: Library, tmp_path: Path) -> None:
    assert "'no_such_model'" in refused(edited(library, "llava", tmp_path, "config.json", model_type="no_such_model"))


def test_a_text_model_is_no_image_model(library: Library, tmp_path: Path) -> None:
    assert "no image-text model" in refused(edited(library, "llava", tmp_path, "config.json", model_type="llama"))


def test_an_encoder_decoder_is_named(library: Library, tmp_path: Path) -> None:
    folder = edited(library, "llava", tmp_path, "config.json", is_encoder_decoder=True)
    assert "(model_type 'llava') is an encoder-decoder" in refused(folder)


def test_a_missing_chat_template_asks_for_a_prompt(library: Library, tmp_path: Path) -> None:
    folder = edited(library, "llava", tmp_path, "config.json")
    (folder / "chat_template.jinja").unlink()
    assert refused(folder) == (
        "'model' has no chat template. Give its entry a prompt in models.yaml (see docs/models.md)."
    )


def test_a_processor_of_another_model_is_refused_before_any_sample(library: Library, tmp_path: Path) -> None:
    wrong = {"height": 84, "width": 84}
    said = refused(edited(library, "gemma3", tmp_path, "preprocessor_config.json", size=wrong))
    assert "cannot take what its processor makes of an image" in said


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_an_image_processor_written_for_torchvision_alone_asks_for_it(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edited(library, "llava", tmp_path, "preprocessor_config.json", image_processor_type="Llama4ImageProcessor")
    assert refused(folder) == (
        "'model' needs torchvision: the image processor is written for it alone. "
        "pip install 'vgtool[torchvision]', from the index that torch came from."
    )
    broken = tmp_path / "packages" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(broken.parent)
    assert "needs torchvision, which does not load beside this torch: operator torchvision::nms" in refused(folder)


def test_an_image_processor_written_for_torchvision_alone_runs_on_it_and_says_so(library: Library) -> None:
    pytest.importorskip("torchvision")
    adapter: Any = library.loaded("cohere2_vision")
    assert adapter.backend == "torchvision"
    assert "Its image processor runs on torchvision, its only backend." in adapter.notes
    assert adapter.prepare(picture(WIDE)).geometry.placed


def test_a_sentence_may_not_hold_an_image_token(library: Library) -> None:
    with pytest.raises(SampleError, match="placeholder_in_question"):
        library.loaded("idefics3").prompt("what is <image>?")


# ---- what loading used to answer with a traceback ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss"])
@pytest.mark.parametrize("adapter", ["llava", "native"])
def test_soft_caps_and_sinks_are_refused_in_a_sentence(kind: str, adapter: str, tmp_path: Path) -> None:
    """By transformers as it loads them, or else as they come to the engine."""
    text = dict(model_type=kind, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                vocab_size=512, num_key_value_heads=2, head_dim=8)  # fmt: skip
    families.write("llava", tmp_path / kind, **{"text_config!": text})
    spec = ModelSpec(name="model", title="model", adapter=adapter)
    with pytest.raises(VgError, match=r"does not run through SDPA|has soft caps, which SDPA leaves out"):
        sessions(load(spec, source=tmp_path / kind, device="cpu", offline=True))


def test_what_sdpa_would_drop_silently_is_refused() -> None:
    states = torch.zeros(1, 1, 2, 4)
    for given, said in (({"softcap": 50.0}, "soft caps"), ({"s_aux": torch.zeros(1)}, "attention sinks")):
        with pytest.raises(VgError, match=f"Linear has {said}, which SDPA leaves out"):
            engine._attention(torch.nn.Linear(1, 1), states, states, states, None, **given)


def test_a_class_token_in_the_grid_is_refused_by_llava_and_set_apart_by_native(tmp_path: Path) -> None:
    families.write("llava", tmp_path / "full", vision_feature_select_strategy="full", image_seq_length=17)
    raw = json.loads((tmp_path / "full" / "processor_config.json").read_text())
    raw |= {"vision_feature_select_strategy": "full"}
    (tmp_path / "full" / "processor_config.json").write_text(json.dumps(raw))
    spec, folder = resolve(str(tmp_path / "full"))
    with pytest.raises(VgError, match="keeps CLIP's class token") as caught:
        load(spec, source=folder, device="cpu", offline=True)
    assert "adapter: native" in str(caught.value)
    adapter = load(spec.model_copy(update={"adapter": "native"}), source=folder, device="cpu", offline=True)
    vision = adapter.prepare(picture((96, 96)))
    assert vision.geometry.grid.tokens == 16 and vision.overview == 1


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "internvl"])
@pytest.mark.parametrize("adapter", ["", "native"])
def test_a_config_that_names_no_end_loads_and_ends_where_the_tokenizer_does(
    name: str, adapter: str, library: Library, tmp_path: Path
) -> None:
    raw = json.loads((library.folder(name) / "config.json").read_text())
    for part in (raw, raw["text_config"]):
        part.pop("eos_token_id", None)
    folder = edited(library, name, tmp_path, "config.json")
    (folder / "config.json").write_text(json.dumps(raw))
    (folder / "generation_config.json").unlink(missing_ok=True)
    spec, source = resolve(str(folder))
    spec = spec.model_copy(update={"adapter": adapter or spec.adapter})
    loaded = load(spec, source=source, device="cpu", offline=True)
    assert loaded.tokenizer.eos_token_id in loaded.eos


def test_an_entry_without_notes_runs(tmp_path: Path) -> None:
    entry = {"title": "Ours", "adapter": "llava"}
    (tmp_path / "models.yaml").write_text(json.dumps({PHANTOM.name: entry}))
    command("probe", "--model", str(PHANTOM), "--registry", str(tmp_path), "--benchmark", "scenes", "--limit", "1",
            "--out", str(tmp_path / "run"))  # fmt: skip


def test_a_text_model_that_reads_ids_in_every_layer_is_refused_in_a_class_that_hands_it_none(tmp_path: Path) -> None:
    text = {"model_type": "gemma4_text", "vocab_size": 512, "vocab_size_per_layer_input": 512, "hidden_size": 32,
            "hidden_size_per_layer_input": 8, "intermediate_size": 48, "num_hidden_layers": 2, "num_key_value_heads": 2,
            "num_attention_heads": 4, "head_dim": 8, "global_head_dim": 8, "num_kv_shared_layers": 0,
            "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 512}  # fmt: skip
    families.write("llava", tmp_path / "model", **{"text_config!": text})
    spec, folder = resolve(str(tmp_path / "model"))
    with pytest.raises(VgError, match="reads token ids again in later layers, and the adapter llava feeds embeddings"):
        sessions(load(spec, source=folder, device="cpu", offline=True))
    assert "without providing `input_ids`" in refused(folder)
