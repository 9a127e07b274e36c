"""LoRA adapters on models of the registry."""

import copy
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import checkpoints
from tests.library import Library, vgtool
from vgtool.errors import VgError
from vgtool.models import lora
from vgtool.models.load import load
from vgtool.registry import models

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
    ("model.layers.1.self_attn.q_proj", 16, {"peft_type": "PREFIX_TUNING"}, "'PREFIX_TUNING', which is not merged"),
    ("model.layers.1.self_attn.q_proj", 16, {"peft_type": None}, "peft_type None"),
    ("model.layers.1.self_attn.q_proj", 16, {"use_dora": True}, "lacks weights"),
    ("model.layers.1.self_attn.q_proj", 16, {"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens set"),
    ("model.layers.1.self_attn.q_proj", 16, {"target_parameters": ["experts"]}, "target_parameters set"),
    ("model.layers.1.self_attn.q_proj", 16, {"init_lora_weights": "pissa_niter_4"}, "changed its base"),
    ("model.layers.1.self_attn.q_proj", 16, {"init_lora_weights": "corda"}, "changed its base"),
    ("model.layers.1.self_attn.q_proj", 16, {"lora_next": True}, "a setting 'lora_next'"),
    ("model.layers.1.self_attn.q_proj", 16, {"r": "many"}, "do not fit|cannot be used"),
])  # fmt: skip
def test_an_adapter_that_would_be_merged_wrongly_is_refused(
    module: str, width: int, config: Any, said: str, library: Library, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    adapter_folder(tmp_path / "lora", None, module, width, 16, **config)
    with pytest.raises(VgError, match=said) as caught:
        library.fresh("llava-med", lora=tmp_path / "lora")
    assert "\n" not in str(caught.value)


def test_h_lora_and_a_quantised_base_are_refused_by_name(library: Library, tmp_path: Path) -> None:
    adapter = library.fresh("llava-med")
    adapter_folder(tmp_path / "lora", None, "model.layers.1.self_attn.q_proj", 16, 16)
    adapter.model.config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(VgError, match=r"--lora: 'llava-med' is quantised \(gptq\), so that no merge is exact"):
        lora.apply(adapter, tmp_path / "lora")
    (tmp_path / "com_hlora_weights.bin").write_bytes(b"weights")
    with pytest.raises(VgError, match="holds H-LoRA weights without their language model"):
        library.fresh("llava-med", lora=tmp_path)


TARGETS = ["q_proj", "v_proj", "up_proj", "linear_1", "fc1"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "LORA": {},
    "LORA pissa": {"init_lora_weights": "pissa"},
    "LORA olora": {"init_lora_weights": "olora"},
    "LORA orthogonal": {"init_lora_weights": "orthogonal"},
    "LORA dora": {"use_dora": True},
    "LORA rslora": {"use_rslora": True, "lora_alpha": 3},
    "LORA bias": {"bias": "all"},
    "LORA patterns": {
        "rank_pattern": {"model.language_model.layers.1.self_attn.q_proj": 2, "fc1": 6, ".*projector.linear_1": 3},
        "alpha_pattern": {"up_proj": 32, "model.vision_tower.encoder.layers.0.mlp.fc1": 2},
    },
    "LORA whole": {"modules_to_save": ["lm_head", "linear_2"]},
    "LORA embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "LORA rows": {"trainable_token_indices": [5, 6]},
    "LORA all-linear": {"target_modules": "all-linear"},
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 2, "rank_pattern": "all but one"},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 4},
    "DELORA": {"rank_pattern": {"fc1": 2}},
    "FOURIERFT": {"n_frequency": 10, "n_frequency_pattern": {"fc1": 5}},
    "HRA": {},
    "IA3": {"feedforward_modules": ["up_proj", "fc1"]},
    "LN_TUNING": {"target_modules": ["input_layernorm", "norm"]},
    "LOHA": {"alpha_pattern": {"fc1": 2}},
    "LOKR": {"rank_pattern": {"fc1": 2}},
    "MISS": {},
    "OFT": {"r": 0, "oft_block_size": 4},
    "RANDLORA": {},
    "ROAD": {"group_size": 4},
    "SHIRA": {},
    "VBLORA": {"vector_length": 4, "num_vectors": 16, "topk": 2},
    "VERA": {},
    "WAVEFT": {"n_frequency": 16},
}
"""peft_type, and what tells the case apart -> settings."""
OLD = (
    ("model.language_model.", "language_model.model."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    ("lm_head", "language_model.lm_head"),
)
"""Today's names as transformers before 4.52 had them."""


def older(name: str) -> str:
    for new, old in OLD:
        if name.startswith(new):
            return name.replace(new, old, 1)
    return name


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = checkpoints.llava_hf(tmp_path_factory.mktemp("base") / "model").folder
    adapter = load(models()["llava-1.5-7b"], source=folder, device="cpu", offline=True)
    del adapter.text.layers[2:], adapter.model.model.vision_tower.encoder.layers[1:]
    return adapter


def copied_adapter(base: Any) -> Any:
    return dataclasses.replace(base, model=copy.deepcopy(base.model))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ADAPTERS)
