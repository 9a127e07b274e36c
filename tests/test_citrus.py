"""Citrus-V: its language side in either generation of names, and what is left out."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import published
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.load import load
from vgtool.registry import ModelSpec


def opened(folder: Path) -> Adapter:
    return load(ModelSpec(name="citrus", title="citrus", adapter="citrus-v"), source=folder, device="cpu", offline=True)


def test_either_generation_of_names_is_the_same_qwen(tmp_path: Path) -> None:
    image = Image.new("RGB", (90, 60), (200, 10, 40))
    made, older = published.citrus(tmp_path / "now"), published.citrus(tmp_path / "older", older=True)
    rows = []
    for one in (made, older):
        adapter = opened(one.folder)
        prompt, vision = adapter.prompt("Is it?"), adapter.prepare(image)
        assert not [name for name, _ in adapter.model.named_parameters() if "seg" in name or "grounding" in name]
        with torch.inference_mode():
            inputs = adapter.inputs([vision], prompt.head, prompt.tail)
            rows.append(adapter.model(**inputs.kwargs).logits[0, -1])
            kwargs = {name: value for name, value in inputs.kwargs.items() if name != "position_ids"}
            expected = one.twin(**kwargs).logits[0, -1]
        assert (rows[-1] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert torch.equal(*rows)


def test_a_weight_outside_the_language_side_that_is_not_known_is_named(tmp_path: Path) -> None:
    made = published.citrus(tmp_path / "model")
    file = sorted(made.folder.glob("*.safetensors"))[0]
    tensors = load_file(file)
    file.unlink()
    save_file({**tensors, "second_encoder.weight": torch.ones(2)}, file)
    index = made.folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"]["second_encoder.weight"] = file.name
    index.write_text(json.dumps(listed))
    with pytest.raises(VgError, match=r"second_encoder\.weight"):
        opened(made.folder)
