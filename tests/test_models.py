"""Every model of the registry from its published layout: weights, prompts, geometry, commands, and what is refused.

Each entry's checkpoint is tiny and random, but has the published file names, weight names, config fields and tokenizer
kind; it stands where the Hugging Face cache would have it, and is loaded by its registry name.
"""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration, SiglipImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from tests import checkpoints, published
from vgtool import commands
from vgtool.errors import SampleError, VgError
from vgtool.grounding import heads as head_files
from vgtool.models import hub, layout
from vgtool.models.adapter import Adapter
from vgtool.models.load import load, resolve
from vgtool.records import Box
from vgtool.registry import ModelSpec, models

WRITERS = {
    **checkpoints.WRITERS,
    "chiron-o1-8b": published.intern_chat,
    "fleming-vl-8b": published.intern_chat,
    "lingshu-i-8b": published.intern_chat,
}
NAMES = tuple(WRITERS)
KINDS = tuple({writer: name for name, writer in reversed(WRITERS.items())}.values())[::-1]
"""One entry of each published layout: the first; the others stand in files of the same kind."""
QUESTION = "Is there a lesion in the left lung?"
SHAPES = {"wide": (330, 150), "tall": (140, 300), "square": (240, 240)}


def again(published: checkpoints.Published, folder: Path) -> checkpoints.Published:
    """The same checkpoint in another folder."""
    return replace(published, folder=Path(shutil.copytree(published.folder, folder)))


class Library:
    """The checkpoints, in a Hugging Face cache, and each loaded once."""

    def __init__(self, root: Path) -> None:
        self.cache = root / "hub"
        self.published: dict[str, checkpoints.Published] = {}
        registry = models()
        first: dict[Any, checkpoints.Published] = {}
        for name, make in WRITERS.items():
            at = registry[name].hub
            write = partial(again, first[make]) if make in first else make
            self.published[name] = checkpoints.in_cache(self.cache, at, write) if at else write(root / name)
            first.setdefault(make, self.published[name])
        clip = next(self.cache.rglob("clip"))
        checkpoints.in_cache(self.cache, "openai/clip-vit-large-patch14-336", lambda f: shutil.copytree(clip, f))
        self.adapter: Callable[[str], Adapter] = cache(self.fresh)

    def fresh(self, name: str, **settings: Any) -> Adapter:
        """A newly loaded adapter, found as the commands find it."""
        spec, source = resolve(self.argument(name))
        return load(spec, source=source, device="cpu", offline=True, **settings)

    def argument(self, name: str) -> str:
        """What --model says."""
        return name if models()[name].hub else str(self.published[name].folder)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    root = tmp_path_factory.mktemp("models")
    patch = pytest.MonkeyPatch()
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(root / "hub"))
    yield Library(root)
    patch.undo()


