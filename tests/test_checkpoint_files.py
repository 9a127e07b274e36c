"""Which layout a folder is in, and what is refused of it."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import checkpoints
from tests.library import NAMES, Library, copied, edit, picture, refused
from vgtool.errors import VgError
from vgtool.models import layout
from vgtool.models.load import load, resolve
from vgtool.registry import models

# ---- recognition ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config,expected", [
    ({"model_type": "llava_qwen2"}, ("llava-original", "huatuogpt-vision-7b")),
    ({"model_type": "llava_llama", "vocab_size": 64000}, ("llava-original", "huatuogpt-vision-34b")),
    ({"model_type": "llava_llama", "vocab_size": 64002}, ("llava-original", "huatuogpt-vision-34b")),
    ({"model_type": "llava_llama", "vocab_size": 128256, "s2": True}, ("llava-original", "llava-tri")),
    ({"model_type": "llava_llama", "vocab_size": 128257, "s2": True}, ("llava-original", "llava-tri")),
    ({"model_type": "llava_llama", "vocab_size": 32000}, ("llava-original", "llava-1.5-7b-original")),
    ({"model_type": "llava_llama", "vocab_size": 32003}, ("llava-original", "llava-1.5-7b-original")),
    ({"model_type": "llava_mistral"}, ("llava-original", "llava-med")),
    ({"model_type": "llava_qwen2", "mm_vision_tower": "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"},
     ("llava-original", "huatuogpt-v-bio")),
    ({"model_type": "llava", "mm_projector_type": "mlp2x_gelu"}, ("llava-original", "llava-1.5-7b-original")),
])  # fmt: skip
def test_original_layouts_are_told_apart_by_vocabulary(config: Any, expected: Any, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", config)
    assert layout.recognise(tmp_path) == expected


@pytest.mark.parametrize("size", [151646, 259, None])
def test_a_vocabulary_of_no_known_model_asks_for_an_entry_and_takes_no_prompt(size: Any, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", {"model_type": "llava_llama", "vocab_size": size})
    with pytest.raises(VgError, match=f"vocabulary of {size}") as caught:
        resolve(str(tmp_path))
    assert f"entry '{tmp_path.name}'" in str(caught.value) and "--registry DIR" in str(caught.value)


@pytest.mark.parametrize("config,said", [
    ({"model_type": "llava_llama", "vocab_size": 128256}, "over Llama 3 (vocabulary 128256) without S2"),
    ({"model_type": "llava_llama", "vocab_size": 128256, "s2": False}, "without S2"),
    ({"model_type": "llava_mistral", "image_aspect_ratio": "anyres"}, "cuts its image into views"),
    ({"model_type": "llava_llama", "vocab_size": 64000, "image_aspect_ratio": "anyres_max_9"}, "anyres_max_9"),
])  # fmt: skip
def test_a_layout_that_several_models_share_takes_no_ones_prompt(config: Any, said: str, tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", config)
    with pytest.raises(VgError) as caught:
        resolve(str(tmp_path))
    assert said in str(caught.value)
    named = tmp_path / "LLaVA-Tri-VQARAD"  # called as its repository, the entry's
    checkpoints.write(named / "config.json", {"model_type": "llava_llama", "vocab_size": 128256})
    assert resolve(str(named))[0].prompt == models()["llava-tri"].prompt


def test_an_entry_called_as_a_local_folder_lends_it_its_prompt(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(library, "llava-tri", tmp_path)
    entry = 'model:\n  title: Ours\n  adapter: llava-original\n  prompt: "Q <image> {question} A"\n'
    (tmp_path / "models.yaml").write_text(entry)
    monkeypatch.chdir(tmp_path)
    for argument in (str(folder), "model"):
        spec, source = resolve(argument, tmp_path)
        adapter = load(spec, source=source, device="cpu", offline=True)
        assert adapter.template == "Q <image> {question} A" and adapter.scales == 3  # type: ignore[attr-defined]


def test_h_lora_weights_alone_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "com_hlora_weights.bin").write_bytes(b"weights")
    with pytest.raises(VgError, match="holds H-LoRA weights without their language model"):
        resolve(str(tmp_path))


def test_a_type_without_an_adapter_of_its_own_is_left_to_transformers(tmp_path: Path) -> None:
    checkpoints.write(tmp_path / "config.json", {"model_type": "blip", "auto_map": {"AutoModel": "evil.M"}})
    spec, folder = resolve(str(tmp_path))
    assert spec.adapter == "native"
    with pytest.raises(VgError, match=r"config\.json of .* asks to run code from the checkpoint"):
        load(spec, source=folder, device="cpu", offline=True)
    checkpoints.write(tmp_path / "config.json", {"hidden_size": 4})
    with pytest.raises(VgError, match="names no model_type") as caught:
        resolve(str(tmp_path))
    assert "llava_qwen2" in str(caught.value)
    with pytest.raises(VgError, match=r"no config\.json"):
        resolve(str(tmp_path.parent))
    with pytest.raises(VgError, match="Did you mean 'medrega'"):
        resolve("medreag")


TOLD_BY_SIZE = ("huatuogpt-vision-34b", "llava-tri", "llava-1.5-7b-original", "vila-m3-13b")
"""Models whose tiny copies have another vocabulary, or fewer layers, than tell them."""
SPEAKS_FOR_ITSELF = ("llava", "internvl-chat")
"""Layouts whose folders lend no entry's prompt: their files name one."""


