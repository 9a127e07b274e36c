"""VCD against whole prompts about the picture and its noised twin, and the noise against the original's formula."""

import math
from typing import Any
from zlib import crc32

import pytest
import torch

from tests.embedded import shown
from vgtool.attention.sharing import Sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.errors import VgError
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup
from vgtool.methods.vcd import kept, noised


@pytest.fixture(scope="module")
def groups(opened: Sessions) -> list[ImageGroup]:
    return shown(opened.adapter, 15)


def refined(opened: Sessions, groups: list[ImageGroup], *labels: str) -> dict[tuple[str, str], dict[str, Any]]:
    facts = Facts(opened.adapter.layers, opened.adapter.heads, (), (), 0)
    decoding = benchmark("phantom", limit=1).decoding
    methods = {label: parse(label) for label in labels}
    task = Refine(opened, methods, facts, decoding, mapping="exact", partner=lambda sample: groups[0].images[0])
    return {(row["sample_id"], row["method"]): row for row in task.run(groups, None)}


def eager(opened: Sessions, group: ImageGroup, other: Any, text: str, alpha: float, beta: float) -> str:
    """The answer by whole passes, one token after the other."""
    adapter, prompt, made = opened.adapter, opened.adapter.prompt(text), ()
    while len(made) < 6:
        with torch.inference_mode():
            logits = []
            for visions in (group.visions, other):
                inputs = adapter.inputs(visions, prompt.head, (*prompt.tail, *made))
                logits.append(adapter.forward(inputs.kwargs, [inputs.length - 1])[0, 0])
        scores = (1 + alpha) * logits[0] - alpha * logits[1]
        out = logits[0] < logits[0].max() + math.log(beta)
        token = int(scores.masked_fill(out, -torch.inf).argmax())
        if token in adapter.eos:
            break
        made = (*made, token)
    return adapter.tokenizer.decode(list(made), skip_special_tokens=True).strip()


@pytest.mark.parametrize("alpha,beta,step", [(1.0, 0.1, 500), (4.0, 0.001, 999)])
def test_answers_equal_whole_passes_over_the_picture_and_its_noised_twin(
    opened: Sessions, groups: list[ImageGroup], alpha: float, beta: float, step: int
) -> None:
    label = "vcd" if step == 500 else f"vcd:alpha={alpha},beta={beta},step={step}"
    rows = refined(opened, groups, label)
    plan = parse(label)
    changed = 0
    for group in groups:
        for sample in group.samples:
            seed = (0, crc32(sample.image_id.encode()))
            other = [noised(vision, place, step=plan.step, seed=seed) for place, vision in enumerate(group.visions)]
            said = eager(opened, group, other, sample.prompt, alpha, beta)
            assert rows[sample.id, label]["answer"] == said
            base = rows[sample.id, "baseline"]
            assert rows[sample.id, label]["confidence"] == pytest.approx(base["confidence"], abs=1e-5)
            changed += said != base["answer"]
    assert changed or step == 500, "a strong contrast changes something"


def test_no_contrast_is_the_baseline(opened: Sessions, groups: list[ImageGroup]) -> None:
    rows = refined(opened, groups[:1], "vcd:alpha=0")
    for sample in groups[0].samples:
        assert rows[sample.id, "vcd:alpha=0"]["answer"] == rows[sample.id, "baseline"]["answer"]


def test_the_noise_is_the_diffusions(opened: Sessions, groups: list[ImageGroup]) -> None:
    betas = torch.sigmoid(torch.linspace(-6, 6, 1000, dtype=torch.float64)) * (0.5e-2 - 1e-5) + 1e-5
    share = torch.cumprod(1 - betas, 0)
    for step in (0, 500, 999):
        assert kept(step) == pytest.approx(float(share[step]), rel=1e-9)
    vision = groups[0].visions[0]
    one, again = (noised(vision, 0, step=500, seed=(0, 1)) for _ in range(2))
    other = noised(vision, 1, step=500, seed=(0, 1))
    pixels = vision.tensors["pixel_values"]
    assert torch.equal(one.tensors["pixel_values"], again.tensors["pixel_values"])
    assert not torch.equal(one.tensors["pixel_values"], other.tensors["pixel_values"])
    noise = (one.tensors["pixel_values"] - math.sqrt(kept(500)) * pixels) / math.sqrt(1 - kept(500))
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(1, abs=0.02)


def test_its_defaults_are_the_originals_and_others_are_checked() -> None:
    plan = parse("vcd")
    assert (plan.alpha, plan.beta, plan.step) == (1.0, 0.1, 500)
    for text, said in (("vcd:step=1000", "step=1000"), ("vcd:beta=0", "beta=0")):
        with pytest.raises(VgError, match=said):
            parse(text)
