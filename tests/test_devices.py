"""On one pretended card, and spread over two: no op mixes devices, rows and answers are the CPU's, few calls wait."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import checkpoints
from tests.pretend import MixedDevices, Pretend, halves, place, spread
from vgtool.attention.sharing import sessions
from vgtool.benchmarks.load import load as benchmark
from vgtool.images import open_image
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.methods.task import ImageGroup
from vgtool.models.adapter import Adapter
from vgtool.models.load import load, resolve
from vgtool.records import Decoding

MODELS = ("phantom-vlm", "llava-tri", "vila-m3-8b", "medrega", "qwen3-vl-8b", "internvl3-8b", "medgemma-4b")
METHODS = (
    *("vgrefine", "vgrefine:apply=multiply,decode=on,rows=question", "vgrefine:row=text,general=head"),
    *("pai:start=1", "adaptvis:decode=on", "vicrop", "swap", "oracle"),
)
FEW = ("vgrefine:apply=multiply,decode=on,rows=question", "pai:start=1", "vicrop")
"""One of each kind, for the models whose preparation and passes are looked at."""


def opened(name: str, folder: Path) -> Adapter:
    """The embedded model, or a tiny checkpoint in the layout of that name."""
    spec, source = resolve(name)
    if name in checkpoints.WRITERS:
        source = folder / "model"
        if not source.exists():
            checkpoints.WRITERS[name](source)
    return load(spec, source=source, dtype="float32", device="cpu", offline=True)


def picture(questions: int) -> ImageGroup:
    """One image without its preparation, and some of its questions."""
    samples = benchmark("scenes", limit=10).samples
    mine = tuple(sample for sample in samples if sample.image_id == samples[0].image_id)[:questions]
    return ImageGroup(mine, (open_image(mine[0].image),), ())


def rows_of(
    adapter: Adapter, methods: tuple[str, ...] = METHODS, questions: int = 2, steps: int = 2
) -> list[dict[str, Any]]:
    """A probe's and a refine run's rows of one image."""
    found, shown = sessions(adapter), picture(questions)
    adapter.generation = {"repetition_penalty": 1.1}
    group = ImageGroup(shown.samples, shown.images, (adapter.prepare(shown.images[0]),))
    facts = Facts(adapter.layers, adapter.heads, ((1, 0), (1, 1)), (1,), 0)
    known = {label: parse(label) for label in methods}
    other = open_image(benchmark("scenes", limit=10).samples[-1].image)
    refine = Refine(found, known, facts, Decoding(steps), mapping="exact", partner=lambda sample: other)
    return [*Probe(found, maps="heads", row="last", mapping="exact").run([group], None), *refine.run([group], None)]


@pytest.mark.parametrize("name,cards", [(MODELS[0], 1), *((name, 2) for name in MODELS)])
def test_no_op_mixes_devices(name: str, cards: int, tmp_path: Path) -> None:
    methods = METHODS if name == "phantom-vlm" else FEW
    expected = rows_of(opened(name, tmp_path), methods)
    adapter = opened(name, tmp_path)
    if cards == 1:
        place(adapter.model)
    else:
        spread(adapter.model, halves(adapter))
    with Pretend():
        found = rows_of(adapter, methods)
    for one, other in zip(expected, found, strict=True):
        assert one["error"] is None
        assert [one.get(k) for k in ("answer", "kept", "error")] == [other.get(k) for k in ("answer", "kept", "error")]


def test_no_layer_and_no_row_of_an_answer_waits_for_the_card(tmp_path: Path) -> None:
    adapter = opened("phantom-vlm", tmp_path)
    place(adapter.model)
    with Pretend() as pretended:
        rows = rows_of(adapter, ("vgrefine", "pai:start=1"), 5, 4)
    assert len(rows) == 5 + 3 * 5 and adapter.layers == 6, (
        "enough rows and layers to tell a wait in each from one in all"
    )
    found: Counter[str] = Counter()
    for line, count in pretended.waits.items():
        where, call = line.split()
        found[f"{where.split(':')[0]} {call}"] += count
    steps, edited_passes = 4, 2
    assert found["attention/decode.py tolist"] <= 1 + steps, "the first tokens, then one wait a step for all rows"
    assert found["methods/answers.py tolist"] <= edited_passes, "what the edits change once a pass, not once a layer"
    known = {"attention/decode.py tolist", "attention/engine.py equal", "methods/answers.py tolist"}
    known |= {
        "attention/session.py cpu",
        "methods/reading.py cpu",
        "methods/reading.py __bool__",
    }
    known |= {f"attention/{where}" for where in ("engine.py __bool__", "engine.py __float__")}  # when it is attached
    known |= {f"attention/{where}" for where in ("selfcheck.py __int__", "selfcheck.py __float__")}
    known |= {
        "attention/sharing.py __bool__",
        "attention/sharing.py __float__",
        "transformers/masking_utils.py __bool__",
    }
    assert found.keys() <= known, "maps are fetched when their pass is over; the rest is once an image or once a model"


def test_what_cuda_refuses_is_refused() -> None:
    with Pretend():
        card, other, host = torch.ones(3, device="cuda:0"), torch.ones(3, device="cuda:1"), torch.ones(3)
        assert (card + torch.tensor(1.0)).device == torch.device("cuda:0") and card.cpu().device.type == "cpu"
        assert card[torch.tensor([0, 2])].device == card.device and host.to(card).device == card.device
        calls = [
            lambda: card + host,
            lambda: card + other,
            lambda: torch.cat([card, host]),
            card.numpy,
            lambda: other[torch.zeros(1, dtype=torch.long, device="cuda:0")],
            lambda: torch.where(card > 0, card, host),
        ]
        for call in calls:
            with pytest.raises(MixedDevices):
                call()
