"""An original repository's own code against vgtool, on a tiny random checkpoint in the repository's layout.

    python perf/originals/compare.py LAYOUT --checkout DIR --python PYTHON [--kind no-prefix] [--prompts 200]
DIR: a clone of the repository, whose code is run; PYTHON: an interpreter with what it asks for (versions in
docs/models.md). Ids are compared for every prompt, or counted as refused by name; pixels of 3 shapes of image, each
grey, colour and transparent; logits and attention (last row to the image, every layer and head) of every prompt on one
of these nine images in turn, and of the first `--everywhere` prompts on each of them (the ids around the image do not
depend on it, and how many tokens it takes shows in the attention); greedy answers once a prompt, through
`vgtool refine`. Nothing is fetched. Prints one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from layouts import KINDS, LAYOUTS, Layout
from PIL import Image
from prompts import prompts

from vgtool.benchmarks.load import load as benchmark
from vgtool.errors import SampleError
from vgtool.images import open_image
from vgtool.models.load import load
from vgtool.records import ImageSource

HERE = Path(__file__).parent
SHAPES = {"wide": (330, 150), "tall": (140, 300), "square": (240, 240)}
MODES = {"grey": "L", "colour": "RGB", "transparent": "RGBA"}
NEAR = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("layout", choices=LAYOUTS)
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--kind", default="plain", choices=KINDS, help="how tokenizer.model was trained")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--everywhere", type=int, default=24, help="prompts that are seen on every image")
    parser.add_argument("--ids", action="store_true", help="ids alone")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (args.keep or Path(temporary)).resolve()
        work.mkdir(exist_ok=True, parents=True)
        layout = LAYOUTS[args.layout]
        layout.write(work / layout.spec.name, KINDS[args.kind])
        cases = written(work, layout, args.prompts, args.everywhere, args.ids)
        original(layout.driver, args.python, args.checkout, work)
        found = compared(work, layout, cases) | ({} if args.ids else answers(work, layout, cases))
    print(json.dumps({"layout": args.layout, "tokenizer": args.kind, **found}))


def original(driver: str, python: str, checkout: str, work: Path) -> None:
    """The repository's own code on the cases of a folder."""
    command = [python, "-m", "drivers", driver, str(Path(checkout).resolve()), str(work)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    sys.stderr.write(done.stderr[-2000:])


def pictures(work: Path, shapes: dict[str, tuple[int, int]], modes: dict[str, str] = MODES) -> list[str]:
    """Noise of every shape and mode, as files."""
    rng = np.random.default_rng(0)
    names = []
    for shape, (width, height) in shapes.items():
        for mode, channels in modes.items():
            depth = {"L": 1, "RGB": 3, "RGBA": 4}[channels]
            values = rng.integers(0, 256, (height, width, depth), dtype=np.uint8).squeeze()
            Image.fromarray(values, channels).save(work / f"{shape}-{mode}.png")
            names.append(f"{shape}-{mode}.png")
    return names


def written(work: Path, layout: Layout, count: int, everywhere: int, bare: bool) -> dict[str, Any]:
    images, asked = pictures(work, SHAPES), prompts(count)
    cases = [
        {"prompt": at, "image": image, "turn": turn}
        for at in range(count)
        for image in ([] if bare else images)
        if (turn := image == images[at % len(images)]) or at < everywhere
    ]
    if cases:
        dressed(work, asked, [case for case in cases if case["turn"]])
    value = {"folder": layout.spec.name, "prompts": asked, "cases": cases, **layout.facts}
    (work / "cases.json").write_text(json.dumps(value))
    return value


def dressed(work: Path, asked: list[str], cases: list[dict[str, Any]]) -> None:
    """Writes cases.jsonl, and puts into each case the question as vgtool's own format dresses it: stripped, with its
    instruction behind."""
    lines = [{"id": str(case["prompt"]), "image": case["image"], "question": asked[case["prompt"]]} for case in cases]
    (work / "cases.jsonl").write_text("\n".join(map(json.dumps, lines)))
    said = {sample.id: sample.prompt for sample in benchmark(str(work / "cases.jsonl")).samples}
    for case in cases:
        case["asked"] = said.get(str(case["prompt"]))


def compared(work: Path, layout: Layout, cases: dict[str, Any]) -> dict[str, Any]:
    theirs = json.loads((work / "original.json").read_text())
    arrays = np.load(work / "original.npz")
    adapter = load(layout.spec, source=work / layout.spec.name, device="cpu", offline=True)
    adapter.model.set_attn_implementation("eager")
    equal, refused, other, ready = 0, Counter[str](), [], {}
    for at, prompt in enumerate(cases["prompts"]):
        try:
            ready[at] = adapter.prompt(prompt)
        except SampleError as error:
            refused[str(error).split(":")[0]] += 1
            continue
        same = [*ready[at].head, -200, *ready[at].tail] == theirs["ids"][at]
        equal += same
        other += [] if same else [prompt]
    visions, pixels = {}, dict[str, float]()
    for image in dict.fromkeys(case["image"] for case in cases["cases"]):
        source = ImageSource(image, (work / image).read_bytes)
        visions[image] = adapter.prepare(open_image(source, alpha=adapter.alpha))
        own = visions[image].tensors["pixel_values"].numpy().squeeze()
        found = arrays[f"pixels {image}"].squeeze()
        pixels[image] = float(np.abs(own - found).max()) if own.shape == found.shape else np.inf
    near, worst, tried = {"logits": 0, "attention": 0}, {"logits": 0.0, "attention": 0.0}, 0
    for at, case in enumerate(theirs["rows"]):
        if case["prompt"] not in ready or f"logits {at}" not in arrays:
            continue
        tried += 1
        for what, value in seen(adapter, ready[case["prompt"]], visions[case["image"]]).items():
            wanted = arrays[f"{what} {at}"]
            if what == "logits":  # some loaders add rows to the vocabulary, which are no token of anyone's
                value, wanted = value[: len(wanted)], wanted[: len(value)]
            off = float(np.abs(value - wanted).max()) if value.shape == wanted.shape else np.inf
            near[what] += off < NEAR
            worst[what] = max(worst[what], off)
    apart = {image: off for image, off in pixels.items() if off}
    return {
        "prompts": len(cases["prompts"]), "ids equal": equal, "refused": dict(refused), "ids other": other[:10],
        "pixels": apart, "cases": tried, "near": near, "worst": worst,
    }  # fmt: skip


def seen(adapter: Any, asked: Any, vision: Any) -> dict[str, np.ndarray]:
    """The last logits [V], and the last row of attention to the image [layers, heads, tokens]."""
    with torch.inference_mode():
        inputs = adapter.inputs([vision], asked.head, asked.tail)
        out = adapter.model(**inputs.kwargs, output_attentions=True)
    rows = np.stack([layer[0, :, -1].numpy() for layer in out.attentions])
    start = len(asked.head)
    return {"logits": out.logits[0, -1].numpy(), "attention": rows[:, :, start : start + vision.tokens]}


def answers(work: Path, layout: Layout, cases: dict[str, Any]) -> dict[str, Any]:
    """Each prompt once, through the command, on the image of its turn."""
    rows = json.loads((work / "original.json").read_text())["rows"]
    known = {row["prompt"]: row["answer"] for row in rows if row["answer"] is not None}
    found = refined(work, layout, ["adaptvis"])
    if isinstance(found, str):
        return {"answers": found}
    equal, other = 0, []
    own = {
        int(row["sample_id"]): row["answer"] for row in found if row["method"] == "baseline" and row["error"] is None
    }
    for at, answer in own.items():
        equal += answer == known.get(at)
        other += [] if answer == known.get(at) else [(cases["prompts"][at], known.get(at), answer)]
    return {"answers": len(own), "answers equal": equal, "answers other": other[:5]}


def refined(work: Path, layout: Layout, methods: list[str]) -> list[dict[str, Any]] | str:
    """The rows of `vgtool refine` on the cases of a folder, or the end of what it said when it failed."""
    fields = layout.spec.model_dump(exclude_none=True, exclude={"name", "hub", "heads_ranked", "knockout_layers"})
    (work / "models.yaml").write_text(yaml.safe_dump({layout.spec.name: fields}))
    command = [
        sys.executable, "-m", "vgtool", "refine", "--model", str(work / layout.spec.name), "--registry", str(work),
        "--benchmark", str(work / "cases.jsonl"), "--device", "cpu", "--out", str(work / "run"), "--offline",
        *(part for method in methods for part in ("--method", method)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        return done.stderr[-500:]
    return pl.read_parquet(work / "run" / "parts" / "*.parquet").to_dicts()


if __name__ == "__main__":
    main()