def picture(width: int = 330, height: int = 150, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


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


FEATURES = {
    "llava-tri": three_scales,
    "vila-m3-8b": vila_features,
    "vila-m3-13b": vila_features,
    "medrega": medrega_features,
}
MARKS = {
    "llava": "<image>",
    "qwen2-vl": "<|image_pad|>",
    "qwen2.5-vl": "<|image_pad|>",
    "qwen3-vl": "<|image_pad|>",
    "internvl": "<IMG_CONTEXT>",
    "gemma3": "<image_soft_token>",
}
PLACEHOLDER = {name: MARKS[spec.adapter] for name, spec in models().items() if spec.adapter in MARKS}
PLACEHOLDER |= dict.fromkeys(("fleming-vl-8b", "chiron-o1-8b", "lingshu-i-8b"), "<IMG_CONTEXT>")


def twin_logits(published: checkpoints.Published, name: str, vision: Any, head: Any, tail: Any) -> Tensor:
    """The twin's last logits: fed as its own processor would, or as the original repository does (embeddings)."""
    twin, tensors = published.twin, dict(vision.tensors)
    if name in PLACEHOLDER:
        image = published.encode(PLACEHOLDER[name])
        ids = torch.tensor([[*head, *image * vision.tokens, *tail]])
        if "image_grid_thw" in tensors:
            tensors["mm_token_type_ids"] = (ids == image[0]).long()
        if models()[name].adapter == "gemma3":
            tensors["token_type_ids"] = (ids == image[0]).long()
        return twin(input_ids=ids, **tensors).logits[0, -1]
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
        other = adapter.prepare(Image.new("RGB", shape, (250, 30, 60)))
        with torch.inference_mode():
            found = [
                adapter.model(**adapter.inputs([one], prompt.head, prompt.tail).kwargs).logits[0, -1]
                for one in (vision, other)
            ]
            expected = twin_logits(published, name, vision, prompt.head, prompt.tail)
        assert (found[0] - expected).abs().max() < 1e-5 * expected.abs().max()
        assert (found[0] - found[1]).abs().max() > 1e-3 * expected.abs().max()  # the image matters


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


def test_a_budget_of_pixels_bounds_qwens_grid(library: Library) -> None:
    spec = models()["qwen2.5-vl-7b"].model_copy(update={"options": {"max_pixels": 50176}})
    adapter = load(spec, source=library.published["qwen2.5-vl-7b"].folder, device="cpu")
    assert adapter.prepare(picture(1000, 1000)).tokens == 64
    assert library.adapter("qwen2.5-vl-7b").prepare(picture(1000, 1000)).tokens == 36 * 36
    with pytest.raises(SampleError, match="image_shape"):
        adapter.prepare(picture(800, 2))


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
        for token in sorted({0, 1, geometry.grid.cols, *range(0, geometry.tokens, 5), geometry.tokens - 1}):
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


# ---- prompts -------------------------------------------------------------------------------------------------------

LLAMA3 = ["<|start_header_id|>", "system", "<|end_header_id|>"]
USER3 = ["<|eot_id|>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n"]
END3 = ["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"]
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
VILA_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
BOS3 = "<|begin_of_text|>"
IM = ("<|im_start|>", "<|im_end|>")
HUATUO = (["<|user|>\n"], [f"\n{QUESTION}\n<|assistant|>\n"])
HAND: dict[str, tuple[list[str], list[str]]] = {
    "huatuogpt-vision-7b": HUATUO,
    "huatuogpt-vision-34b": HUATUO,
    "huatuogpt-v-bio": HUATUO,
    "llava-med": (["<s>", "[INST] "], [f"\n{QUESTION} [/INST]"]),
    "llava-tri": ([BOS3, BOS3, *LLAMA3, f"\n\n{VICUNA}", *USER3], [f"\n{QUESTION}", *END3]),
    "vila-m3-8b": ([BOS3, BOS3, *LLAMA3, f"\n\n{VILA_SYSTEM}", *USER3], [f"\n{QUESTION}", *END3]),
    "vila-m3-13b": (["<s>", f"{VICUNA} USER: "], [f"\n{QUESTION} ASSISTANT:"]),
    "llava-1.5-7b-original": (["<s>", f"{VICUNA} USER: "], [f"\n{QUESTION} ASSISTANT:"]),
    "llava-1.5-7b": (["<s>", "USER: "], [f"\n{QUESTION} ASSISTANT:"]),
    "medrega": (
        [
            IM[0],
            "system\nAnswer the questions.",
            IM[1],
            IM[0],
            "user\nYou are a helpful medical assistant. You are required to answer the question based on the medical "
            "image. ",
            "<img>",
        ],
        ["</img>", f"\n{QUESTION}", IM[1], IM[0], "assistant\n"],
    ),
    "qwen2.5-vl-7b": (
        [IM[0], "system\nYou are a helpful assistant.", IM[1], "\n", IM[0], "user\n", "<|vision_start|>"],
        ["<|vision_end|>", QUESTION, IM[1], "\n", IM[0], "assistant\n"],
    ),
    "qwen3-vl-8b": (
        [IM[0], "user\n", "<|vision_start|>"],
        ["<|vision_end|>", QUESTION, IM[1], "\n", IM[0], "assistant\n"],
    ),
    "internvl3-8b": (
        [IM[0], "user\n", "<img>"],
        ["</img>", f"\n{QUESTION}", IM[1], "\n", IM[0], "assistant\n"],
    ),
    "medgemma-4b": (
        ["<bos>", "<start_of_turn>", "user\n\n\n", "<start_of_image>"],
        ["<end_of_image>", f"\n\n{QUESTION}", "<end_of_turn>", "\n", "<start_of_turn>", "model\n"],
    ),
}
HAND["lingshu-7b"] = HAND["aloe-vision-7b"] = HAND["qwen2.5-vl-7b"]
INTERN = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
HAND["lingshu-i-8b"] = HAND["chiron-o1-8b"] = (
    [IM[0], f"system\n{INTERN}", IM[1], "\n", IM[0], "user\n", "<img>"],
    ["</img>", f"\n{QUESTION}", IM[1], "\n", IM[0], "assistant\n"],
)
for name in ("medmo-4b", "medmo-8b", "healthgpt-pro-4b", "healthgpt-pro-8b"):
    HAND[name] = HAND["qwen3-vl-8b"]
for name in ("medgemma-1.5-4b", "medgemma-27b"):
    HAND[name] = HAND["medgemma-4b"]
for name in ("lingshu-32b", "huatuogpt-vision-7b-qwen2.5vl"):
    HAND[name] = HAND["qwen2.5-vl-7b"]


def asked(name: str, before: str, after: str) -> tuple[list[str], list[str]]:
    """The hand-made prompt of `name` with instructions around the question."""
    head, tail = HAND[name]
    return head, [piece.replace(QUESTION, before + QUESTION + after) for piece in tail]


HAND["med-r1"] = asked(
    "qwen2.5-vl-7b",
    "",
    " First output the thinking process in <think> </think> and final choice (A, B, C, D ...) in <answer> </answer> "
    "tags.",
)
HAND["medvlm-r1"] = asked(
    "qwen2.5-vl-7b",
    "\n    ",
    "\n    Your task:\n    1. Think through the question step by step, enclose your reasoning process in "
    "<think>...</think> tags.\n    2. Then provide the correct single-letter choice (A, B, C, D,...) inside "
    "<answer>...</answer> tags.\n    3. No extra information or text outside of these tags.\n    ",
)
HAND["qoq-med-7b"] = HAND["qoq-med-32b"] = asked(
    "qwen2.5-vl-7b",
    "",
    " You FIRST think about the reasoning process as an internal monologue and then provide the final answer.\nBefore "
    "analyzing medical images, you must identify and outline all objects of interest that are relevant to diagnosis in "
    'json format, with list od bounding box in a key called "bbox_2d" with the format [x1, y1, x2, y2]. The json '
    "should be wrapped in ```json ... ``` tags. The reasoning process MUST BE enclosed within <think> </think> tags. "
    "The final answer MUST BE put in \\boxed{}.",
)
HAND["medvlthinker-7b"] = (
    [
        IM[0],
        "system\nYou will solve a problem/request. You should provide your thoughts within <think> </think> tags "
        "before providing the answer.\nWrite your final answer within <answer> </answer> tags.",
        *HAND["qwen2.5-vl-7b"][0][2:],
    ],
    HAND["qwen2.5-vl-7b"][1],
)
FLEMING = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user a concise final answer in a short "
    "word or phrase. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
    "tags, respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>"
)
HAND["fleming-vl-8b"] = (
    [*HAND["chiron-o1-8b"][0][:5], f"user\n{FLEMING}\n", "<img>"],
    HAND["chiron-o1-8b"][1],
)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_the_originals_token_for_token(name: str, library: Library) -> None:
    adapter, encode = library.adapter(name), library.published[name].encode
    prompt = adapter.prompt(f" {QUESTION} ")
    head, tail = ([token for piece in side for token in encode(piece)] for side in HAND[name])
    assert list(prompt.head) == head
    assert list(prompt.tail) == tail
    text = adapter.tokenizer.decode(prompt.tail[slice(*prompt.question)])
    assert QUESTION in text and len(text) <= len(QUESTION) + 2


