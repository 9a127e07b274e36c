"""The released code of PAI, AdaptVis and ViCrop against vgtool's methods of these names, on tiny random checkpoints.

    python perf/originals/rivals.py RIVAL --checkout DIR --python PYTHON [--prompts 200]
DIR: a clone of the rival's repository, whose code is run; PYTHON: an interpreter with what it asks for (versions in
docs/method.md). Each prompt once, on one of nine images in turn (six opaque ones of a native layout), under the
settings of the released code; vgtool's answers come from `vgtool refine`. How often the method changed the baseline's
answer says whether it was tried at all; so does how far it moved the first token's probability, which AdaptVis' and
ViCrop's code give too. Prints one JSON object.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compare import MODES, dressed, original, pictures, refined
from layouts import Layout, known
from prompts import prompts
from safetensors.torch import load_file, save_file

from tests import checkpoints
from vgtool.registry import models

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
SHAPES = {"wide": (784, 560), "tall": (504, 840), "square": (700, 700)}
"""Larger than ViCrop's windows."""
FEWER = {"wide": (560, 420), "tall": (392, 588), "square": (476, 476)}
"""The same in fewer cells, for a model whose tokens grow with its image: whole cells of Qwen's."""


@dataclass(frozen=True)
class Rival:
    """One method, its released code, and the model that this code was written for."""

    driver: str
    layout: Layout
    method: str
    """As `--method` takes it: the released code's settings."""
    layers: int
    settings: dict[str, Any] = field(default_factory=dict)
    """The same for the released code, as its command line has them."""
    processor: dict[str, Any] = field(default_factory=dict)
    """What its version of transformers wants in processor_config.json."""
    shapes: dict[str, tuple[int, int]] = field(default_factory=lambda: SHAPES)
    modes: dict[str, str] = field(default_factory=lambda: MODES)
    factors: dict[str, float] = field(default_factory=dict)
    """Random weights, by the end of their name, times so much: what makes the method's own choices fall both ways."""


def entry(name: str, writer: Any, prompt: str | None = None, **options: Any) -> Layout:
    """A registry entry's layout under another prompt and other options."""
    spec = models()[name]
    changed: dict[str, Any] = {"options": spec.options | options} | ({} if prompt is None else {"prompt": prompt})
    return Layout("", spec.model_copy(update=changed), writer)


ORIGINAL = entry(
    "llava-1.5-7b-original",
    checkpoints.llava_original,
    f"{SYSTEM}USER: <image> {{question}} ASSISTANT:",
    aspect="square",
)
OPAQUE = {mode: MODES[mode] for mode in ("grey", "colour")}
"""Of a native layout: its own processor lays transparency on white, and these rivals drop it before."""
HF = {
    "processor_class": "LlavaProcessor", "patch_size": 14, "vision_feature_select_strategy": "default",
    "image_token": "<image>", "num_additional_image_tokens": 1,
}  # fmt: skip
RIVALS = {
    "pai": Rival("rivals.pai", ORIGINAL, "pai:first=plain", 4, {"alpha": 0.2, "gamma": 1.1, "start": 2}),
    "pai-unguided": Rival("rivals.pai", ORIGINAL, "pai:gamma=1", 4, {"alpha": 0.2, "gamma": None, "start": 2}),
    "adaptvis": Rival(
        "rivals.adaptvis",
        entry("llava-1.5-7b", checkpoints.llava_hf, "USER: <image>\n{question} ASSISTANT:"),
        "adaptvis", 34, {"threshold": 0.4, "weight1": 0.5, "weight2": 1.5},
        modes=OPAQUE, factors={"q_proj.weight": 6.0, "lm_head.weight": 30.0},
    ),
    "vicrop-llava": Rival(
        "rivals.vicrop_llava",
        entry("llava-1.5-7b", checkpoints.llava_hf, "<image>\nUSER: {question}\nASSISTANT:"),
        "vicrop:side=336,over=whole", 32, processor=HF, modes=OPAQUE,
    ),
    "vicrop-qwen": Rival(
        "rivals.vicrop_qwen",
        known("", "qwen2.5-vl-3b-vicrop", lambda at, **kind: checkpoints.qwen(at, kind="qwen2_5_vl")),
        "vicrop", 36, shapes=FEWER, modes=OPAQUE,
        factors={"v_proj.bias": 0.0, "o_proj.weight": 3.0, "down_proj.weight": 0.3, "merger.mlp.2.weight": 10.0},
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rival", choices=RIVALS)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    rival = RIVALS[args.rival]
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.keep or Path(temporary)).resolve()
        work.mkdir(exist_ok=True, parents=True)
        folder = work / rival.layout.spec.name
        rival.layout.write(folder, {}, rival.layers)
        told(folder, rival)
        asked, images = prompts(args.prompts), pictures(work, rival.shapes, rival.modes)
        cases: list[dict[str, Any]] = [{"prompt": at, "image": images[at % len(images)]} for at in range(len(asked))]
        dressed(work, asked, cases)
        value = {"folder": folder.name, "cases": cases, "settings": rival.settings}
        (work / "cases.json").write_text(json.dumps(value))
        rows = refined(work, rival.layout, [rival.method])
        assert not isinstance(rows, str), rows
        original(rival.driver, args.python, args.checkout, work)
        print(json.dumps({"rival": args.rival, "method": rival.method, **compared(work, asked, rows)}))


def told(folder: Path, rival: Rival) -> None:
    """What the rival's version of transformers wants to find in the checkpoint's small files."""
    if "tokenizer.model" in {file.name for file in folder.iterdir()}:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({"pad_token": "<unk>"} | json.loads(path.read_text()) | {"padding_side": "left"}))
    if not (folder / "generation_config.json").exists():  # as llava-hf's
        pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
        ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": pad}
        checkpoints.write(folder / "generation_config.json", {"_from_model_config": True, **ids})
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        for name, value in tensors.items():
            seen = "vis" in name and "merger" not in name  # of the vision tower, which stays as it is
            by = [factor for end, factor in rival.factors.items() if name.endswith(end) and not seen]
            value *= by[0] if by else 1.0
        save_file(tensors, file, {"format": "pt"})
    if rival.processor:
        checkpoints.write(folder / "processor_config.json", rival.processor)


def compared(work: Path, asked: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    theirs = json.loads((work / "rival.json").read_text())
    own = {int(row["sample_id"]): row for row in rows if row["method"] != "baseline"}
    base = {int(row["sample_id"]): row for row in rows if row["method"] == "baseline"}
    refused: dict[str, int] = {}
    equal = changed = 0
    other, apart, moved = [], [], []
    for at, row in own.items():
        if row["error"] is not None:
            name = row["error"].split(":")[0]
            refused[name] = refused.get(name, 0) + 1
            continue
        wanted, confidence = theirs[at] if isinstance(theirs[at], list) else (theirs[at], None)
        if confidence is not None:
            apart.append(abs(row["confidence"] - confidence))
            moved.append(abs(row["confidence"] - base[at]["confidence"]))
        same = wanted is not None and row["answer"].strip() == wanted.strip()
        equal += same
        changed += row["answer"] != base[at]["answer"]
        other += [] if same else [(asked[at], theirs[at], row["answer"])]
    return {
        "prompts": len(asked),
        "answers equal": equal,
        "refused": refused,
        "not the baseline's": changed,
        "confidences": len(apart),
        "apart at most": max(apart, default=None),
        "moved by the method at least": min(moved, default=None),
        "other": other[:5],
    }


if __name__ == "__main__":
    main()
