"""InternVL in its own repository's layout: each language model and template it has, its tiles, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import published
from tests.checkpoints import write
from vgtool.errors import VgError
from vgtool.models.adapter import Adapter
from vgtool.models.load import load, resolve
from vgtool.models.stored import Grouped, merged
from vgtool.registry import ModelSpec

QUESTION = "Is there a lesion in the left lung?"
FIRST = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, 是一个有用无害的人工智能助手。"
)
SECOND = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"


def opened(folder: Path, **options: Any) -> Adapter:
    spec = ModelSpec(name="chat", title="chat", adapter="internvl-chat", options=options)
    return load(spec, source=folder, device="cpu", offline=True)


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("kind,config", [
    ("qwen2", {}),
    ("qwen3", {}),
    ("qwen3", {"tied": True}),
    ("internlm2", {"template": "internlm2-chat"}),
    ("qwen2", {"lora": 2}),
    ("qwen2", {"ps_version": "v1", "template": "Hermes-2"}),
])  # fmt: skip
def test_logits_equal_a_natively_built_twin(kind: str, config: Any, tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", kind, **config)
    adapter = opened(made.folder)
    prompt, vision = adapter.prompt(QUESTION), adapter.prepare(picture(150, 110))
    twin, image = made.twin, made.encode("<IMG_CONTEXT>")
    with torch.inference_mode():
        found = adapter.model(**adapter.inputs([vision], prompt.head, prompt.tail).kwargs).logits[0, -1]
        features = twin.model.get_image_features(vision.tensors["pixel_values"]).pooler_output
        if config.get("ps_version") == "v1":  # the projector works token by token: v1 is v2 with each tile transposed
            features = features.reshape(len(features), 2, 2, -1).transpose(1, 2).reshape(len(features), 4, -1)
        ids = torch.tensor([[*prompt.head, *image * vision.tokens, *prompt.tail]])
        embeds = twin.get_input_embeddings()(ids)
        embeds[0, len(prompt.head) : len(prompt.head) + vision.tokens] = features.reshape(vision.tokens, -1)
        expected = twin(inputs_embeds=embeds).logits[0, -1]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kind,template,system,after", [
    ("qwen2", "internvl2_5", SECOND, "\n"),
    ("qwen2", "Hermes-2", FIRST, ""),
    ("internlm2", "internlm2-chat", FIRST, ""),
    ("internlm2", "internvl2_5", SECOND, "\n"),
])  # fmt: skip
def test_a_prompt_is_its_templates_token_for_token(
    kind: str, template: str, system: str, after: str, tmp_path: Path
) -> None:
    made = published.intern_chat(tmp_path / "model", kind, template=template)
    prompt = opened(made.folder).prompt(QUESTION)
    head = [*(["<s>"] if kind == "internlm2" else []), "<|im_start|>", f"system\n{system}", "<|im_end|>", after,
            "<|im_start|>", "user\n", "<img>"]  # fmt: skip
    tail = ["</img>", f"\n{QUESTION}", "<|im_end|>", after, "<|im_start|>", "assistant\n"]
    for found, pieces in ((prompt.head, head), (prompt.tail, tail)):
        assert list(found) == [token for piece in pieces if piece for token in made.encode(piece)]


def test_the_configs_system_message_and_the_entrys_opening_are_spoken(tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", system_message="Be brief.")
    adapter = opened(made.folder, opening="Think first.\n")
    said = adapter.tokenizer.decode(adapter.prompt("Why?").head)
    assert said == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nThink first.\n<img>"
    assert made.encode("<|im_end|>")[0] in adapter.eos


def test_internlm2s_tokenizer_model_is_read_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", "internlm2")
    tokenizer = opened(made.folder).tokenizer
    for text in (QUESTION, " two  spaces ", "\n\nnew lines\n", "Läsion der Lunge 肺 \U0001fac1", "a", ""):
        assert tokenizer(text, add_special_tokens=False).input_ids == (made.encode(text) if text else [])
        # its class puts a space before an answer that has none, and drops the first sign
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text.removeprefix(" ")
    cut_off = [tokenizer.get_vocab()[f"<0x{byte:02X}>"] for byte in (0xE8, 0x0F, 0x41)]  # half a character, then two
    assert tokenizer.decode(cut_off) == "\ufffd\x0fA"
    assert tokenizer("a<|im_end|>b").input_ids == [
        1, *made.encode("a"), *made.encode("<|im_end|>"), *made.encode("b")
    ]  # fmt: skip


def nearest(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """The rule of the published code: nearest aspect ratio, fewer tiles first; at equal distance a later one, where
    the image has more than half its pixels."""
    every = [(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if i * j <= most]
    best, distance = (1, 1), float("inf")
    for i, j in sorted(every, key=lambda pair: pair[0] * pair[1]):
        off = abs(width / height - i / j)
        if off < distance or (off == distance and width * height > side * side * i * j / 2):
            best, distance = (i, j), off
    return best


@pytest.mark.usefixtures("rows_first")
@pytest.mark.parametrize("most", [6, 12])
def test_tiles_and_thumbnail_are_those_of_the_published_code(most: int, tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", max_dynamic_patch=most)
    adapter = opened(made.folder)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for width, height in ((330, 150), (140, 300), (240, 240), (50, 40), (700, 20), (33, 99), (120, 80)):
        image = picture(width, height)
        vision = adapter.prepare(image)
        across, down = nearest(width, height, 56, most)
        grid = vision.geometry.grid
        assert (grid.cols, grid.rows) == (2 * across, 2 * down)
        assert vision.overview == (4 if across * down > 1 else 0)
        canvas = torch.from_numpy(np.array(image.resize((56 * across, 56 * down), Image.Resampling.BICUBIC)))
        seen = vision.tensors["pixel_values"]
        for tile in range(across * down):
            row, col = divmod(tile, across)
            part = canvas[56 * row : 56 * row + 56, 56 * col : 56 * col + 56].permute(2, 0, 1).float() / 255
            assert torch.equal(seen[tile], (part - mean) / std)
        if across * down > 1:
            whole = torch.from_numpy(np.array(image.resize((56, 56), Image.Resampling.BICUBIC))).permute(2, 0, 1)
            assert torch.equal(seen[-1], (whole.float() / 255 - mean) / std)
        assert len(seen) == across * down + (across * down > 1)


def test_an_entry_says_how_many_tiles_whatever_the_config_says(tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", max_dynamic_patch=2, dynamic_image_size=False)
    image = picture(330, 110)
    assert opened(made.folder).prepare(image).tokens == 4
    assert opened(made.folder, tiles=True).prepare(image).geometry.grid.cols == 4
    assert opened(made.folder, tiles=True, max_tiles=12).prepare(image).geometry.grid.cols == 12


@pytest.mark.parametrize("swapped", ["v1", "v2"])
def test_each_token_of_a_tile_is_where_geometry_says(swapped: str, tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", ps_version=swapped)
    adapter = opened(made.folder)
    for layer in adapter.model.model.vision_tower.encoder.layer:  # a feature then depends on its own pixels alone
        for parameter in layer.attention.projection_layer.parameters():
            torch.nn.init.zeros_(parameter)
    plain = Image.new("RGB", (168, 112), (90, 90, 90))
    vision = adapter.prepare(plain)
    assert (vision.geometry.grid.rows, vision.geometry.grid.cols) == (4, 6)
    order = torch.arange(24) if vision.order is None else vision.order
    with torch.inference_mode():
        base = adapter.features(vision)
        for token in range(24):
            row, col = divmod(token, 6)
            lit = plain.copy()
            lit.paste((255, 255, 255), (28 * col + 4, 28 * row + 4, 28 * col + 24, 28 * row + 24))
            changed = (adapter.features(adapter.prepare(lit)) - base).norm(dim=-1)[:24][order]
            assert int(changed.argmax()) == token


def test_a_folder_called_as_an_entrys_repository_is_prompted_as_that_entry(tmp_path: Path) -> None:
    write(tmp_path / "Fleming-VL-8B" / "config.json", {"model_type": "internvl_chat"})
    spec, _ = resolve(str(tmp_path / "Fleming-VL-8B"))
    assert "<think>" in spec.options["opening"] and "prompted as fleming-vl-8b" in spec.notes[0]
    write(tmp_path / "medrega-2" / "config.json", {"model_type": "internvl_chat"})
    assert resolve(str(tmp_path / "medrega-2"))[0].prompt is None
    write(tmp_path / "chiron-o1-8b" / "config.json", {"model_type": "qwen2_vl"})
    assert resolve(str(tmp_path / "chiron-o1-8b"))[0].adapter == "qwen2-vl"


@pytest.mark.parametrize("change,said", [
    ({"template": "phi3-chat"}, "template 'phi3-chat'"),
    ({"template": None}, "template None"),
    ({"use_backbone_lora": 16}, "use_backbone_lora 16"),
    ({"llm_config": {"model_type": "phi3"}}, "language model of type 'phi3'"),
    ({"llm_config": {"model_type": "gpt_oss"}}, "language model of type 'gpt_oss'"),
    ({"max_dynamic_patch": "many"}, "max_tiles 'many', which is no whole number"),
    ({"min_dynamic_patch": 0}, "min_dynamic_patch 0"),
    ({"select_layer": "last"}, "select_layer"),
    ({"downsample_ratio": "half"}, "downsample_ratio 'half'"),
])  # fmt: skip
def test_settings_that_would_be_got_wrong_are_refused(change: Any, said: str, tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", **change)
    with pytest.raises(VgError, match=said):
        opened(made.folder)


def test_a_checkpoint_that_is_native_after_all_is_sent_to_its_own_layout(tmp_path: Path) -> None:
    write(tmp_path / "model" / "config.json", {"model_type": "internvl", "text_config": {}, "vision_config": {}})
    with pytest.raises(VgError, match=r"native layout of InternVL .* --model"):
        opened(tmp_path / "model")
    assert resolve(str(tmp_path / "model"))[0].adapter == "internvl"


def test_half_of_a_lora_is_named_and_refused(tmp_path: Path) -> None:
    weight = torch.ones(2, 2)
    kept = merged({"a.base_layer.weight": weight, "a.lora_A.default.weight": weight}, 2.0)
    assert set(kept) == {"a.base_layer.weight", "a.lora_A.default.weight"}
    older = merged({"a.weight": weight, "a.lora_A.default.weight": weight, "a.lora_B.default.weight": weight}, 2.0)
    assert torch.equal(older["a.weight"][...], torch.full((2, 2), 5.0))


def test_a_tokenizer_of_another_kind_than_internlm2s_is_refused(tmp_path: Path) -> None:
    made = published.intern_chat(tmp_path / "model", "internlm2")
    (made.folder / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(VgError, match=r"The tokenizer in '.*' cannot be read"):
        opened(made.folder)
    (made.folder / "tokenizer.model").unlink()
    with pytest.raises(VgError, match="holds no tokenizer"):
        opened(made.folder)
    config = json.loads((made.folder / "config.json").read_text())
    assert config["llm_config"]["model_type"] == "internlm2"


def test_queries_keys_and_values_of_shared_heads_are_told_apart_without_reading_them() -> None:
    """Two key heads, three query heads each, two rows a head: q q q k v, q q q k v."""
    stored = torch.arange(20.0)[:, None].expand(20, 4)
    found = {part: Grouped(stored, 3, 2, part) for part in "qkv"}
    rows = {"q": [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15], "k": [6, 7, 16, 17], "v": [8, 9, 18, 19]}
    for part, expected in rows.items():
        assert found[part][...][:, 0].tolist() == expected and found[part].get_shape() == [len(expected), 4]
