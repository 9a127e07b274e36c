"""The embedded benchmarks are deterministic and their boxes exact; the embedded model answers above chance."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration
from typer.testing import CliRunner

from tests.native import PHANTOM
from vgtool.benchmarks.phantom import SPLITS, drawing, rows
from vgtool.commands import app
from vgtool.grounding.heads import HeadFile, write
from vgtool.records import Sample
from vgtool.scoring.inputs import ANSWERS, judged, read_run


@pytest.mark.parametrize("name,split", [(name, split) for name in SPLITS for split in SPLITS[name]])
def test_splits_are_deterministic_with_unique_ids(name: str, split: str) -> None:
    first, second = list(rows(name, split)), list(rows(name, split))
    assert [s.id for s in first] == [s.id for s in second]
    assert len({s.id for s in first}) == len(first) == 5 * SPLITS[name][split]
    assert first[0].image.read() == second[0].image.read()


def test_boxes_are_the_tightest_around_the_drawn_mask() -> None:
    for sample in list(rows("phantom", "test"))[:50]:
        assert sample.mask is not None
        mask, box = np.asarray(sample.mask()), sample.boxes[0]
        assert mask[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)].sum() == mask.sum()
        for edge in (mask[int(box.y0)], mask[int(box.y1) - 1], mask[:, int(box.x0)], mask[:, int(box.x1) - 1]):
            assert edge.any()


def test_a_part_is_an_ellipse_within_its_quadrant() -> None:
    """Its area is that of the ellipse between its outermost pixels, and it is widest in its middle."""
    for index in range(10):
        seen = drawing("phantom", "test", index)
        for part in seen.parts:
            rows, columns = np.flatnonzero(part.mask.any(1)), np.flatnonzero(part.mask.any(0))
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert part.mask.sum() == pytest.approx(np.pi / 4 * width * height, rel=0.03)
            assert part.mask.sum(1).max() >= width - 1 and part.mask.sum(0).max() >= height - 1
            assert columns.min() > 0 and rows.min() > 0 and part.right == (columns.mean() > seen.width / 2)
            assert (columns < seen.width / 2).all() or (columns >= seen.width / 2).all()


def test_which_questions_have_one_right_word_and_what_they_are_about() -> None:
    asked = {(name, sample.id.rpartition("-")[2]): sample for name in SPLITS for sample in rows(name, "test")}
    kinds = {(name, sample.question_type) for (name, _), sample in asked.items()}
    assert kinds == {(name, kind) for name in SPLITS for kind in ("open", "closed", "choice")}
    for (name, _), sample in asked.items():
        mark = "spot on the" if name == "scenes" else "lesion in the"
        assert mark in sample.question or " on the left or on the right?" in sample.question


def test_a_bright_lesion_is_brighter_inside_its_mask_than_around_it() -> None:
    for index in range(20):
        picture = drawing("phantom", "test", index)
        for part in picture.parts:
            if part.mark is not None:
                inside = picture.pixels[part.mark.mask].mean()
                around = picture.pixels[part.mask & ~part.mark.mask].mean()
                assert (inside > around) == (part.mark.tone == "bright") or picture.style == "ultrasound"


def test_the_embedded_model_answers_scene_questions_above_chance_through_plain_generate() -> None:
    processor = AutoProcessor.from_pretrained(PHANTOM)
    model = LlavaForConditionalGeneration.from_pretrained(PHANTOM, dtype=torch.float32).eval()
    chance = {"tone": 0.5, "shape": 0.25, "exist": 0.5, "name": 0.25}  # side is its weak spot (model card)
    right: dict[str, list[bool]] = defaultdict(list)
    for sample in list(rows("scenes", "test"))[:60]:
        right[sample.id.rsplit("-", 1)[1]].append(answered(model, processor, sample) == expected(sample))
    for kind, low in chance.items():
        assert np.mean(right[kind]) > low + 0.2, (kind, np.mean(right[kind]))


def expected(sample: Sample) -> str:
    return "ABCD"[sample.choices.index(sample.reference)] if sample.choices else sample.reference


def answered(model: LlavaForConditionalGeneration, processor: AutoProcessor, sample: Sample) -> str:
    import io

    from PIL import Image

    content = [{"type": "image"}, {"type": "text", "text": sample.prompt}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    inputs = processor(Image.open(io.BytesIO(sample.image.read())), text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    return processor.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_the_embedded_model_answers_phantom_questions_above_chance_and_better_still_by_the_true_box(
    tmp_path: Path,
) -> None:
    """Presence, name, shape and tone clearly; side is the model's weak spot and left out on 60 questions a kind."""
    heads = HeadFile("phantom-vlm", "any", 6, 6, {}, [(2, 0, 0.0), (2, 1, 0.0)], [2])
    write(tmp_path / "heads.json", heads)
    command = (
        f"refine --model phantom-vlm --benchmark phantom --limit 300 --method oracle --heads {tmp_path}/heads.json"
    )
    assert CliRunner().invoke(app, [*command.split(), "--out", str(tmp_path / "run")]).exit_code == 0
    right: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for row in judged(read_run(tmp_path / "run", ANSWERS), None).iter_rows(named=True):
        right[row["method"], row["sample_id"].rsplit("-", 1)[1]].append(row["outcome"] == "right")
    for kind, chance in {"tone": 0.5, "exist": 0.5, "shape": 0.25, "name": 0.25}.items():
        assert np.mean(right["baseline", kind]) > chance + 0.1, kind
    for kind in ("tone", "shape", "name"):
        assert np.mean(right["oracle", kind]) > np.mean(right["baseline", kind]) + 0.05, kind
