"""Hulu-Med: its sides, its budget of tokens, its two language models, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import published
from tests.checkpoints import write
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.hulu import patches
from vgtool.models.load import load
from vgtool.registry import ModelSpec

QUESTION = "Is there a lesion in the left lung?"


def opened(folder: Path, **options: Any) -> Adapter:
    spec = ModelSpec(name="hulu", title="hulu", adapter="hulu-med", options=options)
    return load(spec, source=folder, device="cpu", offline=True)


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_over_qwen3_which_its_model_type_does_not_say_logits_equal_a_twin(tmp_path: Path) -> None:
    made = published.hulu(tmp_path / "model", "qwen3")
    adapter = opened(made.folder)
    prompt, vision = adapter.prompt(QUESTION), adapter.prepare(picture(150, 110))
    ids = torch.tensor([[*prompt.head, *made.encode("<image>") * vision.tokens, *prompt.tail]])
    tensors = vision.tensors
    with torch.inference_mode():
        found = adapter.model(**adapter.inputs([vision], prompt.head, prompt.tail).kwargs).logits[0, -1]
        expected = made.twin(
            input_ids=ids, pixel_values=tensors["pixel_values"], image_grid_thw=tensors["grid_thw"],
            image_merge_sizes=tensors["merge_sizes"],
        ).logits[0, -1]  # fmt: skip
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_wide_image_lies_on_a_tall_canvas_unless_its_sides_are_kept(tmp_path: Path) -> None:
    made = published.hulu(tmp_path / "model")
    image = picture(280, 140)
    for options, (rows, cols) in (({}, (20, 10)), ({"sides": "kept"}, (10, 20))):
        vision = opened(made.folder, **options).prepare(image)
        assert (vision.geometry.grid.rows, vision.geometry.grid.cols) == (rows, cols)
        whole = np.array(image.resize((14 * cols, 14 * rows), Image.Resampling.BICUBIC)).astype(np.float32) / 255
        for token in (0, cols, rows * cols - 1):
            row, col = divmod(token, cols)
            cell = whole[14 * row : 14 * row + 14, 14 * col : 14 * col + 14].transpose(2, 0, 1).reshape(-1)
            assert np.abs(vision.tensors["pixel_values"][token].numpy() - (cell - 0.5) / 0.5).max() < 1e-6


@pytest.mark.parametrize("height,width,budget,expected", [
    (140, 280, (16, 16384), (10, 20)),
    (147, 133, (16, 16384), (10, 10)),  # halves are rounded to even, as Python does
    (20, 20, (16, 16384), (4, 4)),
    (3, 300, (16, 16384), (1, 40)),
    (1400, 1400, (16, 400), (20, 20)),
    (1400, 700, (16, 400), (28, 14)),
])  # fmt: skip
def test_sides_are_whole_patches_within_the_budget(height: int, width: int, budget: Any, expected: Any) -> None:
    assert patches(height, width, 14, *budget) == expected


def test_a_template_of_its_own_is_spoken(tmp_path: Path) -> None:
    made = published.hulu(tmp_path / "model")
    (made.folder / "chat_template.json").write_text(json.dumps({"chat_template": (
        "<|im_start|>system\nBe kind.<|im_end|>\n{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )}))  # fmt: skip
    adapter = opened(made.folder)
    assert "Be kind." in adapter.tokenizer.decode(adapter.prompt(QUESTION).head)


@pytest.mark.parametrize("change,said", [
    ({"vision_encoder_config": None}, "vision_encoder_config"),
    ({"mm_projector_type": "simp_spatial_conv"}, "simp_spatial_conv"),
])  # fmt: skip
def test_what_would_be_got_wrong_is_refused(change: Any, said: str, tmp_path: Path) -> None:
    made = published.hulu(tmp_path / "model", **change)
    with pytest.raises(VgError, match=said):
        opened(made.folder)
    whole = published.hulu(tmp_path / "whole")
    with pytest.raises(VgError, match="option sides 'turned'"):
        opened(whole.folder, sides="turned")
    prepared = json.loads((whole.folder / "preprocessor_config.json").read_text())
    for broken, told in (({"image_mean": [0.5]}, "not three numbers"), ({"min_tokens": "few"}, "min_tokens 'few'"),
                         ({"patch_size": 16}, "patch_size 16")):  # fmt: skip
        write(whole.folder / "preprocessor_config.json", {**prepared, **broken})
        with pytest.raises(VgError, match=told):
            opened(whole.folder)
    write(whole.folder / "preprocessor_config.json", {})
    with pytest.raises(VgError, match=r"preprocessor_config\.json"):
        opened(whole.folder)
