"""vgtool doctor says what is wrong with a checkpoint on disk, as loading it would, without loading it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tests import checkpoints
from tests.library import KINDS, Library, copied, edit, picture, refused
from vgtool import doctor
from vgtool.models.load import load
from vgtool.registry import ModelSpec, models

CPU = doctor.Device("cpu", 64e9)


def told(spec: ModelSpec, folder: Path) -> list[str]:
    """What would stop a run, of the model alone."""
    found = doctor.model(spec, folder, CPU, 99e9, offline=True, token=False)
    assert all(one.fix for one in found if one.level == "stop")
    return [one.what for one in found if one.level == "stop" and one.topic == "model"]


@pytest.mark.parametrize("name", KINDS)
def test_a_sound_checkpoint_of_every_layout_has_no_fault(name: str, library: Library) -> None:
    assert told(models()[name], library.published[name].folder) == []


def test_a_native_models_processor_and_words_are_looked_at_too(library: Library, tmp_path: Path) -> None:
    spec = ModelSpec(name="any", title="any", adapter="native")
    folder = copied(library, "qwen2.5-vl-7b", tmp_path)
    assert told(spec, folder) == []
    edit(folder / "preprocessor_config.json", image_processor_type="LaterImageProcessor")
    assert len(told(spec, folder)) == 1 and "LaterImageProcessor" in told(spec, folder)[0]


def resized(folder: Path) -> None:
    edit(folder / "preprocessor_config.json", size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})


def without_size(folder: Path) -> None:
    fields = json.loads((folder / "preprocessor_config.json").read_text())
    checkpoints.write(
        folder / "preprocessor_config.json",
        {name: value for name, value in fields.items() if name not in ("size", "crop_size")},
    )


def quantised(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["quantization_config"] = {"quant_method": "fp8"}
    checkpoints.write(folder / "config.json", config)


def unknown_processor(folder: Path) -> None:
    edit(folder / "preprocessor_config.json", image_processor_type="LaterImageProcessor")


def late_token(folder: Path) -> None:
    """A tokenizer that was grown by more tokens than the embeddings have rows left, and writes the last of them."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra{n}>" for n in range(99)], special_tokens=True)
    tokenizer.chat_template = checkpoints.CHAT.replace("USER", "<extra98>USER")
    tokenizer.save_pretrained(folder)


def nan(folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[-1]
    tensors = load_file(shard)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name].view(-1)[-1] = torch.nan
    shard.unlink()
    save_file(tensors, shard, {"format": "pt"})


def cut_shard(folder: Path) -> None:
    shard = sorted(folder.glob("*.safetensors"))[0]
    data = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(data[:-100])


def bad_template(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", chat_template="{{ raise_exception('Only text') }}")


def unknown_activation(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = "sillu"
    checkpoints.write(folder / "config.json", config)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "processor of another size": (resized, "makes 56 x 56 pixels, and its vision tower takes 84 x 84"),
    "processor without sizes": (without_size, "makes 224 x 224 pixels, and its vision tower takes 84 x 84"),
    "quantised inside text_config": (quantised, "is quantised"),
    "processor of an unknown type": (unknown_processor, "LaterImageProcessor"),
    "token beyond the embeddings": (late_token, "holds the token '<extra98>'"),
    "shard cut short": (cut_shard, "not a whole safetensors file"),
    "activation that is not there": (unknown_activation, "made as a LlavaForConditionalGeneration: no 'sillu'"),
    "template that raises": (bad_template, "Only text"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_the_words_that_loading_says(fault: str, library: Library, tmp_path: Path) -> None:
    spoil, said = FAULTS[fault]
    folder = copied(library, "llava-1.5-7b", tmp_path)
    spoil(folder)
    spec = models()["llava-1.5-7b"].model_copy(update={"prompt": None})
    (found,) = told(spec, folder)
    with pytest.raises(doctor.VgError) as loaded:
        load(spec, source=folder, device="cpu", offline=True)
    assert said in found and loaded.value.message == found


def test_weights_with_nan_are_found_by_name(library: Library, tmp_path: Path) -> None:
    for name, where in (("llava-1.5-7b", "model"), ("vila-m3-8b", "vila")):
        folder = copied(library, name, tmp_path / where)
        nan(folder if name == "llava-1.5-7b" else folder / "llm")
        (found,) = told(models()[name], folder)
        assert "holds NaN or infinity" in found and f"of '{name}'" in found


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b", "aloe-vision-7b"])
def test_an_old_qwen_processor_names_its_budget_by_pixels(name: str, library: Library, tmp_path: Path) -> None:
    """min_pixels and max_pixels are what later files call the edges of `size`: the same image, the same grid."""
    fields = {"min_pixels": 20 * 28 * 28, "max_pixels": 40 * 28 * 28}
    old, new = copied(library, name, tmp_path / "old"), copied(library, name, tmp_path / "new")
    written = json.loads((old / "preprocessor_config.json").read_text()) | fields
    assert "size" not in written
    checkpoints.write(old / "preprocessor_config.json", written)
    edges = {"shortest_edge": fields["min_pixels"], "longest_edge": fields["max_pixels"]}
    later = {key: value for key, value in written.items() if key not in fields} | {"size": edges}
    checkpoints.write(new / "preprocessor_config.json", later)
    one, two = (load(models()[name], source=folder, device="cpu", offline=True) for folder in (old, new))
    for size in ((330, 150), (60, 90), (900, 900)):
        first, second = one.prepare(picture(*size)), two.prepare(picture(*size))
        assert first.geometry == second.geometry and 20 <= first.tokens <= 40
    assert told(models()[name], old) == []


def test_a_processor_of_another_size_is_refused_before_weights_are_read(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vgtool.models.checkpoint import Checkpoint

    def build(*args: Any, **kwargs: Any) -> None:
        pytest.fail("read the weights")

    monkeypatch.setattr(Checkpoint, "build", build)
    folder = copied(library, "llava-1.5-7b", tmp_path)
    resized(folder)
    assert "vision tower takes 84 x 84" in refused(folder, "llava-1.5-7b")
