"""Quantised checkpoints, as the method's own package and transformers save them. Each test needs its package."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import families
from vgtool.attention.session import Ask
from vgtool.attention.sharing import sessions
from vgtool.errors import VgError
from vgtool.models.load import load, resolve

QUESTION = "Is there a mass?"


def torchao() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return transformers.TorchAoConfig(Int8WeightOnlyConfig())


def saved(name: str, folder: Path, config: Any) -> Path:
    """A family's tiny checkpoint, quantised and saved by transformers."""
    families.write(name, folder / "full")
    out = folder / name
    kind = transformers.AutoModelForImageTextToText
    kind.from_pretrained(folder / "full", quantization_config=config, dtype=torch.float32).save_pretrained(out)
    for path in (folder / "full").iterdir():
        if path.suffix != ".safetensors" and not (out / path.name).exists():
            (out / path.name).write_bytes(path.read_bytes())
    return out


def alike(
    folder: Path, adapter: str, beside: Path | None = None, limits: tuple[float, float] = (1e-5, 1e-5)
) -> None:
    """Rows and logits equal those of transformers' own model of the folder, which is quantised indeed; of the folder
    `beside` it, where one is given. `limits`: of a weight, and of a logit over the largest."""
    spec, source = resolve(str(folder))
    spec = spec.model_copy(update={"adapter": adapter or spec.adapter})
    opened = sessions(load(spec, source=source, device="cpu", offline=True))
    adapted = opened.adapter
    assert opened.difference < 1e-3
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    kind = transformers.AutoModelForImageTextToText
    reference = kind.from_pretrained(beside or folder, attn_implementation="eager", dtype=torch.float32).eval()
    first = adapted.text.layers[0].self_attn.q_proj  # type: ignore[index, union-attr]
    assert type(first) is not torch.nn.Linear or type(first.weight) is not torch.nn.Parameter
    with torch.inference_mode():
        vision, prompt = adapted.prepare(image), adapted.prompt(QUESTION)
        inputs = adapted.inputs([vision], prompt.head, prompt.tail)
        asked = opened.open([[vision]], prompt.head).ask([Ask(prompt.tail)], adapted.readable)
        plain = reference(**inputs.kwargs, output_attentions=True, use_cache=False)
    for layer in adapted.readable:
        row = plain.attentions[layer][0, :, -1][:, inputs.columns[0]]
        assert (asked.maps[layer][0] - row).abs().max() < limits[0]
    logits = plain.logits[0, -1]
    assert (asked.logits[0] - logits).abs().max() < limits[1] * logits.abs().max()


