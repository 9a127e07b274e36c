"""The embedded benchmarks are deterministic and their boxes exact; the embedded model answers above chance."""

from collections import defaultdict

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration

from vgtool.benchmarks.phantom import SPLITS, drawing, rows
from vgtool.models.phantom import __path__ as home
from vgtool.records import Sample

WEIGHTS = f"{next(iter(home))}/weights"


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


def test_a_bright_lesion_is_brighter_inside_its_mask_than_around_it() -> None:
    for index in range(20):
        picture = drawing("phantom", "test", index)
        for part in picture.parts:
            if part.mark is not None:
                inside = picture.pixels[part.mark.mask].mean()
                around = picture.pixels[part.mask & ~part.mark.mask].mean()
                assert (inside > around) == (part.mark.tone == "bright") or picture.style == "ultrasound"


def test_the_embedded_model_answers_every_scene_question_kind_above_chance_through_plain_generate() -> None:
    processor = AutoProcessor.from_pretrained(WEIGHTS)
    model = LlavaForConditionalGeneration.from_pretrained(WEIGHTS, dtype=torch.float32).eval()
    chance = {"tone": 0.5, "shape": 0.25, "exist": 0.5, "side": 0.5, "name": 0.25}
    right: dict[str, list[bool]] = defaultdict(list)
    for sample in list(rows("scenes", "test"))[:200]:
        right[sample.id.rsplit("-", 1)[1]].append(answered(model, processor, sample) == expected(sample))
    for kind, results in right.items():
        assert np.mean(results) > chance[kind] + 0.2, (kind, np.mean(results))


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
