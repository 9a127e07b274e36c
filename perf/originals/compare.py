"""An original repository's own code against vgtool, on a tiny random checkpoint in the repository's layout.

    python perf/originals/compare.py LAYOUT --checkout DIR --python PYTHON [--kind no-prefix] [--prompts 200]
DIR: a clone of the repository; PYTHON: an interpreter with what the repository asks for (versions in docs/models.md).
Ids are compared for every prompt, or counted as refused by name; logits and attention (last row to the image, every
layer and head) for every prompt on 3 shapes of image, each grey, colour and transparent; greedy answers once a prompt,
through `vgtool refine`. Prints one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from PIL import Image
from prompts import prompts

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests import checkpoints  # noqa: E402
from vgtool.benchmarks.load import load as benchmark  # noqa: E402
from vgtool.errors import SampleError  # noqa: E402
from vgtool.images import open_image  # noqa: E402
from vgtool.models.load import load  # noqa: E402
from vgtool.records import ImageSource  # noqa: E402
from vgtool.registry import ModelSpec, models  # noqa: E402

SHAPES = {"wide": (330, 150), "tall": (140, 300), "square": (240, 240)}
MODES = {"grey": "L", "colour": "RGB", "transparent": "RGBA"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no-prefix": {"prefix": False},
    "unlisted": {"listed": False},
    "no-prefix-unlisted": {"prefix": False, "listed": False},
    "nfkc": {"rule": "nmt_nfkc", "squeeze": True},
}
"""How tokenizer.model was trained."""
LAYOUTS: dict[str, tuple[str, str, Callable[..., Any], dict[str, Any]]] = {
    "huatuogpt-vision-7b": ("huatuo", "huatuogpt-vision-7b", lambda at, **kind: checkpoints.huatuo_7b(at), {}),
    "huatuogpt-vision-34b": ("huatuo", "huatuogpt-vision-34b", checkpoints.huatuo_34b, {}),
    "huatuogpt-vision-34b-plain-json": (
        "huatuo",
        "huatuogpt-vision-34b",
        lambda at, **kind: checkpoints.huatuo_34b(at, prepends=False, **kind),
        {},
    ),
    "llava-med": ("llava-med", "llava-med", checkpoints.llava_med, {}),
    "llava-1.5": ("llava", "llava-1.5-7b-original", checkpoints.llava_original, {"conversation": "vicuna_v1"}),
    "llava-tri": ("llava", "llava-tri", lambda at, **kind: checkpoints.llava_tri(at), {"conversation": "llama3"}),
    "vila-m3-8b": (
        "vila",
        "vila-m3-8b",
        lambda at, **kind: checkpoints.vila(at, sentence=False),
        {"conversation": "llama_3"},
    ),
    "vila-m3-13b": (
        "vila",
        "vila-m3-13b",
        lambda at, **kind: checkpoints.vila(at, sentence=True, **kind),
        {"conversation": "vicuna_v1"},
    ),
    "medrega": (
        "medrega",
        "medrega",
        checkpoints.medrega,
        {
            "opens": "You are a helpful medical assistant. You are required to answer the question based on the "
            "medical image. <image>\n",
            "side": 112,
        },
    ),
}
"""Layout -> driver, registry entry, writer of the checkpoint, what the driver has to know."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("layout", choices=LAYOUTS)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--kind", default="plain", choices=KINDS)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        work.mkdir(exist_ok=True, parents=True)
        driver, entry, writer, facts = LAYOUTS[args.layout]
        spec = checkpoint(work / entry, entry, writer, KINDS[args.kind])
        cases = written(work, entry, facts, args.prompts)
        command = [args.python, str(Path(__file__).with_name("drivers.py")), driver, args.checkout, str(work)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        found = compared(work, spec, cases) | answers(work, spec, cases)
    print(json.dumps({"layout": args.layout, "tokenizer": args.kind, **found}))


def checkpoint(folder: Path, entry: str, writer: Callable[..., Any], kind: dict[str, Any]) -> ModelSpec:
    """The tiny checkpoint with what only the original reads beside it; its entry."""
    fields = checkpoints.text_fields

    def small(vocabulary: int, layers: int, heads: int, groups: int, **others: Any) -> dict[str, Any]:
        return fields(vocabulary, min(layers, 4), 4, min(groups, 4), **others)

    checkpoints.text_fields = small
    writer(folder, **kind)
    checkpoints.text_fields = fields
    beside(folder)
    return models()[entry]


def beside(folder: Path) -> None:
    """The CLIP folder that LLaVA's loaders ask for, from the checkpoint's own tower; MedRegA's slow tokenizer class."""
    config = json.loads((folder / "config.json").read_text())
    if "mm_vision_tower" not in config:
        return
    at = folder / "vit" / "clip_vit_large_patch14_336"
    at.mkdir(parents=True, exist_ok=True)
    vision = {"hidden_size": 128, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
    checkpoints.write(at / "config.json", {"model_type": "clip_vision_model", **vision, "image_size": 84})
    write = json.loads((at / "config.json").read_text()) | {"patch_size": 14, "hidden_act": "quick_gelu"}
    checkpoints.write(at / "config.json", write)
    checkpoints.write(
        at / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor", "crop_size": 84, "size": 84, "resample": 3,
            "do_center_crop": True, "do_normalize": True, "do_resize": True, "do_convert_rgb": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
        },
    )  # fmt: skip
    tower = {}
    for file in [*folder.glob("*.safetensors"), *(folder.parent / "clip").glob("*.bin")]:
        from safetensors.torch import load_file

        for name, value in (load_file(file) if file.suffix == ".safetensors" else torch.load(file)).items():
            short = name.removeprefix("model.vision_tower.vision_tower.")
            if short.startswith("vision_model.") and "position_ids" not in short:
                tower[short] = value
    from safetensors.torch import save_file

    save_file(tower, at / "model.safetensors", {"format": "pt"})
    width = {"mm_hidden_size": 384} if config.get("s2") else {}
    checkpoints.write(folder / "config.json", config | {"mm_vision_tower": str(at)} | width)
    ids = {"bos_token_id": config.get("bos_token_id", 1), "eos_token_id": config.get("eos_token_id", 2)}
    checkpoints.write(folder / "generation_config.json", {"_from_model_config": True, **ids})
    plain = {}
    for file in folder.glob("pytorch_model*.bin"):  # read by a torch of the repository's own time only
        plain |= torch.load(file)
        file.unlink()
    if plain:
        save_file(plain, folder / "model.safetensors", {"format": "pt"})
        (folder / "pytorch_model.bin.index.json").unlink()


def written(work: Path, folder: str, facts: dict[str, Any], count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    images = []
    for shape, (width, height) in SHAPES.items():
        for mode, channels in MODES.items():
            depth = {"L": 1, "RGB": 3, "RGBA": 4}[channels]
            values = rng.integers(0, 256, (height, width, depth), dtype=np.uint8).squeeze()
            Image.fromarray(values, channels).save(work / f"{shape}-{mode}.png")
            images.append(f"{shape}-{mode}.png")
    asked = prompts(count)
    cases = [
        {"prompt": at, "image": image, "turn": images.index(image) == at % len(images)}
        for at in range(count)
        for image in images
    ]
    turns = [case for case in cases if case["turn"]]
    lines = [{"id": str(case["prompt"]), "image": case["image"], "question": asked[case["prompt"]]} for case in turns]
    (work / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = {sample.id: sample.prompt for sample in benchmark(str(work / "cases.jsonl")).samples}
    for case in turns:  # as vgtool's own format dresses a question: stripped, with its instruction behind
        case["asked"] = said.get(str(case["prompt"]))
    grid = {"huatuogpt": 36, "llava": 36, "vila": 16, "medrega": 16}
    tokens = next(size for name, size in grid.items() if folder.startswith(name))
    value = {"folder": folder, "prompts": asked, "cases": cases, "tokens": tokens, **facts}
    (work / "cases.json").write_text(json.dumps(value))
    return value


def compared(work: Path, spec: ModelSpec, cases: dict[str, Any]) -> dict[str, Any]:
    original = json.loads((work / "original.json").read_text())
    arrays = np.load(work / "original.npz")
    adapter = load(spec, source=work / cases["folder"], device="cpu", offline=True)
    adapter.model.set_attn_implementation("eager")
    equal, refused, other, tails = 0, Counter[str](), [], {}
    for at, prompt in enumerate(cases["prompts"]):
        try:
            asked = adapter.prompt(prompt)
        except SampleError as error:
            refused[str(error).split(":")[0]] += 1
            continue
        tails[at] = asked
        if [*asked.head, -200, *asked.tail] == original["ids"][at]:
            equal += 1
        else:
            other.append(prompt)
    visions = {}
    for image in {case["image"] for case in cases["cases"]}:
        alpha = {"alpha": adapter.alpha} if hasattr(adapter, "alpha") else {}
        visions[image] = adapter.prepare(open_image(ImageSource(image, (work / image).read_bytes), **alpha))
    logits, attention, tried = Counter[bool](), Counter[bool](), 0
    worst = [0.0, 0.0]
    for at, case in enumerate(original["rows"]):
        if case["prompt"] not in tails or f"logits {at}" not in arrays:
            continue
        asked = tails[case["prompt"]]
        with torch.inference_mode():
            inputs = adapter.inputs([visions[case["image"]]], asked.head, asked.tail)
            out = adapter.model(**inputs.kwargs, output_attentions=True)
        own = np.stack([layer[0, :, -1].numpy() for layer in out.attentions])
        start = len(asked.head)
        tokens = visions[case["image"]].tokens
        off = [
            float(np.abs(out.logits[0, -1].numpy() - arrays[f"logits {at}"]).max()),
            float(np.abs(own[:, :, start : start + tokens] - arrays[f"attention {at}"]).max()),
        ]
        tried += 1
        logits[off[0] < 1e-4] += 1
        attention[off[1] < 1e-4] += 1
        worst = [max(a, b) for a, b in zip(worst, off, strict=True)]
    return {
        "prompts": len(cases["prompts"]), "ids equal": equal, "refused": dict(refused), "ids other": other[:10],
        "cases": tried, "logits equal": logits[True], "attention equal": attention[True], "worst": worst,
    }  # fmt: skip


def answers(work: Path, spec: ModelSpec, cases: dict[str, Any]) -> dict[str, Any]:
    """Each prompt once, through the command, on the image of its turn."""
    original = json.loads((work / "original.json").read_text())
    turns = [row for row in original["rows"] if row["answer"] is not None]
    known = {row["prompt"]: row["answer"] for row in turns}
    fields = spec.model_dump(exclude_none=True, exclude={"name", "hub", "heads_ranked", "knockout_layers"})
    (work / "models.yaml").write_text(yaml.safe_dump({cases["folder"]: fields}))
    command = [
        sys.executable, "-m", "vgtool", "refine", "--model", str(work / cases["folder"]), "--registry", str(work),
        "--benchmark", str(work / "cases.jsonl"), "--method", "adaptvis", "--device", "cpu", "--out", str(work / "run"),
        "--offline",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode not in (0, 3):
        return {"answers": done.stderr[-500:]}
    rows = pl.read_parquet(work / "run" / "parts" / "*.parquet").filter(pl.col("method") == "baseline")
    equal, compared, other = 0, 0, []
    for row in rows.filter(pl.col("error").is_null()).iter_rows(named=True):
        at = int(row["sample_id"])
        wanted = known[at]
        compared += 1
        equal += row["answer"] == wanted
        if row["answer"] != wanted:
            other.append((cases["prompts"][at], wanted, row["answer"]))
    return {"answers": compared, "answers equal": equal, "answers other": other[:5]}


if __name__ == "__main__":
    main()
