"""Checkpoints as trainers and hubs leave them: read right, or refused in one sentence, never a traceback."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import checkpoints
from tests.library import Library, copied, edit, refused
from vgtool.attention import engine
from vgtool.errors import VgError
from vgtool.models.load import load
from vgtool.registry import models


@pytest.mark.parametrize("key", ["image_encoder", "dynamic_s2", "max_tiles"])
def test_a_vila_whose_projector_is_row_major_is_refused(key: str, library: Library, tmp_path: Path) -> None:
    folder = copied(library, "vila-m3-8b", tmp_path)
    edit(folder / "config.json", **{key: 1})
    assert "row by row" in refused(folder, "vila-m3-8b")


@pytest.mark.parametrize("layer", [0, 4, -4, 1.5, "last"])
def test_a_tower_layer_that_is_not_there_is_named(layer: Any, library: Library, tmp_path: Path) -> None:
    for name, key in (("llava-med", "mm_vision_select_layer"), ("vila-m3-8b", "mm_vision_select_layer")):
        folder = copied(library, name, tmp_path / name)
        edit(folder / "config.json", **{key: layer})
        assert f"{key} {layer!r}, and its tower 3 layers" in refused(folder, name)


def test_medregas_select_layer_is_never_guessed(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "medrega", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["select_layer"]
    checkpoints.write(folder / "config.json", config)
    assert "lacks select_layer" in refused(folder, "medrega")


def bare(name: str):  # type: ignore[no-untyped-def]
    """The entry without a prompt: its checkpoint's own template speaks."""
    return models()[name].model_copy(update={"prompt": None})


