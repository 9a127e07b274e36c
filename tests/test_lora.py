"""LoRA adapters on models of the registry."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import checkpoints
from tests.library import Library, vgtool
from vgtool.errors import VgError

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