def test_medgemmas_prompt_is_its_processors(library: Library) -> None:
    from transformers import Gemma3ImageProcessorPil, Gemma3Processor

    adapter, image = library.adapter("medgemma-4b"), picture()
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 112, "width": 112}), adapter.tokenizer, image_seq_length=16
    )
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], chat_template=checkpoints.GEMMA_CHAT, add_generation_prompt=True
    )
    out = processor(images=image, text=text.removeprefix("<bos>"), return_tensors="pt")
    prompt = adapter.prompt(QUESTION)
    ids = out.input_ids[0].tolist()
    assert ids == [*prompt.head, *library.published["medgemma-4b"].encode("<image_soft_token>") * 16, *prompt.tail]


def test_a_tokenizer_model_alone_keeps_the_space_before_the_first_word(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b", tmp_path)
    (folder / "tokenizer.json").unlink()
    adapter = load(models()["llava-1.5-7b"], source=folder, device="cpu")
    assert adapter.prompt(QUESTION) == library.adapter("llava-1.5-7b").prompt(QUESTION)


@pytest.mark.parametrize("name,ends", [
    ("huatuogpt-vision-7b", ["<|endoftext|>"]),
    ("huatuogpt-vision-34b", ["</s>"]),
    ("llava-med", ["</s>"]),
    ("llava-tri", ["<|end_of_text|>", "<|eot_id|>"]),
    ("vila-m3-8b", ["<|end_of_text|>", "<|eot_id|>"]),
    ("vila-m3-13b", ["</s>"]),
    ("medrega", ["</s>", "<|im_end|>"]),
    ("qwen2.5-vl-7b", ["<|im_end|>"]),
    ("medgemma-4b", ["<eos>", "<end_of_turn>"]),
])  # fmt: skip
def test_answers_end_where_the_original_ends_them(name: str, ends: list[str], library: Library) -> None:
    encode = library.published[name].encode
    assert library.adapter(name).eos >= {encode(word)[0] for word in ends}


@pytest.mark.parametrize(
    "name", ["qwen2.5-vl-7b", "internvl3-8b", "medgemma-4b", "medrega", "llava-1.5-7b", "llava-med"]
)
def test_an_image_placeholder_in_a_question_is_refused(name: str, library: Library) -> None:
    with pytest.raises(SampleError, match="placeholder_in_question"):
        library.adapter(name).prompt(f"Is {PLACEHOLDER.get(name, '<image>')} red?")


# ---- commands ------------------------------------------------------------------------------------------------------


def vgtool(*args: object) -> int:
    """A command in this process; its exit code."""
    return int(commands.app([str(arg) for arg in args], standalone_mode=False) or 0)


def head_file(path: Path, name: str, layers: int, heads: int) -> Path:
    ranked = [(layer, head, 1.0) for layer in range(layers)[:3] for head in range(heads)[:2]]
    head_files.write(path, head_files.HeadFile(name, "x", layers, heads, {}, ranked, [layers - 2]))
    return path


@pytest.mark.parametrize("name", KINDS)
def test_probe_and_refine_run_end_to_end(name: str, library: Library, tmp_path: Path) -> None:
    import polars as pl

    published, model = library.published[name], library.argument(name)
    common = ["--model", model, "--benchmark", "phantom", "--limit", 2, "--offline", "--device", "cpu"]
    assert vgtool("probe", *common, "--out", tmp_path / "probe") == 0
    rows = pl.read_parquet(tmp_path / "probe" / "parts" / "*.parquet")
    assert rows.height == 2 and rows["error"].null_count() == 2
    assert rows["layer_kl"].list.len().to_list() == [published.layers] * 2
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
    assert rows.height == rows["error"].null_count() == 4 + len(others)
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


# ---- recognition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config,expected", [
    ({"model_type": "llava_qwen2"}, ("llava-original", "huatuogpt-vision-7b")),
    ({"model_type": "llava_llama", "vocab_size": 64000}, ("llava-original", "huatuogpt-vision-34b")),
    ({"model_type": "llava_llama", "vocab_size": 64002}, ("llava-original", "huatuogpt-vision-34b")),
    ({"model_type": "llava_llama", "vocab_size": 128256, "s2": True}, ("llava-original", "llava-tri")),
    ({"model_type": "llava_llama", "vocab_size": 128257, "s2": True}, ("llava-original", "llava-tri")),
    ({"model_type": "llava_llama", "vocab_size": 32000}, ("llava-original", "llava-1.5-7b-original")),
    ({"model_type": "llava_llama", "vocab_size": 32003}, ("llava-original", "llava-1.5-7b-original")),
    ({"model_type": "llava_mistral"}, ("llava-original", "llava-med")),
    ({"model_type": "llava_qwen2", "mm_vision_tower": "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"},
     ("llava-original", "huatuogpt-v-bio")),
    ({"model_type": "llava", "mm_projector_type": "mlp2x_gelu"}, ("llava-original", "llava-1.5-7b-original")),
])  # fmt: skip
def test_original_layouts_are_told_apart_by_vocabulary(config: Any, expected: Any, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", config)
    assert layout.recognise(tmp_path) == expected


@pytest.mark.parametrize("size", [151646, 259, None])
def test_a_vocabulary_of_no_known_model_asks_for_an_entry_and_takes_no_prompt(size: Any, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", {"model_type": "llava_llama", "vocab_size": size})
    with pytest.raises(VgError, match=f"vocabulary of {size}") as caught:
        resolve(str(tmp_path))
    assert f"entry '{tmp_path.name}'" in str(caught.value) and "--registry DIR" in str(caught.value)


@pytest.mark.parametrize("config,said", [
    ({"model_type": "llava_llama", "vocab_size": 128256}, "over Llama 3 (vocabulary 128256) without S2"),
    ({"model_type": "llava_llama", "vocab_size": 128256, "s2": False}, "without S2"),
    ({"model_type": "llava_mistral", "image_aspect_ratio": "anyres"}, "cuts its image into views"),
    ({"model_type": "llava_llama", "vocab_size": 64000, "image_aspect_ratio": "anyres_max_9"}, "anyres_max_9"),
])  # fmt: skip
def test_a_layout_that_several_models_share_takes_no_ones_prompt(config: Any, said: str, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", config)
    with pytest.raises(VgError) as caught:
        resolve(str(tmp_path))
    assert said in str(caught.value)
    named = tmp_path / "LLaVA-Tri-VQARAD"  # called as its repository, the entry's
    checkpoints.write(named / "config.json", {"model_type": "llava_llama", "vocab_size": 128256})
    assert resolve(str(named))[0].prompt == models()["llava-tri"].prompt


def test_an_entry_called_as_a_local_folder_lends_it_its_prompt(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(library, "llava-tri", tmp_path)
    entry = 'model:\n  title: Ours\n  adapter: llava-original\n  prompt: "Q <image> {question} A"\n'
    (tmp_path / "models.yaml").write_text(entry)
    monkeypatch.chdir(tmp_path)
    for argument in (str(folder), "model"):
        spec, source = resolve(argument, tmp_path)
        adapter = load(spec, source=source, device="cpu", offline=True)
        assert adapter.template == "Q <image> {question} A" and adapter.scales == 3  # type: ignore[attr-defined]


def test_a_type_without_an_adapter_of_its_own_is_left_to_transformers(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", {"model_type": "blip", "auto_map": {"AutoModel": "evil.M"}})
    spec, folder = resolve(str(tmp_path))
    assert spec.adapter == "native"
    with pytest.raises(VgError, match=r"config\.json of .* asks to run code from the checkpoint"):
        load(spec, source=folder, device="cpu", offline=True)
    checkpoints.write(tmp_path / "config.json", {"hidden_size": 4})
    with pytest.raises(VgError, match="names no model_type") as caught:
        resolve(str(tmp_path))
    assert "llava_qwen2" in str(caught.value)
    with pytest.raises(VgError, match=r"no config\.json"):
        resolve(str(tmp_path.parent))
    with pytest.raises(VgError, match="Did you mean 'medrega'"):
        resolve("medreag")


TOLD_BY_SIZE = ("huatuogpt-vision-34b", "llava-tri", "llava-1.5-7b-original", "vila-m3-13b")
"""Models whose tiny copies have another vocabulary, or fewer layers, than tell them."""
SPEAKS_FOR_ITSELF = ("llava", "internvl-chat")
"""Layouts whose folders lend no entry's prompt: their files name one."""


@pytest.mark.parametrize("name", [n for n in NAMES if n not in TOLD_BY_SIZE])
def test_a_local_folder_is_recognised(name: str, library: Library) -> None:
    spec, folder = resolve(str(library.published[name].folder))
    registered = models()[name]
    assert spec.adapter == registered.adapter and folder == library.published[name].folder
    assert spec.prompt == (None if registered.adapter in SPEAKS_FOR_ITSELF else registered.prompt)


# ---- what is refused -----------------------------------------------------------------------------------------------


def copied(library: Library, name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(library.published[name].folder, tmp_path / "model"))


def edit(path: Path, **fields: Any) -> None:
    checkpoints.write(path, json.loads(path.read_text()) | fields)


def refused(folder: Path, name: str) -> str:
    """What loading says; one paragraph without line breaks."""
    with pytest.raises(VgError) as caught:
        load(models()[name], source=folder, device="cpu", offline=True)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("name,key,native", [
    ("huatuogpt-vision-7b", "model.layers.0.self_attn.q_proj.weight", "language_model.layers.0.self_attn.q_proj"),
    ("llava-med", "model.vision_tower.vision_tower.vision_model.encoder.layers.1.mlp.fc1.bias", "1.mlp.fc1.bias"),
    ("llava-tri", "model.mm_projector.2.weight", "linear_2.weight"),
    ("medrega", "vision_model.encoder.layers.0.attn.qkv.weight", "layer.0.attention.q_proj.weight"),
    ("qwen3-vl-8b", "model.visual.blocks.0.attn.qkv.weight", "visual.blocks.0.attn.qkv.weight"),
    ("medgemma-4b", "multi_modal_projector.mm_input_projection_weight", "mm_input_projection_weight"),
    ("internvl3-8b", "vision_tower.encoder.layer.0.attention.q_proj.weight", "layer.0.attention.q_proj.weight"),
])  # fmt: skip
def test_a_renamed_weight_is_named_and_refused(
    name: str, key: str, native: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    file = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][key]
    tensors = load_file(file)
    tensors[f"{key}_x"] = tensors.pop(key)
    file.unlink()
    save_file(tensors, file)
    said = refused(folder, name)
    assert "lacks model." in said and native in said


def test_a_weight_of_another_shape_or_too_many_are_refused(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-med", tmp_path)
    file = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(file)
    file.unlink()
    save_file({**tensors, "model.extra.weight": torch.ones(2)}, file)
    assert "model.extra.weight" in refused(folder, "llava-med")
    cut = {n: v[:-1].contiguous() if n.endswith("up_proj.weight") else v for n, v in tensors.items()}
    file.unlink()
    save_file(cut, file)
    assert "another shape" in refused(folder, "llava-med") or "up_proj" in refused(folder, "llava-med")


def test_a_missing_shard_a_broken_one_and_an_lfs_pointer_are_refused(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "huatuogpt-vision-7b", tmp_path)
    file = folder / "model-00002-of-00002.safetensors"
    data = file.read_bytes()
    file.unlink()
    assert "lacks model-00002-of-00002.safetensors" in refused(folder, "huatuogpt-vision-7b")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    assert "Git LFS pointer" in refused(folder, "huatuogpt-vision-7b")
    file.write_bytes(data[:-100])
    assert "not a whole safetensors file" in refused(folder, "huatuogpt-vision-7b")
    file.write_bytes(data)
    (folder / "tokenizer.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in refused(folder, "huatuogpt-vision-7b")
    (folder / "config.json").write_text("[1]")
    assert "JSON object" in refused(folder, "huatuogpt-vision-7b")


class Payload:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_with_a_payload_is_refused_and_not_run(library: Library, tmp_path: Path) -> None:
    folder, mark = copied(library, "llava-1.5-7b-original", tmp_path), tmp_path / "executed"
    shard = folder / "pytorch_model-00002-of-00002.bin"
    for write in (
        lambda: torch.save({"w": Payload(mark)}, shard),
        lambda: shard.write_bytes(pickle.dumps(Payload(mark))),
    ):
        write()
        assert "nothing in it was run" in refused(folder, "llava-1.5-7b-original")
        assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))  # noqa: S301 (the payload works, where something runs it)
    assert mark.exists()


def test_bin_files_of_either_age_are_read(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    for shard in folder.glob("pytorch_model-*.bin"):
        torch.save(torch.load(shard), shard, _use_new_zipfile_serialization=False)
    old = load(models()["llava-1.5-7b-original"], source=folder, device="cpu", offline=True)
    new = library.adapter("llava-1.5-7b-original")
    pairs = zip(old.model.state_dict().values(), new.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name,file", [
    ("llava-1.5-7b", "config.json"),
    ("qwen2.5-vl-7b", "config.json"),
    ("medgemma-4b", "preprocessor_config.json"),
    ("internvl3-8b", "tokenizer_config.json"),
    ("huatuogpt-vision-7b", "tokenizer_config.json"),
    ("medrega", "tokenizer_config.json"),
])  # fmt: skip
def test_remote_code_is_refused(name: str, file: str, library: Library, tmp_path: Path) -> None:
    folder, mark = copied(library, name, tmp_path), tmp_path / "executed"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    edit(folder / file, auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", None]})
    assert "auto_map" in refused(folder, name)
    assert not mark.exists() and "evil" not in sys.modules


def test_medregas_own_code_is_never_run(library: Library, tmp_path: Path) -> None:
    folder, mark = copied(library, "medrega", tmp_path), tmp_path / "executed"
    for module in ("configuration_internvl_chat", "modeling_chat"):
        (folder / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert "auto_map" in json.loads((folder / "config.json").read_text())
    assert load(models()["medrega"], source=folder, device="cpu").layers == 4
    assert not mark.exists()


@pytest.mark.parametrize("name,file,change,said", [
    ("llava-med", "config.json", {"image_aspect_ratio": "anyres"}, "anyres"),
    ("llava-med", "config.json", {"mm_vision_select_feature": "cls_patch"}, "cls_patch"),
    ("llava-med", "config.json", {"mm_use_im_start_end": True}, "mm_use_im_start_end"),
    ("llava-med", "config.json", {"s2": True}, "S2"),
    ("llava-med", "config.json", {"num_attention_heads": "many"}, "num_attention_heads"),
    ("llava-med", "config.json", {"quantization_config": {"bits": 4}}, "quantised"),
    ("llava-tri", "config.json", {"s2_scales": "84,252"}, "84,252"),
    ("vila-m3-8b", "config.json", {"image_aspect_ratio": "dynamic"}, "dynamic"),
    ("vila-m3-8b", "mm_projector/config.json", {"mm_projector_type": "mlp_downsample_3x3_fix"}, "3x3"),
    ("vila-m3-8b", "llm/config.json", {"model_type": "gpt9"}, "gpt9"),
    ("lingshu-i-8b", "config.json", {"template": "internvl9"}, "internvl9"),
    ("medrega", "config.json", {"llm_config": None}, "llm_config"),
    ("qwen2.5-vl-7b", "preprocessor_config.json", {"patch_size": 16}, "patches"),
    ("internvl3-8b", "preprocessor_config.json", {"size": {"height": 84, "width": 84}}, "56 x 56"),
    ("medgemma-4b", "preprocessor_config.json", {"do_pan_and_scan": True}, "112 x 112"),
])  # fmt: skip
def test_settings_that_would_be_got_wrong_are_refused(
    name: str, file: str, change: Any, said: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    edit(folder / file, **change)
    if name == "llava-med":
        spec = models()[name].model_copy(update={"options": {}})
        with pytest.raises(VgError) as caught:
            load(spec, source=folder, device="cpu")
        assert said in str(caught.value) and "\n" not in str(caught.value)
    else:
        assert said in refused(folder, name)


def test_medregas_second_pixel_shuffle_is_row_major(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "medrega", tmp_path)
    edit(folder / "config.json", ps_version="v2")
    second, first = load(models()["medrega"], source=folder, device="cpu"), library.adapter("medrega")
    image = picture()
    one, two = first.prepare(image), second.prepare(image)
    assert two.order is None and one.order is not None
    with torch.inference_mode():
        assert torch.equal(second.features(two), first.features(one)[one.order])


def test_an_index_whose_shards_are_all_gone_yields_to_the_one_whole_file(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-med", tmp_path)
    tensors = {name: value for shard in folder.glob("*.safetensors") for name, value in load_file(shard).items()}
    first, *rest = sorted(folder.glob("*.safetensors"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for shard in rest:
        shard.unlink()
    assert "lacks model-00002" in refused(folder, "llava-med")
    first.unlink()
    adapter = load(models()["llava-med"], source=folder, device="cpu")
    pairs = zip(
        adapter.model.state_dict().values(), library.adapter("llava-med").model.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_unknown_option_of_an_entry_is_refused_by_name(library: Library) -> None:
    spec = models()["llava-med"].model_copy(update={"options": {"apsect": "pad"}})
    with pytest.raises(VgError, match="Did you mean 'aspect'"):
        load(spec, source=library.published["llava-med"].folder, device="cpu")


def test_a_tower_from_elsewhere_is_only_openais(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    for other in ("somebody/else", "openai/clip-vit-large-patch14", ""):
        edit(folder / "config.json", mm_vision_tower=other)
        assert f"asks for '{other}'" in refused(folder, "llava-1.5-7b-original")
    assert checkpoints.COMMIT in library.adapter("llava-1.5-7b-original").revision.split("+clip-")[1]


def test_a_tower_named_by_its_authors_path_is_fetched_all_the_same(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    edit(folder / "config.json", mm_vision_tower="/mnt/nfs/openai/clip-vit-large-patch14-336/")
    adapter = load(models()["llava-1.5-7b-original"], source=folder, device="cpu", offline=True)
    assert adapter.revision.endswith(f"+clip-{checkpoints.COMMIT}")


# ---- LoRA ----------------------------------------------------------------------------------------------------------


def adapter_folder(
    folder: Path, base: Any, module: str, width: int, height: int, **config: Any
) -> tuple[Tensor, Tensor]:
    """A LoRA adapter of one module, as peft saves it."""
    generator = torch.Generator().manual_seed(1)
    low, high = torch.randn(2, width, generator=generator), torch.randn(height, 2, generator=generator)
    tensors = {f"base_model.model.{module}.lora_{n}.weight": t for n, t in (("A", low), ("B", high))}
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    checkpoints.write(folder / "adapter_config.json", settings | config)
    return low, high


@pytest.mark.parametrize("name,module,native", [
    ("llava-med", "model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"),
    ("medrega", "language_model.model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"),
    ("qwen2.5-vl-7b", "model.layers.1.self_attn.q_proj", "model.language_model.layers.1.self_attn.q_proj"),
    ("llava-1.5-7b", "language_model.model.layers.1.self_attn.q_proj",
     "model.language_model.layers.1.self_attn.q_proj"),
])  # fmt: skip
def test_a_lora_adapter_adds_its_product_to_the_base(
    name: str, module: str, native: str, library: Library, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    before = library.adapter(name).model.get_submodule(native).weight
    low, high = adapter_folder(tmp_path / "lora", before, module, before.shape[1], before.shape[0])
    adapter = library.fresh(name, lora=tmp_path / "lora")
    after = adapter.model.get_submodule(native).weight
    assert torch.allclose(after, before + 8 / 2 * high @ low, atol=1e-5)
    untouched = [p for n, p in adapter.model.named_parameters() if n != f"{native}.weight"]
    expected = [p for n, p in library.adapter(name).model.named_parameters() if n != f"{native}.weight"]
    assert all(torch.equal(a, b) for a, b in zip(untouched, expected, strict=True))
    assert "+lora-" in adapter.revision
    assert type(adapter.model) is type(library.adapter(name).model)


def test_a_lora_adapter_runs_from_the_command_and_leaves_the_base_file_alone(library: Library, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter_folder(tmp_path / "lora", None, "model.layers.1.self_attn.q_proj", 16, 16)
    files = {path: path.read_bytes() for path in library.published["llava-med"].folder.glob("*.safetensors")}
    common = ["--benchmark", "phantom", "--limit", 1, "--offline", "--device", "cpu", "--lora", tmp_path / "lora"]
    assert vgtool("probe", "--model", "llava-med", *common, "--out", tmp_path / "run") == 0
    assert f"{checkpoints.COMMIT}+lora-" in (tmp_path / "run" / "run.json").read_text()
    assert all(path.read_bytes() == data for path, data in files.items())


def test_whole_weights_beside_lora_replace_the_bases(library: Library, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    weight = library.adapter("llava-med").model.model.multi_modal_projector.linear_1.weight
    adapter_folder(tmp_path / "lora", None, "model.layers.0.self_attn.q_proj", 16, 16)
    projector = {"base_model.model.model.mm_projector.0.weight": torch.full_like(weight, 0.5)}
    torch.save(projector, tmp_path / "lora" / "non_lora_trainables.bin")
    adapter = library.fresh("llava-med", lora=tmp_path / "lora")
    assert (adapter.model.model.multi_modal_projector.linear_1.weight == 0.5).all()


@pytest.mark.parametrize("module,width,config,said", [
    ("model.layers.9.self_attn.q_proj", 16, {}, "layers.9"),
    ("model.layers.1.self_attn.q_proj", 17, {}, "do not fit"),
    ("model.layers.1.self_attn.q_proj", 16, {"peft_type": "PREFIX_TUNING"}, "no plain LoRA"),
    ("model.layers.1.self_attn.q_proj", 16, {"use_dora": True}, "no plain LoRA"),
])  # fmt: skip
def test_a_lora_adapter_of_another_base_is_refused(
    module: str, width: int, config: Any, said: str, library: Library, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    adapter_folder(tmp_path / "lora", None, module, width, 16, **config)
    with pytest.raises(VgError, match=said):
        library.fresh("llava-med", lora=tmp_path / "lora")


def test_lora_without_peft_names_the_extra(library: Library, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(VgError, match="peft"):
        library.fresh("llava-med", lora=tmp_path)


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["original", "fused"])
def test_loading_makes_no_copy_of_the_weights(layout: str) -> None:
    script = Path(__file__).parents[1] / "perf" / "load.py"
    command = [sys.executable, str(script), "--megabytes", "250", "--layouts", layout, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=script.parents[1])
    measured = json.loads(done.stdout)
    assert measured["weights_mb"] > 150
    assert measured["anonymous"] + measured["resident"] < 1.2


# ---- hub -----------------------------------------------------------------------------------------------------------


def test_a_pinned_revision_is_in_the_command_that_fetches_it() -> None:
    spec = ModelSpec(name="x", title="x", adapter="llava", hub="a/b", revision="abc")
    assert hub.fetch_command(spec) == "hf download a/b --revision abc"