@pytest.mark.parametrize("adapter", ["", "native"])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
def test_torchaos_eight_bits_are_read_exactly(name: str, adapter: str, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    alike(saved(name, tmp_path, torchao()), adapter)


@pytest.mark.parametrize("adapter", ["", "native"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
def test_bitsandbytes_are_read_exactly(name: str, bits: int, adapter: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    settings = {f"load_in_{bits}bit": True, "llm_int8_skip_modules": ["lm_head"]}
    alike(saved(name, tmp_path, transformers.BitsAndBytesConfig(**settings)), adapter)


GROUP = 32
"""Inputs that share a scale."""


def packed(tensor: torch.Tensor, dim: int, order: Any) -> torch.Tensor:
    """Four bits each of eight values along `dim` in one int32, value order[i] in the i-th lowest."""
    eights = tensor.movedim(dim, -1).unflatten(-1, (-1, 8)).long()
    whole = sum(eights[..., at] << 4 * place for place, at in enumerate(order))
    return torch.where(whole >= 2**31, whole - 2**32, whole).int().movedim(-1, dim).contiguous()


def four_bits(weight: torch.Tensor, method: str, rng: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A weight of the shape of `weight` that is exact in four bits, and how the method stores it: GPTQ packs inputs and
    subtracts one from its zero points, AWQ packs outputs, even ones first."""
    outputs, inputs = weight.shape
    values = torch.randint(0, 16, (inputs, outputs), generator=rng)
    zeros = torch.randint(6, 10, (inputs // GROUP, outputs), generator=rng)
    zeros = zeros if method == "awq" else torch.full_like(zeros, 8)
    scales = (0.01 + 0.02 * torch.rand(inputs // GROUP, outputs, generator=rng)).half()
    groups = torch.arange(inputs) // GROUP
    full = ((values - zeros[groups]) * scales[groups].float()).T.contiguous()
    if method == "awq":
        order = (0, 2, 4, 6, 1, 3, 5, 7)
        return full, {"qweight": packed(values, 1, order), "qzeros": packed(zeros, 1, order), "scales": scales}
    stored = {"qweight": packed(values, 0, range(8)), "qzeros": packed(zeros - 1, 1, range(8)), "scales": scales}
    return full, stored | {"g_idx": groups.int()}


def by_hand(method: str, folder: Path) -> tuple[Path, Path]:
    """(a tiny LLaVA whose text layers are stored as GPTQ or AWQ has them, the same weights unpacked)."""
    sizes = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=4, head_dim=16)
    families.write("llava", folder / "model", text_config=sizes)
    full, stored, rng = dict[str, Any](), dict[str, Any](), torch.Generator().manual_seed(0)
    for name, weight in load_file(folder / "model" / "model.safetensors").items():
        if "language_model" in name and name.endswith("proj.weight"):
            full[name], parts = four_bits(weight, method, rng)
            stored |= {name.replace("weight", part): tensor for part, tensor in parts.items()}
        else:
            full[name] = stored[name] = weight
    settings = {
        "gptq": {"desc_act": False, "sym": True, "block_name_to_quantize": "model.language_model.layers"},
        "awq": {"zero_point": True, "modules_to_not_convert": ["model.vision_tower", "model.multi_modal_projector"]},
    }[method]
    for at, tensors in (("full", full), ("quantised", stored)):
        (folder / at).mkdir()
        for path in (folder / "model").iterdir():
            (folder / at / path.name).write_bytes(path.read_bytes())
        save_file(tensors, folder / at / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "full" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": GROUP} | settings
    (folder / "quantised" / "config.json").write_text(json.dumps(config))
    return folder / "quantised", folder / "full"


@pytest.mark.parametrize("adapter", ["", "native"])
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_four_bits_of_gptq_and_awq_are_those_unpacked_by_hand(method: str, adapter: str, tmp_path: Path) -> None:
    """Their kernels on the CPU work in half precision."""
    pytest.importorskip("gptqmodel")
    if method == "gptq":
        pytest.importorskip("optimum")
    folder, full = by_hand(method, tmp_path)
    alike(folder, adapter, beside=full, limits=(2e-4, 5e-3))


@pytest.mark.parametrize("method,package", [("gptq", "optimum"), ("awq", "gptqmodel")])
def test_a_method_whose_package_is_not_there_names_it(method: str, package: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    spec, source = resolve(str(by_hand(method, tmp_path)[0]))
    with pytest.raises(VgError, match=f"is quantised by {method} and cannot be loaded: .*requires {package}"):
        load(spec, source=source, device="cpu", offline=True)


def test_activations_quantised_as_they_come_are_refused_where_a_prefix_changes_them(tmp_path: Path) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    folder = saved("llava", tmp_path, transformers.TorchAoConfig(quantization.Int8DynamicActivationInt8WeightConfig()))
    spec, source = resolve(str(folder))
    with pytest.raises(VgError, match="answers otherwise from its own cache than in one pass"):
        sessions(load(spec, source=source, device="cpu", offline=True))


def test_mxfp4_is_unpacked_without_fetching_code_and_its_model_refused_for_its_sinks(tmp_path: Path) -> None:
    text = dict(model_type="gpt_oss", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                vocab_size=512, num_key_value_heads=2, head_dim=8)  # fmt: skip
    families.write("llava", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {"text_config": text, "quantization_config": {"quant_method": "mxfp4"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    spec, source = resolve(str(tmp_path / "model"))
    with pytest.raises(VgError, match="has a part whose attention transformers does not run through SDPA"):
        load(spec, source=source, device="cpu", offline=True)
