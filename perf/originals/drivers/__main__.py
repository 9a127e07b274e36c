"""Runs an original repository's own code on a checkpoint and cases that compare.py or rivals.py wrote.

    PYTHON -m drivers DRIVER CHECKOUT WORK      (in perf/originals)
PYTHON: an environment with what the repository asks for; CHECKOUT: a clone of it; WORK: the folder with cases.json.
Of a layout, WORK/original.npz and WORK/original.json get: ids per prompt (-200 for the image), and per case the pixels,
the last logits, the last row of attention to the image by layer and head, and the greedy answer. Of a rival's code,
WORK/rival.json gets its answers.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from drivers.surroundings import on_cpu


def main(driver, checkout, work):
    sys.path.insert(0, str(checkout))
    on_cpu()
    cases = json.loads((work / "cases.json").read_text())
    module, _, kind = driver.partition(".")
    opened = getattr(importlib.import_module(f"drivers.{module}"), kind)(work / cases["folder"], cases, checkout)
    if driver.startswith("rivals."):
        answers = [answered(opened, case["asked"], work / case["image"]) for case in cases["cases"]]
        (work / "rival.json").write_text(json.dumps(answers))
        return
    with torch.inference_mode():
        layout(opened, cases, work)


def answered(rival, question, image):
    """None for a question that spells the image token, say, which the rival's model does not take."""
    try:
        return rival(question, image)
    except (RuntimeError, ValueError, IndexError) as error:
        print(f"{question!r}: {error}", file=sys.stderr)
        return None


def taken(one, prompt):
    """Its ids; None for a prompt that spells the image token, which some originals fail on."""
    try:
        return one.ids(prompt)
    except (RuntimeError, ValueError, IndexError) as error:
        print(f"{prompt!r}: {error}", file=sys.stderr)
        return None


def layout(one, cases, work):
    ids, rows, arrays = [taken(one, prompt) for prompt in cases["prompts"]], [], {}
    for image in dict.fromkeys(case["image"] for case in cases["cases"]):
        arrays[f"pixels {image}"] = one.pixels(work / image).float().numpy()
    for case in cases["cases"]:
        prompt, image = cases["prompts"][case["prompt"]], work / case["image"]
        try:
            logits, attention = one.forward(prompt, image)
        except (RuntimeError, ValueError, IndexError):  # a prompt that spells the image token; refused here
            rows.append({**case, "answer": None})
            continue
        arrays[f"logits {len(rows)}"] = logits.float().numpy()
        arrays[f"attention {len(rows)}"] = attention.float().numpy()
        rows.append({**case, "answer": one.answer(case["asked"], image) if case.get("asked") else None})
    np.savez(work / "original.npz", **arrays)
    (work / "original.json").write_text(json.dumps({"ids": ids, "rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]))
