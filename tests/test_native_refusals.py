"""What the adapter native refuses in a sentence, and what it takes though its files are incomplete."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests import families
from tests.native import PHANTOM, WIDE, Families, command, picture, refusal
from vgtool.attention import engine
from vgtool.attention.sharing import sessions
from vgtool.errors import SampleError, VgError
from vgtool.models.load import load, resolve
from vgtool.registry import ModelSpec


def opened(folder: Path, **entry: Any) -> Any:
    spec = ModelSpec(name="model", title="model", adapter="native", **entry)
    return load(spec, source=folder, device="cpu", offline=True)


def refused(folder: Path, **entry: Any) -> str:
    with pytest.raises(VgError) as caught:
        opened(folder, **entry)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
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


@pytest.mark.parametrize("file,change,said", [
    ("processor_config.json", {"processor_class": "WhisperProcessor"},
     "'model' has no processor for images and text. Copy preprocessor_config.json and processor_config.json from"),
    ("processor_config.json", {"processor_class": "Idefics3Processor"},
     "The processor of 'model' fails at an image: "),
    ("processor_config.json", {"patch_size": "x"}, "The processor of 'model' fails at an image: unsupported operand"),
])  # fmt: skip
def test_a_processor_that_does_not_fit_its_model_or_itself_is_a_sentence(
    file: str, change: dict[str, Any], said: str, family: Families, tmp_path: Path
) -> None:
    assert refused(edited(family, "llava", tmp_path, file, **change)).startswith(said)


@pytest.mark.parametrize("named", ["NoProcessor", "LlamaTokenizer", 5])
def test_a_name_of_what_is_no_processor_leaves_the_one_of_the_models_type(
    named: Any, family: Families, tmp_path: Path
) -> None:
    folder = edited(family, "llava", tmp_path, "processor_config.json", processor_class=named)
    assert opened(folder).prompt("Is it?") == family.loaded("llava").prompt("Is it?")


# ---- chat templates --------------------------------------------------------------------------------------------------

CHAT = families.CHAT.replace("MARK", "<image>")
TEXT = "{% for c in messages[0].content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}"
PICTURE = TEXT.replace("'text'", "'image'").replace("{{ c.text }}", "<image>")
ORDER = "does not write an image and then the question, each once"
BAD = [
    ("{% for m in", "cannot be used: unexpected 'end of template'"),
    ("{{ raise_exception('Only text.') }}", "cannot be used: Only text"),
    (TEXT, ORDER),
    (PICTURE, ORDER),
    (TEXT + PICTURE, ORDER),
    (PICTURE + TEXT + " Again: " + TEXT, ORDER),
    (TEXT + CHAT, ORDER),
]


def templated(family: Families, tmp_path: Path, template: str) -> Path:
    folder = edited(family, "llava", tmp_path, "config.json")
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("template,said", BAD)
def test_a_chat_template_of_no_use_asks_for_a_prompt_which_then_speaks(
    template: str, said: str, family: Families, tmp_path: Path
) -> None:
    folder = templated(family, tmp_path, template)
    assert refused(folder) == (
        f"The chat template of 'model' {said}. Give its entry a prompt in models.yaml (see docs/models.md)."
    )
    adapter = opened(folder, prompt="USER: <image>\n{question} ASSISTANT:")
    assert adapter.sent(adapter.prompt("Is it?")) == "USER: <image>\nIs it? ASSISTANT:"


def test_of_several_named_templates_the_default_speaks(family: Families, tmp_path: Path) -> None:
    folder = templated(family, tmp_path, CHAT)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ documents }}")
    assert opened(folder).prompt("Is it?") == family.loaded("llava").prompt("Is it?")
    (folder / "chat_template.jinja").unlink()
    assert refused(folder).startswith("'model' has chat templates 'rag' and none called default. Give its entry a pr")


@pytest.mark.parametrize("prompt", ["<image>", "{question}", "{question} <image>", "<image> {question} {question}", ""])
@pytest.mark.parametrize("within", ["prompt", "boxes"])
def test_a_prompt_of_an_entry_holds_the_image_and_then_the_question(within: str, prompt: str, tmp_path: Path) -> None:
    entry: dict[str, Any] = {"title": "Mine", "adapter": "native", "prompt": prompt}
    if within == "boxes":
        entry |= {"boxes": {"prompt": prompt, "scale": "0-1", "source": "its card"}, "prompt": None}
    (tmp_path / "models.yaml").write_text(json.dumps({"mine": entry}))
    said = refusal("models", "--registry", str(tmp_path))
    assert f"entry 'mine': its prompt '{prompt}' does not hold <image> and then {{question}}, each once. Corr" in said


def test_a_text_that_the_entry_deletes_from_questions_is_no_disagreement(family: Families) -> None:
    adapter = opened(family.folder("llava"), options={"delete": ["?"]})
    assert adapter.prompt("Is it?") == family.loaded("llava").prompt("Is it")


def test_boxes_are_asked_for_in_the_words_of_the_models_own_processor(tmp_path: Path) -> None:
    asked = {"prompt": "<image> Where is {question}?", "scale": "0-1", "source": "its card"}
    entry = {"title": "Ours", "adapter": "native", "boxes": asked}
    (tmp_path / "models.yaml").write_text(json.dumps({PHANTOM.name: entry}))
    assert refusal("probe", "--model", str(PHANTOM), "--registry", str(tmp_path), "--benchmark", "scenes", "--limit",
                   "1", "--ask", "box", "--out", str(tmp_path / "run")) == (
        f"'{PHANTOM.name}' is asked through its own processor. Leave prompt out of its boxes."
    )  # fmt: skip


# ---- what a model cannot take ----------------------------------------------------------------------------------------


def test_a_model_without_a_text_decoder_of_its_own_is_refused(family: Families, tmp_path: Path) -> None:
    """A model for robots, whose language model has no config that is the whole's."""
    pi0 = pytest.importorskip("transformers.models.pi0")
    text = {"model_type": "gemma", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 16,
            "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512}  # fmt: skip
    tower = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "projection_dim": 32}  # fmt: skip
    both = {"model_type": "paligemma", "text_config": text, "vision_config": tower, "projection_dim": 32}
    folder = edited(family, "llava", tmp_path, "config.json")
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    AutoModelForImageTextToText.from_config(pi0.PI0Config(vlm_config=both, dit_config=text)).save_pretrained(folder)
    assert refused(folder) == (
        "'model' (PI0ForConditionalGeneration) has no text decoder that vgtool knows how to read. Encoder-decoders and "
        "models that take no prompt cannot be probed."
    )


