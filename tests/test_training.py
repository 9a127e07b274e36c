"""The recipe of the embedded model makes what is shipped, and its losses are those of the model asked plainly."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from tests.native import PHANTOM
from vgtool.benchmarks.phantom import drawing
from vgtool.models.phantom import train
from vgtool.models.phantom.model import GENERAL, build, processor
from vgtool.models.phantom.pictures import cells, pool


@pytest.fixture(scope="module")
def process() -> LlavaProcessor:
    return processor()


@pytest.fixture(scope="module")
def trainer(process: LlavaProcessor) -> train.Trainer:
    return train.Trainer(process, pool("scenes", 3, 0.9, process), pool("phantom", 3, 0.35, process), seed=5)


@pytest.mark.parametrize("name", ["tokenizer.json", "processor_config.json"])
def test_the_recipe_writes_the_processor_that_is_shipped(process: LlavaProcessor, name: str, tmp_path: Path) -> None:
    process.save_pretrained(tmp_path)
    assert json.loads((tmp_path / name).read_text()) == json.loads((PHANTOM / name).read_text())


def test_the_recipe_builds_weights_of_the_shapes_that_are_shipped(process: LlavaProcessor, tmp_path: Path) -> None:
    build(process.tokenizer).half().save_pretrained(tmp_path)
    shapes = []
    for folder in (tmp_path, PHANTOM):
        with safe_open(f"{folder}/model.safetensors", "pt") as file:
            shapes.append({name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
    assert shapes[0] == shapes[1]


def test_a_tail_is_what_the_chat_template_puts_behind_the_image(process: LlavaProcessor) -> None:
    item = pool("phantom", 1, 0.0, process)[0]
    tail, answer, region = item.questions["general"][0]
    said = [{"type": "image"}, {"type": "text", "text": GENERAL}]
    text = process.apply_chat_template([{"role": "user", "content": said}], add_generation_prompt=True)
    ids = process.tokenizer(text).input_ids
    assert ids[ids.index(process.tokenizer.convert_tokens_to_ids("<image>")) + 1 :] == tail
    assert process.tokenizer.decode(answer) == drawing("phantom", "train", 0).style.split("-")[0] and not region.any()


def test_cells_are_the_share_of_each_patch_on_the_padded_square() -> None:
    mask = torch.zeros(56, 112).numpy()
    mask[:7, 14:28] = 1
    expected = torch.zeros(8, 8)
    expected[2, 1] = 0.5  # 28 rows of padding above are two patches; 7 of the third's 14 rows are covered
    torch.testing.assert_close(cells(mask).view(8, 8), expected)


@pytest.mark.parametrize("shape", [(3, 8, 5), (2, 4, 9)])
def test_an_orthogonal_update_keeps_the_singular_vectors_and_evens_the_values(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    turned = left.transpose(1, 2) @ train.orthogonal(matrices) @ right.transpose(1, 2)
    values = turned.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(turned, torch.diag_embed(values), atol=1e-4, rtol=0)
    assert values.min() > 0.6 and values.max() < 1.3


def test_packed_questions_cost_what_each_costs_alone(trainer: train.Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, asked = trainer.chosen, []
    monkeypatch.setattr(trainer, "chosen", lambda item, count: asked.append(chosen(item, count)) or asked[-1])
    items = [trainer.scenes[0], trainer.phantoms[1]]
    stage = train.Stage("", 10, natural=0.5, attention=0.7, dense=0.0, adamw=0.0, muon=0.0)
    with torch.no_grad():
        loss, _, right = trainer.answers(stage, 8, items)  # step 8 of 10: the attention loss weighs 0.7 * 0.4
        losses, hits, masses = [], [], []
        for item, questions in zip(items, asked, strict=True):
            for tail, answer, region in questions:
                image = trainer.model.config.image_token_index
                ids = torch.tensor([[*trainer.head, *[image] * 64, *tail, answer]])
                out = trainer.model(input_ids=ids, pixel_values=item.pixels[None].float(), output_attentions=True)
                losses.append(F.cross_entropy(out.logits[0, -2:], torch.tensor([answer, trainer.eos])))
                hits.append(out.logits[0, -2].argmax() == answer)
                if item.natural and region.any():
                    start = len(trainer.head)
                    masses.append(out.attentions[2][0, :2, -2, start : start + 64][:, region].sum(-1))
    looked = -(torch.stack(masses) + 1e-4).log().mean()
    torch.testing.assert_close(loss, torch.stack(losses).mean() + 0.28 * looked, atol=1e-5, rtol=1e-5)
    assert right == pytest.approx(sum(map(bool, hits)) / 12)


def test_a_trial_writes_the_same_weights_for_a_seed_and_goes_on_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, *more: str) -> dict[str, torch.Tensor]:
        trial = ["train", "--out", str(tmp_path / name), "--pictures", "2", "--scale", "0.0004", *more]
        monkeypatch.setattr(sys, "argv", trial)
        train.main()
        LlavaForConditionalGeneration.from_pretrained(tmp_path / name)
        return load_file(tmp_path / name / "model.safetensors")

    first, again = run("first"), run("again")
    assert all(torch.equal(first[name], again[name]) for name in first | again)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["scale"] == 0.0004
    assert (tmp_path / "first" / "taught" / "model.safetensors").is_file(), "each stage but the last has its own folder"
    more = run("more", "--start", str(tmp_path / "first"), "--seed", "1")
    assert any(not torch.equal(first[name], more[name]) for name in first)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["start"] == "first"


def test_training_lowers_the_loss_on_what_it_sees(process: LlavaProcessor) -> None:
    trainer = train.Trainer(process, pool("scenes", 1, 0.0, process), pool("phantom", 1, 0.0, process), seed=0)
    items = [trainer.scenes[0], trainer.phantoms[0]]

    def loss() -> float:
        with torch.no_grad():
            return trainer.dense(trainer.tower(items), items).item()

    before = loss()
    trainer.vision(4)
    assert loss() < before
