"""Every model of the registry from its published layout: weights, pixels, geometry and commands.

Each entry's checkpoint is tiny and random, but has the published file names, weight names, config fields and tokenizer
kind; it stands where the Hugging Face cache would have it, and is loaded by its registry name.
"""

import json
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration, SiglipImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from perf import load as load_cost
from tests import checkpoints, peak
from tests.library import KINDS, NAMES, PLACEHOLDER, QUESTION, SHAPES, Library, copied, edit, picture, vgtool
from vgtool.errors import SampleError, VgError
from vgtool.grounding import heads as head_files
from vgtool.images import open_image
from vgtool.models import hub, pixels
from vgtool.models.adapter import Adapter
from vgtool.models.load import load
from vgtool.records import Box, Decoding, ImageSource
from vgtool.registry import ModelSpec, models

# ---- weights -------------------------------------------------------------------------------------------------------


def one_scale(twin: Any, pixels: Tensor) -> Tensor:
    return twin.model.get_image_features(pixels).pooler_output[0]


def three_scales(twin: Any, pixels: Tensor) -> Tensor:
    """S2 one tile and one cell at a time."""
    tower, size, grid, stacked = twin.model.vision_tower, 84, 6, []
    for times in (1, 2, 3):
        scaled = torch.nn.functional.interpolate(pixels, (size * times,) * 2, mode="bicubic")
        whole = torch.zeros(grid * times, grid * times, 128)
        for row in range(times):
            for col in range(times):
                tile = scaled[:, :, row * size : (row + 1) * size, col * size : (col + 1) * size]
                states = tower(tile, output_hidden_states=True).hidden_states[-2][0, 1:].reshape(grid, grid, -1)
                whole[row * grid : (row + 1) * grid, col * grid : (col + 1) * grid] = states
        cells = [
            whole[r * times : (r + 1) * times, c * times : (c + 1) * times].mean((0, 1))
            for r in range(grid)
            for c in range(grid)
        ]
        stacked.append(torch.stack(cells))
    return twin.model.multi_modal_projector(torch.cat(stacked, 1))