@pytest.mark.parametrize("name", [n for n in NAMES if n not in TOLD_BY_SIZE])
def test_a_local_folder_is_recognised(name: str, library: Library) -> None:
    spec, folder = resolve(str(library.published[name].folder))
    registered = models()[name]
    assert spec.adapter == registered.adapter and folder == library.published[name].folder
    assert spec.prompt == (None if registered.adapter in SPEAKS_FOR_ITSELF else registered.prompt)


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name,key,native", [
    ("huatuogpt-vision-7b", "model.layers.0.self_attn.q_proj.weight", "language_model.layers.0.self_attn.q_proj"),
    ("llava-med", "model.vision_tower.vision_tower.vision_model.encoder.layers.1.mlp.fc1.bias", "1.mlp.fc1.bias"),
    ("llava-tri", "model.mm_projector.2.weight", "linear_2.weight"),
    ("medrega", "vision_model.encoder.layers.0.attn.qkv.weight", "layer.0.attention.q_proj.weight"),
    ("qwen3-vl-8b", "model.visual.blocks.0.attn.qkv.weight", "visual.blocks.0.attn.qkv.weight"),
    ("medgemma-4b", "multi_modal_projector.mm_input_projection_weight", "mm_input_projection_weight"),
    ("internvl3-8b", "vision_tower.encoder.layer.0.attention.q_proj.weight", "layer.0.attention.q_proj.weight"),
])  # fmt: skip
def test_a_renamed_weight_is_named_and_refused(
    name: str, key: str, native: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    file = folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][key]
    tensors = load_file(file)
    tensors[f"{key}_x"] = tensors.pop(key)
    file.unlink()
    save_file(tensors, file)
    said = refused(folder, name)
    assert "lacks model." in said and native in said


def test_a_weight_of_another_shape_or_too_many_are_refused(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-med", tmp_path)
    file = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(file)
    file.unlink()
    save_file({**tensors, "model.extra.weight": torch.ones(2)}, file)
    assert "model.extra.weight" in refused(folder, "llava-med")
    cut = {n: v[:-1].contiguous() if n.endswith("up_proj.weight") else v for n, v in tensors.items()}
    file.unlink()
    save_file(cut, file)
    assert "another shape" in refused(folder, "llava-med") or "up_proj" in refused(folder, "llava-med")


def test_a_missing_shard_a_broken_one_and_an_lfs_pointer_are_refused(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "huatuogpt-vision-7b", tmp_path)
    file = folder / "model-00002-of-00002.safetensors"
    data = file.read_bytes()
    file.unlink()
    assert "lacks model-00002-of-00002.safetensors" in refused(folder, "huatuogpt-vision-7b")
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n")
    assert "Git LFS pointer" in refused(folder, "huatuogpt-vision-7b")
    file.write_bytes(data[:-100])
    assert "not a whole safetensors file" in refused(folder, "huatuogpt-vision-7b")
    file.write_bytes(data)
    (folder / "tokenizer.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in refused(folder, "huatuogpt-vision-7b")
    (folder / "config.json").write_text("[1]")
    assert "JSON object" in refused(folder, "huatuogpt-vision-7b")


class Payload:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_with_a_payload_is_refused_and_not_run(library: Library, tmp_path: Path) -> None:
    folder, mark = copied(library, "llava-1.5-7b-original", tmp_path), tmp_path / "executed"
    shard = folder / "pytorch_model-00002-of-00002.bin"
    for write in (
        lambda: torch.save({"w": Payload(mark)}, shard),
        lambda: shard.write_bytes(pickle.dumps(Payload(mark))),
    ):
        write()
        assert "nothing in it was run" in refused(folder, "llava-1.5-7b-original")
        assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))  # noqa: S301 (the payload works, where something runs it)
    assert mark.exists()


