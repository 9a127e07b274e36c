"""What the adapter native refuses in a sentence, and what it takes though its files are incomplete."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import families
from tests.native import PHANTOM, WIDE, Families, command, picture
from vgtool.attention import engine
from vgtool.attention.sharing import sessions
from vgtool.errors import SampleError, VgError
from vgtool.models.load import load, resolve
from vgtool.registry import ModelSpec


def refused(folder: Path) -> str:
    with pytest.raises(VgError) as caught:
        load(ModelSpec(name="model", title="model", adapter="native"), source=folder, device="cpu", offline=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edited(family: Families, name: str, tmp_path: Path, file: str, **fields: Any) -> Path:
    for path in family.folder(name).iterdir():
        (tmp_path / path.name).symlink_to(path)
    raw = json.loads((tmp_path / file).read_text())
    (tmp_path / file).unlink()
    (tmp_path / file).write_text(json.dumps(raw | fields))
    return tmp_path


def test_cross_attention_has_no_image_token_to_read(family: Families) -> None:
    assert refused(family.folder("mllama")) == (
        "No token of the prompt of 'model' changes with the image. It takes its image beside the text "
        "(cross-attention), where vgtool reads no map."
    )


def test_code_of_a_checkpoint_is_never_run(family: Families, tmp_path: Path) -> None:
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        folder = tmp_path / file
        folder.mkdir()
        edited(family, "idefics3", folder, file, auto_map={"AutoProcessor": "evil.P"})
        assert f"{file} of 'model' asks to run code" in refused(folder)


def test_a_type_that_transformers_lacks_is_named(family: Families, tmp_path: Path) -> None:
    assert "'no_such_model'" in refused(edited(family, "llava", tmp_path, "config.json", model_type="no_such_model"))


def test_a_text_model_is_no_image_model(family: Families, tmp_path: Path) -> None:
    assert "no image-text model" in refused(edited(family, "llava", tmp_path, "config.json", model_type="llama"))


def test_an_encoder_decoder_is_named(family: Families, tmp_path: Path) -> None:
    folder = edited(family, "llava", tmp_path, "config.json", is_encoder_decoder=True)
    assert "(model_type 'llava') is an encoder-decoder" in refused(folder)


def test_a_missing_chat_template_asks_for_a_prompt(family: Families, tmp_path: Path) -> None:
    folder = edited(family, "llava", tmp_path, "config.json")
    (folder / "chat_template.jinja").unlink()
    assert refused(folder) == (
        "'model' has no chat template. Give its entry a prompt in models.yaml (see docs/models.md)."
    )


def test_a_processor_of_another_model_is_refused_before_any_sample(family: Families, tmp_path: Path) -> None:
    wrong = {"height": 84, "width": 84}
    said = refused(edited(family, "gemma3", tmp_path, "preprocessor_config.json", size=wrong))
    assert "cannot take what its processor makes of an image" in said


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_an_image_processor_written_for_torchvision_alone_asks_for_it(
    family: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = edited(family, "llava", tmp_path, "preprocessor_config.json", image_processor_type="Llama4ImageProcessor")
    assert refused(folder) == (
        "'model' needs torchvision: the image processor is written for it alone. "
        "pip install 'vgtool[torchvision]', from the index that torch came from."
    )
    broken = tmp_path / "packages" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(broken.parent)
    assert "needs torchvision, which does not load beside this torch: operator torchvision::nms" in refused(folder)


def test_an_image_processor_written_for_torchvision_alone_runs_on_it_and_says_so(family: Families) -> None:
    pytest.importorskip("torchvision")
    adapter: Any = family.loaded("cohere2_vision")
    assert adapter.backend == "torchvision"
    assert "Its image processor runs on torchvision, its only backend." in adapter.notes
    assert adapter.prepare(picture(WIDE)).geometry.placed


def test_a_sentence_may_not_hold_an_image_token(family: Families) -> None:
    with pytest.raises(SampleError, match="placeholder_in_question"):
        family.loaded("idefics3").prompt("what is <image>?")


# ---- what a class or a config lacks ----------------------------------------------------------------------------------


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
    name: str, adapter: str, family: Families, tmp_path: Path
) -> None:
    raw = json.loads((family.folder(name) / "config.json").read_text())
    for part in (raw, raw["text_config"]):
        part.pop("eos_token_id", None)
    folder = edited(family, name, tmp_path, "config.json")
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