def test_merged_weights_are_pefts_own_under_new_names_and_old(name: str, base: Any, tmp_path: Path) -> None:
    peft: Any = pytest.importorskip("peft")
    kind = name.split()[0]
    settings = {"target_modules": TARGETS, **ADAPTERS[name]}
    known = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)]
    if "r" in {one.name for one in dataclasses.fields(known)}:
        settings = {"r": 4, **settings}
    resized = settings.pop("rank_pattern", None) if kind == "ADALORA" else None
    torch.manual_seed(0)
    made = peft.get_peft_model(copy.deepcopy(base.model), known(**settings))
    for parameter in made.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    if resized:
        weights = [n for n, _ in made.named_parameters() if ".lora_E." in n]
        made.peft_config["default"].rank_pattern = {
            n.removeprefix("base_model.model.").replace(".default", ""): [True, True, True, at != 0]
            for at, n in enumerate(weights)
        }
    made.save_pretrained(tmp_path / "new")
    expected = peft.PeftModel.from_pretrained(copy.deepcopy(base.model), tmp_path / "new").merge_and_unload()
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    file, prefix = tmp_path / "old" / "adapter_model.safetensors", "base_model.model."
    tensors = load_file(file)
    save_file(
        {prefix + older(n.removeprefix(prefix)) if n.startswith(prefix) else n: t for n, t in tensors.items()}, file
    )
    config = json.loads((tmp_path / "old" / "adapter_config.json").read_text())
    for pattern in (p for p in config if p.endswith("_pattern") and isinstance(config[p], dict)):
        config[pattern] = {older(key): value for key, value in config[pattern].items()}
    checkpoints.write(tmp_path / "old" / "adapter_config.json", config)
    wanted = dict(expected.named_parameters())
    before = dict(base.model.named_parameters())
    assert max(float((wanted[n] - before[n]).abs().max()) for n in wanted) > 0.01
    for names in ("new", "old"):
        adapter = copied_adapter(base)
        lora.apply(adapter, tmp_path / names)
        found = dict(adapter.model.named_parameters())
        assert found.keys() == wanted.keys()
        assert max(float((wanted[n] - found[n]).abs().max()) for n in wanted) < 1e-6


def test_every_method_of_peft_is_tested_or_refused() -> None:
    pytest.importorskip("peft")
    assert {name.split()[0] for name in ADAPTERS} == lora.METHODS


def test_lora_of_a_fused_qkv_lands_on_its_three_parts(library: Library, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    module, native = "vision_model.encoder.layers.0.attn.qkv", "model.vision_tower.encoder.layer.0.attention"
    before = [library.adapter("medrega").model.get_submodule(f"{native}.{one}_proj").weight for one in "qkv"]
    low, high = adapter_folder(tmp_path / "lora", None, module, 48, 144)
    adapter = library.fresh("medrega", lora=tmp_path / "lora")
    delta = (8 / 2 * high @ low).chunk(3)
    for one, weight, change in zip("qkv", before, delta, strict=True):
        after = adapter.model.get_submodule(f"{native}.{one}_proj").weight
        assert torch.allclose(after, weight + change, atol=1e-5)


@pytest.mark.parametrize("name,module,native", [
    ("qwen2.5-vl-7b", "visual.blocks.0.mlp.up_proj", "model.visual.blocks.0.mlp.up_proj"),
    ("internvl3-8b", "vision_tower.encoder.layer.0.attention.q_proj",
     "model.vision_tower.encoder.layer.0.attention.q_proj"),
    ("internvl3-8b", "multi_modal_projector.linear_1", "model.multi_modal_projector.linear_1"),
    ("llava-1.5-7b", "vision_tower.vision_model.encoder.layers.0.mlp.fc1",
     "model.vision_tower.encoder.layers.0.mlp.fc1"),
    ("llava-1.5-7b", "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1",
     "model.vision_tower.encoder.layers.0.mlp.fc1"),
    ("medgemma-4b", "vision_tower.vision_model.encoder.layers.0.mlp.fc1",
     "model.vision_tower.encoder.layers.0.mlp.fc1"),
])  # fmt: skip
def test_older_names_of_towers_and_projectors_find_their_modules(
    name: str, module: str, native: str, library: Library, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    before = library.adapter(name).model.get_submodule(native).weight
    low, high = adapter_folder(tmp_path / "lora", before, module, before.shape[1], before.shape[0])
    after = library.fresh(name, lora=tmp_path / "lora").model.get_submodule(native).weight
    assert torch.allclose(after, before + 8 / 2 * high @ low, atol=1e-5)


def test_lora_without_peft_names_the_extra(library: Library, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(VgError, match="peft"):
        library.fresh("llava-med", lora=tmp_path)