def test_bin_files_of_either_age_are_read(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    for shard in folder.glob("pytorch_model-*.bin"):
        torch.save(torch.load(shard), shard, _use_new_zipfile_serialization=False)
    old = load(models()["llava-1.5-7b-original"], source=folder, device="cpu", offline=True)
    new = library.adapter("llava-1.5-7b-original")
    pairs = zip(old.model.state_dict().values(), new.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name,file", [
    ("llava-1.5-7b", "config.json"),
    ("qwen2.5-vl-7b", "config.json"),
    ("medgemma-4b", "preprocessor_config.json"),
    ("internvl3-8b", "tokenizer_config.json"),
    ("huatuogpt-vision-7b", "tokenizer_config.json"),
    ("medrega", "tokenizer_config.json"),
])  # fmt: skip
def test_remote_code_is_refused(name: str, file: str, library: Library, tmp_path: Path) -> None:
    folder, mark = copied(library, name, tmp_path), tmp_path / "executed"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    edit(folder / file, auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", None]})
    assert "auto_map" in refused(folder, name)
    assert not mark.exists() and "evil" not in sys.modules


def test_medregas_own_code_is_never_run(library: Library, tmp_path: Path) -> None:
    folder, mark = copied(library, "medrega", tmp_path), tmp_path / "executed"
    for module in ("configuration_internvl_chat", "modeling_chat"):
        (folder / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert "auto_map" in json.loads((folder / "config.json").read_text())
    assert load(models()["medrega"], source=folder, device="cpu").layers == 4
    assert not mark.exists()


@pytest.mark.parametrize("name,file,change,said", [
    ("llava-med", "config.json", {"image_aspect_ratio": "anyres"}, "anyres"),
    ("llava-med", "config.json", {"mm_vision_select_feature": "cls_patch"}, "cls_patch"),
    ("llava-med", "config.json", {"mm_use_im_start_end": True}, "mm_use_im_start_end"),
    ("llava-med", "config.json", {"s2": True}, "S2"),
    ("llava-med", "config.json", {"num_attention_heads": "many"}, "num_attention_heads"),
    ("llava-med", "config.json", {"quantization_config": {"bits": 4}}, "quantised"),
    ("llava-tri", "config.json", {"s2_scales": "84,252"}, "84,252"),
    ("vila-m3-8b", "config.json", {"image_aspect_ratio": "dynamic"}, "dynamic"),
    ("vila-m3-8b", "mm_projector/config.json", {"mm_projector_type": "mlp_downsample_3x3_fix"}, "3x3"),
    ("vila-m3-8b", "llm/config.json", {"model_type": "gpt9"}, "gpt9"),
    ("lingshu-i-8b", "config.json", {"template": "internvl9"}, "internvl9"),
    ("medrega", "config.json", {"llm_config": None}, "llm_config"),
    ("qwen2.5-vl-7b", "preprocessor_config.json", {"patch_size": 16}, "patches"),
    ("internvl3-8b", "preprocessor_config.json", {"size": {"height": 84, "width": 84}}, "56 x 56"),
    ("medgemma-4b", "preprocessor_config.json", {"do_pan_and_scan": True}, "112 x 112"),
])  # fmt: skip
def test_settings_that_would_be_got_wrong_are_refused(
    name: str, file: str, change: Any, said: str, library: Library, tmp_path: Path
) -> None:
    folder = copied(library, name, tmp_path)
    edit(folder / file, **change)
    if name == "llava-med":
        spec = models()[name].model_copy(update={"options": {}})
        with pytest.raises(VgError) as caught:
            load(spec, source=folder, device="cpu")
        assert said in str(caught.value) and "\n" not in str(caught.value)
    else:
        assert said in refused(folder, name)


def test_medregas_second_pixel_shuffle_is_row_major(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "medrega", tmp_path)
    edit(folder / "config.json", ps_version="v2")
    second, first = load(models()["medrega"], source=folder, device="cpu"), library.adapter("medrega")
    image = picture()
    one, two = first.prepare(image), second.prepare(image)
    assert two.order is None and one.order is not None
    with torch.inference_mode():
        assert torch.equal(second.features(two), first.features(one)[one.order])


def test_an_index_whose_shards_are_all_gone_yields_to_the_one_whole_file(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-med", tmp_path)
    tensors = {name: value for shard in folder.glob("*.safetensors") for name, value in load_file(shard).items()}
    first, *rest = sorted(folder.glob("*.safetensors"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for shard in rest:
        shard.unlink()
    assert "lacks model-00002" in refused(folder, "llava-med")
    first.unlink()
    adapter = load(models()["llava-med"], source=folder, device="cpu")
    pairs = zip(
        adapter.model.state_dict().values(), library.adapter("llava-med").model.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in pairs)


def test_an_unknown_option_of_an_entry_is_refused_by_name(library: Library) -> None:
    spec = models()["llava-med"].model_copy(update={"options": {"apsect": "pad"}})
    with pytest.raises(VgError, match="Did you mean 'aspect'"):
        load(spec, source=library.published["llava-med"].folder, device="cpu")


def test_a_tower_from_elsewhere_is_only_openais(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    for other in ("somebody/else", "openai/clip-vit-large-patch14", ""):
        edit(folder / "config.json", mm_vision_tower=other)
        assert f"asks for '{other}'" in refused(folder, "llava-1.5-7b-original")
    assert checkpoints.COMMIT in library.adapter("llava-1.5-7b-original").revision.split("+clip-")[1]


def test_a_tower_named_by_its_authors_path_is_fetched_all_the_same(library: Library, tmp_path: Path) -> None:
    folder = copied(library, "llava-1.5-7b-original", tmp_path)
    edit(folder / "config.json", mm_vision_tower="/mnt/nfs/openai/clip-vit-large-patch14-336/")
    adapter = load(models()["llava-1.5-7b-original"], source=folder, device="cpu", offline=True)
    assert adapter.revision.endswith(f"+clip-{checkpoints.COMMIT}")