def folded(states: Tensor, side: int) -> Tensor:
    """VILA's and InternVL's first merge, step by step: columns in pairs, axes swapped, rows in pairs, never back."""
    grid = states.reshape(1, side, side, -1)
    if side % 2:
        grid = torch.cat([grid, torch.zeros(1, 1, side, grid.shape[-1])], 1)
        grid = torch.cat([grid, torch.zeros(1, side + 1, 1, grid.shape[-1])], 2)
    _, rows, cols, width = grid.shape
    grid = grid.contiguous().view(1, rows, cols // 2, width * 2).permute(0, 2, 1, 3).contiguous()
    return grid.view(1, cols // 2, rows // 2, width * 4).reshape(rows * cols // 4, width * 4)


def vila_features(twin: Any, pixels: Tensor) -> Tensor:
    states = twin.model.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][0]
    return twin.model.multi_modal_projector(folded(states, 7))


def medrega_features(twin: Any, pixels: Tensor) -> Tensor:
    states = twin.model.vision_tower(pixel_values=pixels).last_hidden_state[0, 1:]
    return twin.model.multi_modal_projector(folded(states, 8))


def hulu_features(twin: Any, vision: Any) -> Tensor:
    named = {f"image_{name}" if name != "pixel_values" else name: value for name, value in vision.tensors.items()}
    return twin.model.get_image_features(**named).pooler_output[0]


FEATURES = {
    "llava-tri": three_scales,
    "vila-m3-8b": vila_features,
    "vila-m3-13b": vila_features,
    "medrega": medrega_features,
}


def twin_logits(published: checkpoints.Published, name: str, vision: Any, head: Any, tail: Any) -> Tensor:
    """The twin's last logits: fed as its own processor would, or as the original repository does (embeddings)."""
    twin, tensors = published.twin, dict(vision.tensors)
    if name == "hulu-med-7b":
        features = hulu_features(twin, vision)
    elif name in PLACEHOLDER:
        image = published.encode(PLACEHOLDER[name])
        ids = torch.tensor([[*head, *image * vision.tokens, *tail]])
        if "image_grid_thw" in tensors:
            tensors["mm_token_type_ids"] = (ids == image[0]).long()
        if models()[name].adapter == "gemma3":
            tensors["token_type_ids"] = (ids == image[0]).long()
        return twin(input_ids=ids, **tensors).logits[0, -1]
    else:
        features = FEATURES.get(name, one_scale)(twin, tensors["pixel_values"])
    embed = twin.get_input_embeddings()
    parts = [embed(torch.tensor(list(head), dtype=torch.long)), features, embed(torch.tensor(list(tail)))]
    return twin(inputs_embeds=torch.cat(parts)[None]).logits[0, -1]


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_a_natively_built_twin(name: str, library: Library) -> None:
    adapter, published = library.adapter(name), library.published[name]
    assert (adapter.layers, adapter.heads) == (published.layers, published.heads)
    prompt = adapter.prompt(QUESTION)
    for shape in SHAPES.values():
        vision = adapter.prepare(picture(*shape))
        with torch.inference_mode():
            found = adapter.model(**adapter.inputs([vision], prompt.head, prompt.tail).kwargs).logits[0, -1]
            expected = twin_logits(published, name, vision, prompt.head, prompt.tail)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    other = adapter.prepare(Image.new("RGB", shape, (250, 30, 60)))
    with torch.inference_mode():
        otherwise = adapter.model(**adapter.inputs([other], prompt.head, prompt.tail).kwargs).logits[0, -1]
    assert (found - otherwise).abs().max() > 1e-3 * expected.abs().max()  # the image matters


@pytest.mark.parametrize("name", ["llava-med", "qwen2.5-vl-7b", "internvl3-8b"])
def test_two_images_in_one_prompt_equal_the_twin(name: str, library: Library) -> None:
    adapter, published = library.adapter(name), library.published[name]
    visions = [adapter.prepare(picture(*shape)) for shape in ((330, 150), (140, 300))]
    prompt = adapter.prompt(QUESTION)
    with torch.inference_mode():
        inputs = adapter.inputs(visions, prompt.head, prompt.tail)
        found = adapter.model(**inputs.kwargs).logits[0, -1]
        first = [*prompt.head, *adapter.between()]
        if name == "llava-med":
            embed = published.twin.get_input_embeddings()
            features = [one_scale(published.twin, v.tensors["pixel_values"]) for v in visions]
            texts = [embed(torch.tensor(ids)) for ids in (prompt.head, adapter.between(), prompt.tail)]
            whole = torch.cat([texts[0], features[0], texts[1], features[1], texts[2]])
            expected = published.twin(inputs_embeds=whole[None]).logits[0, -1]
        else:
            image = published.encode(PLACEHOLDER[name])
            spans = [image * vision.tokens for vision in visions]
            ids = torch.tensor([[*prompt.head, *spans[0], *adapter.between(), *spans[1], *prompt.tail]])
            tensors = {n: torch.cat([v.tensors[n] for v in visions]) for n in visions[0].tensors}
            if name.startswith("qwen"):
                tensors["mm_token_type_ids"] = (ids == image[0]).long()
            expected = published.twin(input_ids=ids, **tensors).logits[0, -1]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert int(inputs.columns[1].min()) == len(first) + visions[0].tokens


def test_weights_arrive_in_the_dtype_asked_for(library: Library) -> None:
    half = library.fresh("huatuogpt-vision-7b", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    spread = library.fresh("medrega", device_map="auto", dtype="float32")
    vision, prompt = spread.prepare(picture()), spread.prompt(QUESTION)
    with torch.inference_mode():
        found, expected = (
            one.model(**one.inputs([vision], prompt.head, prompt.tail).kwargs).logits[0, -1]
            for one in (spread, library.adapter("medrega"))
        )
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("no room"),
        ValueError("The current `device_map` had weights offloaded to the disk. Please provide an `offload_folder`."),
    ],
)
def test_a_model_that_does_not_fit_its_cards_is_one_sentence(
    error: Exception, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", full)
    with pytest.raises(VgError, match=r"'llava-med' does not fit on auto\. Give it more cards"):
        library.fresh("llava-med", device_map="auto")


# ---- pixels --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rows_first")
@pytest.mark.parametrize("shape", [*SHAPES.values(), (90, 3), (1, 1)])
def test_pixels_equal_the_original_pipelines(shape: tuple[int, int], library: Library) -> None:
    image = picture(*shape)
    padded = LlavaImageProcessorPil(do_pad=True, size={"shortest_edge": 84}, crop_size={"height": 84, "width": 84})
    siglip = SiglipImageProcessorPil(size={"height": 104, "width": 104}, resample=3)
    imagenet = CLIPImageProcessorPil(
        size={"height": 112, "width": 112},
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    for name, processor in (("llava-med", padded), ("vila-m3-8b", siglip), ("medrega", imagenet)):
        expected = processor(image, return_tensors="pt", input_data_format="channels_last").pixel_values
        found = library.adapter(name).prepare(image).tensors["pixel_values"]
        assert (found - expected).abs().max() < 1e-5, name


@pytest.mark.usefixtures("rows_first")
def test_a_tower_that_crops_is_prepared_as_clips_own_processor_does(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-med", tmp_path)
    edit(folder / "config.json", image_aspect_ratio="square")
    spec = models()["llava-med"].model_copy(update={"options": {}})
    adapter = load(spec, source=folder, device="cpu")
    clip = CLIPImageProcessorPil(size={"shortest_edge": 84}, crop_size={"height": 84, "width": 84})
    for shape in SHAPES.values():
        image = picture(*shape)
        expected = clip(image, return_tensors="pt").pixel_values
        assert (adapter.prepare(image).tensors["pixel_values"] - expected).abs().max() < 1e-5


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_a_transparent_picture_is_seen_as_the_family_has_it(mode: str, library: Library, tmp_path: Path) -> None:
    colours = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 4), dtype=np.uint8), "RGBA")
    picture = colours.convert("RGB").quantize(16) if mode == "P" else colours.convert(mode)
    picture.save(tmp_path / "a.png", **({"transparency": 3} if mode == "P" else {}))
    source = ImageSource("a.png", (tmp_path / "a.png").read_bytes)
    dropped = Image.open(tmp_path / "a.png").convert("RGB")
    over = Image.alpha_composite(Image.new("RGBA", (60, 40), "white"), Image.open(tmp_path / "a.png").convert("RGBA"))
    expected = {"drop": dropped, "white": over.convert("RGB")}
    dropping = ("huatuogpt-vision-7b", "llava-med", "vila-m3-8b", "medrega", "citrus-v-8b", "hulu-med-7b")
    for name in (*dropping, "qwen2.5-vl-7b", "llava-1.5-7b"):
        adapter = library.adapter(name)
        assert adapter.alpha == ("drop" if name in dropping else "white")
        seen = open_image(source, alpha=adapter.alpha)
        assert np.array_equal(np.asarray(seen), np.asarray(expected[adapter.alpha]))