def test_a_tokenizer_that_does_not_give_back_a_question_beside_its_processors_own_words_is_refused(
    family: Families, tmp_path: Path
) -> None:
    """Lower-cased, a question is not found in the prompt, and the template lacks the processor's line breaks."""
    folder = edited(family, "gemma3", tmp_path, "tokenizer.json", normalizer={"type": "Lowercase"})
    assert refused(folder) == (
        "The tokenizer of 'model' reads a question otherwise than its processor does. vgtool cannot rebuild the prompt "
        "for another question; use another model."
    )


def test_an_image_beyond_the_positions_of_the_tower_costs_its_own_row(family: Families, tmp_path: Path) -> None:
    families.write("gemma4", tmp_path / "model", vision_config={"position_embedding_size": 40})
    adapter = opened(tmp_path / "model")
    with pytest.raises(SampleError) as caught:
        adapter.prepare(picture((1, 300)))
    assert str(caught.value) == "image_shape: 1 x 300 pixels: index out of range in self"
    assert adapter.prepare(picture((96, 72))).tokens > 1


def test_an_image_that_the_processor_refuses_costs_its_own_row(family: Families) -> None:
    adapter: Any = family.loaded("qwen2_vl")
    with pytest.raises(SampleError) as caught:
        adapter.prepare(picture((1, 300)))
    assert str(caught.value) == (
        "image_shape: 1 x 300 pixels: absolute aspect ratio must be smaller than 200, got 300.0"
    )
    assert adapter.prepare(picture(WIDE)).tokens > 1


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