REVERSED = (
    "{% for m in messages %}{% for c in m.content | reverse %}"
    "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize("template,said", [
    ("{% for m in messages %}{{ m.content + 'x' }}{% endfor %}", "does not take an image and a text"),
    ("{% for m in messages %}{{ m.content.strip() }}{% endfor %}", "does not take an image and a text"),
    ("{{ raise_exception('Only text') }}", "Only text"),
    ("{% for m in messages %}{{ m.role }}", "does not take an image and a text"),
    ("{% for m in messages %}{{ m.role }}{% endfor %}", "does not write one"),
    (REVERSED, "does not write an image and then the question, each once"),
    (checkpoints.CHAT + checkpoints.CHAT.replace("<image>", ""), "does not write an image and then the question, each"),
    ([{"name": "rag", "template": "x"}, {"name": "tools", "template": "y"}], "'rag', 'tools' and none called default"),
])  # fmt: skip
def test_a_chat_template_that_cannot_be_used_is_one_sentence(
    template: Any, said: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, "llava-1.5-7b", tmp_path)
    edit(folder / "tokenizer_config.json", chat_template=template)
    with pytest.raises(VgError, match=said) as caught:
        load(bare("llava-1.5-7b"), source=folder, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("several", ["<image>", "{question}<image>"])
def test_a_prompt_of_several_images_holds_them_and_then_the_question(several: str, library: Library) -> None:
    entry = models()["medrega"]
    entry = entry.model_copy(update={"options": {**entry.options, "several": several}})
    with pytest.raises(VgError) as caught:
        load(entry, source=library.published["medrega"].folder, device="cpu")
    assert str(caught.value) == (
        f"Option several of 'medrega': its prompt '{several}' does not hold <image> and then {{question}}, each once. "
        "Correct models.yaml."
    )


def test_of_several_named_templates_the_default_speaks(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b", tmp_path)
    named = [{"name": "rag", "template": "x"}, {"name": "default", "template": checkpoints.CHAT}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    assert load(bare("llava-1.5-7b"), source=folder, device="cpu").template == "USER: <image>\n{question} ASSISTANT:"


def test_chat_template_json_counts_before_jinja_as_for_processors_and_it_is_said(
    library: Library, tmp_path: Path
) -> None:
    from transformers import AutoProcessor

    folder = copied(library, "llava-1.5-7b", tmp_path)
    checkpoints.write(folder / "chat_template.json", {"chat_template": checkpoints.CHAT})
    (folder / "chat_template.jinja").write_text(checkpoints.CHAT.replace("USER", "HUMAN"))
    adapter = load(bare("llava-1.5-7b"), source=folder, device="cpu")
    assert AutoProcessor.from_pretrained(folder).chat_template == checkpoints.CHAT
    assert adapter.template.startswith("USER: ") and "the first counts" in adapter.spec.notes[-1]


def test_a_plain_llava_without_a_template_speaks_as_vicuna_and_says_so(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b", tmp_path)
    adapter = load(bare("llava-1.5-7b"), source=folder, device="cpu")
    assert adapter.prompt("Is it?") == library.adapter("llava-1.5-7b").prompt("Is it?")
    assert "no chat template" in adapter.spec.notes[-1]


@pytest.mark.parametrize("name,change", [
    ("llava-1.5-7b", {"image_processor_type": "LaterImageProcessor"}),
    ("llava-1.5-7b", {"size": {"width": "x"}}),
    ("qwen2.5-vl-7b", {"size": {"height": 1}}),
])  # fmt: skip
def test_an_image_processor_that_cannot_be_read_is_one_sentence(
    name: str, change: Any, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    edit(folder / "preprocessor_config.json", **change)
    assert "image processor" in refused(folder, name)


def test_an_image_processor_in_processor_config_alone_is_read(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b", tmp_path)
    fields = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    named = {"image_processor": fields, "processor_class": "LlavaProcessor"}
    checkpoints.write(folder / "processor_config.json", named)
    processor: Any = load(models()["llava-1.5-7b"], source=folder, device="cpu")
    assert processor.image_processor.size == library.adapter("llava-1.5-7b").image_processor.size  # type: ignore[attr-defined]


@pytest.mark.parametrize("name,where,by,said", [
    ("llava-1.5-7b", "", {"quant_method": "awq"}, "is quantised by awq and cannot be loaded: "),
    ("llava-1.5-7b", "text_config", {"quant_method": "gptq", "bits": 4}, "is quantised by gptq and cannot be loaded: "),
    ("llava-1.5-7b", "", {"load_in_4bit": True}, "is quantised by bitsandbytes and cannot be loaded: "),
    ("llava-1.5-7b", "", {"quant_method": "fp8"}, "is quantised by fp8, which vgtool does not load. Known: awq, "),
    ("llava-1.5-7b", "", {"bits": 4}, "is quantised by unknown, which vgtool does not load"),
    ("llava-med", "", {"quant_method": "gptq", "bits": 4}, r"is quantised \(gptq\) in a layout that is not transf"),
    ("medrega", "llm_config", {"quant_method": "awq"}, r"is quantised \(awq\) in a layout that is not transformers'"),
])  # fmt: skip
def test_a_quantised_checkpoint_that_cannot_be_loaded_says_by_what_it_is_quantised(
    name: str, where: str, by: dict[str, Any], said: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (config[where] if where else config)["quantization_config"] = by
    checkpoints.write(folder / "config.json", config)
    assert re.search(said, refused(folder, name))
    (config[where] if where else config)["quantization_config"] = None
    checkpoints.write(folder / "config.json", config)
    assert load(models()[name], source=folder, device="cpu").layers == 4


@pytest.mark.parametrize("adapter", ["", "native"])
@pytest.mark.parametrize("name,part,change,said", [
    ("llava-1.5-7b", "text_config", {"hidden_act": "sillu"},
     "'NAME' cannot be made as a LlavaForConditionalGeneration: no 'sillu'. Fetch its config.json again, or install"),
    ("llava-1.5-7b", "text_config", {"pad_token_id": 99_999},
     "'NAME' cannot be made as a LlavaForConditionalGeneration: Padding_idx must be within num_embeddings. Fetch its"),
    ("qwen2.5-vl-7b", "", {"num_attention_heads": 5},
     "'NAME' cannot be made as a Qwen2_5_VLForConditionalGeneration: hidden_size must be divisible by num_heads"),
    ("llava-1.5-7b", "text_config", {"num_attention_heads": 0}, "modulo by zero. Fetch it again"),
    ("llava-1.5-7b", "vision_config", {"hidden_size": "32"}, "Field 'hidden_size' expected int, got str (value: '32')"),
    ("llava-1.5-7b", "", {"text_config": 5}, "config.json"),
    ("llava-1.5-7b", "", {"vision_feature_select_strategy": "half"}, "('default', 'full'), got half. Fetch it again"),
    ("llava-1.5-7b", "", {"quantization_config": "8bit"}, "'NAME' is quantised by unknown, which vgtool does not load"),
])  # fmt: skip
def test_a_config_that_makes_no_model_is_one_sentence(
    name: str, part: str, change: dict[str, Any], said: str, adapter: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(change)
    checkpoints.write(folder / "config.json", config)
    entry = models()[name].model_copy(update={"adapter": adapter, "options": {}} if adapter else {})
    with pytest.raises(VgError) as caught:
        load(entry, source=folder, device="cpu", offline=True)
    assert said.replace("NAME", name) in str(caught.value) and "\n" not in str(caught.value)
    assert "..." not in str(caught.value) and re.search(r"\. [A-Z].*\.$", str(caught.value)), "what, then what to do"


@pytest.mark.parametrize("index", [99_999, -1])
@pytest.mark.parametrize("name,key", [
    ("llava-1.5-7b", "image_token_index"),
    ("internvl3-8b", "image_token_id"),
    ("qwen2.5-vl-7b", "image_token_id"),
    ("citrus-v-8b", "image_token_id"),
    ("medgemma-4b", "image_token_index"),
    ("medgemma-4b", "boi_token_index"),
    ("medgemma-4b", "eoi_token_index"),
])  # fmt: skip
def test_a_token_of_an_image_that_the_tokenizer_lacks_is_named(
    name: str, key: str, index: int, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    edit(folder / "config.json", **{key: index})
    assert refused(folder, name) == (
        f"The tokenizer of '{name}' has no token {index}, which config.json names for an image. They are of two "
        "models; take the tokenizer's files from the one that was trained."
    )


@pytest.mark.parametrize("name", ["qwen3-vl-8b", "internvl3-8b", "llava-1.5-7b"])
def test_a_tied_head_that_only_the_text_model_tells_of_is_tied(name: str, library: Library, tmp_path: Path) -> None:
    folder = copied(library, name, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["tie_word_embeddings"] = True
    config.pop("tie_word_embeddings", None)
    checkpoints.write(folder / "config.json", config)
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    head = next(key for key in listed["weight_map"] if key.endswith("lm_head.weight"))
    file = folder / listed["weight_map"].pop(head)
    tensors = load_file(file)
    del tensors[head]
    file.unlink()
    save_file(tensors, file, {"format": "pt"})
    checkpoints.write(index, listed)
    model = load(models()[name], source=folder, device="cpu").model
    assert torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight)


def test_weights_with_nan_are_called_so(library: Library) -> None:
    adapter = library.fresh("llava-med")
    with torch.no_grad():
        adapter.model.model.language_model.layers[1].self_attn.q_proj.weight[0, 0] = torch.nan
    with pytest.raises(VgError, match=r"layers\.1\.self_attn\.q_proj\.weight holds NaN"):
        engine.attach(adapter.model, adapter.text)