def test_a_budget_of_pixels_bounds_qwens_grid(library: Library) -> None:
    spec = models()["qwen2.5-vl-7b"].model_copy(update={"options": {"max_pixels": 50176}})
    adapter = load(spec, source=library.published["qwen2.5-vl-7b"].folder, device="cpu")
    assert adapter.prepare(picture(1000, 1000)).tokens == 64
    assert library.adapter("qwen2.5-vl-7b").prepare(picture(1000, 1000)).tokens == 36 * 36
    with pytest.raises(SampleError, match="image_shape"):
        adapter.prepare(picture(800, 2))


def test_qwens_grid_and_canvas_have_the_images_width_and_height(library: Library) -> None:
    """56 x 28 patches of 14 px, merged two by two."""
    geometry = library.adapter("qwen2.5-vl-7b").prepare(picture(784, 392)).geometry
    assert (geometry.grid.rows, geometry.grid.cols) == (14, 28)
    assert geometry.grid_box() == (0, 0, 784, 392)
    assert geometry.canvas_width == 784


@pytest.mark.usefixtures("rows_first")
def test_qwens_own_package_resizes_to_whole_cells_before_the_processor(library: Library) -> None:
    published, shown = library.published["qwen2.5-vl-3b-vicrop"], picture(1010, 705)
    adapter = load(models()["qwen2.5-vl-3b-vicrop"], source=published.folder, device="cpu")
    first = shown.resize((1008, 700), Image.Resampling.BICUBIC)  # 36 x 25 cells of 28
    once = adapter.image_processor(first, input_data_format="channels_last", return_tensors="pt")
    seen = adapter.prepare(shown)
    assert torch.equal(seen.tensors["pixel_values"], once.pixel_values)
    assert seen.tokens <= 256 and (seen.geometry.width, seen.geometry.height) == (1010, 705)
    alone = adapter.image_processor(shown, input_data_format="channels_last", return_tensors="pt")
    assert not torch.equal(alone.pixel_values, once.pixel_values)


