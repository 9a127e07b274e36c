"""Quantised checkpoints, as the method's own package and transformers save them. Each test needs its package."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

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


def alike(folder: Path, adapter: str) -> None:
    """Rows and logits equal those of transformers' own model of the folder, which is quantised indeed."""
    spec, source = resolve(str(folder))
    spec = spec.model_copy(update={"adapter": adapter or spec.adapter})
    opened = sessions(load(spec, source=source, device="cpu", offline=True))
    adapted = opened.adapter
    assert opened.difference < 1e-3
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    kind = transformers.AutoModelForImageTextToText
    reference = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    first = adapted.text.layers[0].self_attn.q_proj  # type: ignore[index, union-attr]
    assert type(first) is not torch.nn.Linear or type(first.weight) is not torch.nn.Parameter
    with torch.inference_mode():
        vision, prompt = adapted.prepare(image), adapted.prompt(QUESTION)
        inputs = adapted.inputs([vision], prompt.head, prompt.tail)
        asked = opened.open([[vision]], prompt.head).ask([Ask(prompt.tail)], adapted.readable)
        plain = reference(**inputs.kwargs, output_attentions=True, use_cache=False)
    for layer in adapted.readable:
        row = plain.attentions[layer][0, :, -1][:, inputs.columns[0]]
        assert (asked.maps[layer][0] - row).abs().max() < 1e-5
    logits = plain.logits[0, -1]
    assert (asked.logits[0] - logits).abs().max() < 1e-5 * logits.abs().max()


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