@pytest.mark.parametrize("size,digest", [((512, 768), "7016bf8cea41b93d"), ((768, 512), "8cd04f5c8d870a63")])
def test_pixels_are_those_of_pillow_12_under_any_pillow(size: tuple[int, int], digest: str) -> None:
    """Digests of `Image.resize((336, 336), BICUBIC)` under Pillow 12.2.0; Pillow 13 gives others for the first."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert sha256(pixels.squash(Image.fromarray(values), 336).tobytes()).hexdigest()[:16] == digest


def test_internvl_tiles_can_be_turned_off(library: Library) -> None:
    spec = models()["internvl3-8b"].model_copy(update={"options": {"tiles": False}})
    adapter = load(spec, source=library.published["internvl3-8b"].folder, device="cpu")
    single, tiled = adapter.prepare(picture()), library.adapter("internvl3-8b").prepare(picture())
    assert (single.tokens, single.overview) == (4, 0)
    assert tiled.overview == 4 and tiled.tokens == 4 * len(tiled.tensors["pixel_values"]) > 8


# ---- geometry ------------------------------------------------------------------------------------------------------

MIXES = ("self_attn.out_proj", "attention.projection_layer", "attention.o_proj", "attn.proj")


@pytest.fixture(scope="module")
def local(library: Library) -> Callable[[str], Adapter]:
    """Adapters whose tower lets no patch see another: a feature depends on its own pixels alone."""

    @cache
    def build(name: str) -> Adapter:
        adapter = library.fresh(name)
        inner = adapter.model.model
        tower = inner.visual if hasattr(inner, "visual") else inner.vision_tower
        mixing = [m for n, m in tower.named_modules() if n.endswith(MIXES)]
        assert mixing
        for module in mixing:
            for parameter in module.parameters():
                torch.nn.init.zeros_(parameter)
        return adapter

    return build


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", KINDS)
def test_a_bright_patch_changes_the_token_that_geometry_names(name: str, shape: str, local: Any) -> None:
    adapter, size = local(name), SHAPES[shape]
    plain = Image.new("RGB", size, (90, 90, 90))
    vision = adapter.prepare(plain)
    geometry = vision.geometry
    order = torch.arange(geometry.tokens) if vision.order is None else vision.order
    assert sorted(order.tolist()) == list(range(geometry.tokens))
    tried = 0
    with torch.inference_mode():
        base = adapter.features(vision)
        every = max(5, geometry.tokens // 5)
        for token in sorted({0, 1, geometry.grid.cols, *range(0, geometry.tokens, every), geometry.tokens - 1}):
            cell = geometry.cell_box(token)
            if cell is None or cell.x1 - cell.x0 < 6 or cell.y1 - cell.y0 < 6:
                continue
            x0, y0, x1, y1 = round(cell.x0) + 1, round(cell.y0) + 1, round(cell.x1) - 1, round(cell.y1) - 1
            wide, high = max(3, (x1 - x0) // 5), max(3, (y1 - y0) // 5)
            for part in ((x0, y0, x0 + wide, y0 + high), (x1 - wide, y1 - high, x1, y1), (x0, y0, x1, y1)):
                lit = plain.copy()  # the cell's corners, then all of it
                lit.paste((255, 255, 255), part)
                changed = (adapter.features(adapter.prepare(lit)) - base).norm(dim=-1)[: geometry.tokens][order]
                assert int(changed.argmax()) == token
            box = Box(x0, y0, x1, y1)
            assert geometry.region([box]) == [token]
            row, col = divmod(token, geometry.grid.cols)
            grid = changed.reshape(geometry.grid.rows, geometry.grid.cols).clone()
            grid[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = 0  # a resize filter reaches into neighbours
            assert grid.max() < 0.02 * changed.max()
            left, top, right, bottom = geometry.grid_box()  # where a page lays the heatmap
            wide, high = (right - left) / geometry.grid.cols, (bottom - top) / geometry.grid.rows
            assert left + col * wide <= x0 + 1 and x1 - 1 <= left + (col + 1) * wide
            assert top + row * high <= y0 + 1 and y1 - 1 <= top + (row + 1) * high
            tried += 1
    assert tried >= 3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", KINDS)
def test_the_cells_of_a_box_cover_it(name: str, shape: str, library: Library) -> None:
    width, height = SHAPES[shape]
    geometry = library.adapter(name).prepare(Image.new("RGB", (width, height))).geometry
    rng = np.random.default_rng(0)
    cells = [geometry.cell_box(token) for token in range(geometry.tokens)]
    x_seen, y_seen = (
        ((0 - offset) / scale, (canvas - offset) / scale)
        for offset, scale, canvas in (
            (geometry.offset_x, geometry.scale_x, geometry.canvas_width),
            (geometry.offset_y, geometry.scale_y, geometry.canvas_height),
        )
    )
    for _ in range(30):
        x0, y0 = rng.uniform(0, width - 20), rng.uniform(0, height - 20)
        box = Box(x0, y0, x0 + rng.uniform(3, width - x0), y0 + rng.uniform(3, height - y0))
        covered = [cells[token] for token in geometry.region([box])]
        left, right = max(box.x0, x_seen[0]), min(box.x1, x_seen[1])
        top, bottom = max(box.y0, y_seen[0]), min(box.y1, y_seen[1])
        if left >= right or top >= bottom:
            assert not covered
            continue
        inside = [cell for cell in covered if cell is not None]
        assert len(inside) == len(covered) > 0
        assert min(c.x0 for c in inside) <= left + 1e-6 and max(c.x1 for c in inside) >= right - 1e-6
        assert min(c.y0 for c in inside) <= top + 1e-6 and max(c.y1 for c in inside) >= bottom - 1e-6
        missed = [cell for cell in cells if cell is not None and cell not in inside]
        assert not any(c.x0 < right and left < c.x1 and c.y0 < bottom and top < c.y1 for c in missed)


# ---- commands ------------------------------------------------------------------------------------------------------


def head_file(path: Path, name: str, layers: int, heads: int) -> Path:
    ranked = [(layer, head, 1.0) for layer in range(layers)[:3] for head in range(heads)[:2]]
    head_files.write(path, head_files.HeadFile(name, "x", layers, heads, {}, ranked, [layers - 2]))
    return path


@pytest.mark.usefixtures("loads_once")
@pytest.mark.parametrize("name", KINDS)
def test_probe_and_refine_run_end_to_end(
    name: str, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import polars as pl

    # a random model never comes to an end
    monkeypatch.setattr("vgtool.benchmarks.load.Decoding", lambda tokens, thought: Decoding(3, 3))
    published, model = library.published[name], library.argument(name)
    count = 1
    common = ["--model", model, "--benchmark", "phantom", "--limit", count, "--offline", "--device", "cpu"]
    assert vgtool("probe", *common, "--out", tmp_path / "probe") == 0
    rows = pl.read_parquet(tmp_path / "probe" / "parts" / "*.parquet")
    assert rows.height == count == rows["error"].null_count()
    assert rows["layer_kl"].list.len().to_list() == [published.layers]
    identity = json.loads((tmp_path / "probe" / "run.json").read_text())
    revision = json.dumps(identity)
    assert (checkpoints.COMMIT if models()[name].hub else "local-") in revision
    heads = [] if name == "huatuogpt-vision-7b" else [
        "--heads", head_file(tmp_path / "heads.json", name, published.layers, published.heads)
    ]  # fmt: skip
    others = [] if published.layers > 30 else ["--method", "pai", "--method", "vicrop"]  # no image, two images
    methods = ["--method", "vgrefine", *others]
    assert vgtool("refine", *common, *heads, *methods, "--out", tmp_path / "refine") == 0
    rows = pl.read_parquet(tmp_path / "refine" / "parts" / "*.parquet")
    assert rows.height == rows["error"].null_count() == count * (2 + len(others) // 2)
    kept = rows.filter(pl.col("method") == "vgrefine")["kept"].list.len().to_list()
    tokens = (rows["grid_rows"] * rows["grid_cols"]).to_list()[0]
    assert all(0 < count < tokens for count in kept)


def test_models_are_listed_with_what_is_on_disk(library: Library, capsys: pytest.CaptureFixture[str]) -> None:
    assert vgtool("models", "--json") == 0
    listed = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(listed) == set(models())
    assert listed["medrega"]["disk"] == "yes" and listed["phantom-vlm"]["disk"] == "inside vgtool"
    assert listed["huatuogpt-v-bio"]["disk"] == "local only"
    assert listed["huatuogpt-vision-34b"]["layers x heads"] == "60 x 56"
    (library.cache / "models--Luxuriant16--medrega" / "snapshots" / checkpoints.COMMIT).rename(library.cache / "away")
    try:
        assert vgtool("models", "--json") == 0
        assert {r["model"]: r for r in json.loads(capsys.readouterr().out)}["medrega"]["disk"] == "no"
    finally:
        (library.cache / "away").rename(
            library.cache / "models--Luxuriant16--medrega" / "snapshots" / checkpoints.COMMIT
        )
    assert vgtool("models") == 0
    text = capsys.readouterr().out
    assert "69.5 GB" in text and "Apache-2.0" in text and "24 x 24" in text


def test_every_entry_has_a_tiny_checkpoint_in_its_layout() -> None:
    assert set(NAMES) == {name for name, spec in models().items() if not spec.embedded}


def test_every_entry_says_what_it_takes() -> None:
    for spec in models().values():
        if spec.embedded:
            continue
        assert spec.notes, spec.name
        if spec.hub:
            assert spec.license and spec.size_gb and spec.parameters and spec.layers and spec.heads and spec.grid
    published = models()["huatuogpt-vision-7b"]
    assert len(published.heads_ranked or []) == 20 and published.knockout_layers == [16]
    assert models()["huatuogpt-vision-34b"].knockout_layers == [34, 35, 36]


def test_a_model_that_is_not_on_disk_is_one_sentence_with_the_command(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(VgError) as caught:
        load(models()["huatuogpt-vision-34b"], device="cpu", offline=True)
    said = str(caught.value)
    assert "hf download FreedomIntelligence/HuatuoGPT-Vision-34B" in said and "69.5 GB" in said and "Apache" in said
    with pytest.raises(VgError, match="no public checkpoint"):
        load(models()["huatuogpt-v-bio"], device="cpu", offline=True)


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["original", "fused"])
def test_loading_makes_no_copy_of_the_weights(layout: str, tmp_path: Path) -> None:
    """Above an identical process that loads a tiny checkpoint."""
    size = load_cost.write(tmp_path / "large", layout, 250)
    load_cost.write(tmp_path / "tiny", layout, 1)
    large, tiny = (peak.loading(tmp_path / name, layout) for name in ("large", "tiny"))
    assert size > 150e6
    assert sum(large[kind] - tiny[kind] for kind in ("RssAnon", "VmRSS")) < 1.2 * size


# ---- hub -----------------------------------------------------------------------------------------------------------


def test_a_pinned_revision_is_in_the_command_that_fetches_it() -> None:
    spec = ModelSpec(name="x", title="x", adapter="llava", hub="a/b", revision="abc")
    assert hub.fetch_command(spec) == "hf download a/b --revision abc"
