"""ViCrop's windows by its released code and by vgtool, on random maps over images of every shape.

    python perf/originals/windows.py CHECKOUT [--count 200]
CHECKOUT: a clone of saccharomycetes/mllms_know; its `bbox_from_att_image_adaptive` is read out of utils.py and run as
it stands (numpy alone). Prints how many boxes are the same, within one pixel a side, and the largest difference, for
LLaVA's input (336, padded squares) and Qwen2.5-VL's (224 and up, grids that follow the image).
"""

import argparse
import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from vgtool.grounding.geometry import Geometry
from vgtool.methods.rivals import window
from vgtool.records import Grid


def released(checkout: Path) -> Any:
    """The function, without the file's imports of libraries it does not use."""
    tree = ast.parse((checkout / "utils.py").read_text("utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("bbox_from")]
    space: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(found, []), "utils.py", "exec"), space)
    return space["bbox_from_att_image_adaptive"]


def compared(original: Any, count: int, least: int, follows: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    same = near = 0
    worst = 0
    for _ in range(count):
        width, height = (int(side) for side in rng.integers(340, 1600, 2))
        if follows:
            grid = Grid(max(height // 56, 4), max(width // 56, 4))
            geometry = Geometry.squash(width, height, grid.cols * 28, grid.rows * 28, grid)
        else:
            grid = Grid(24, 24)
            geometry = Geometry.squash(width, height, least, least, grid)
        values = rng.random((grid.rows, grid.cols))
        theirs = tuple(round(float(side)) for side in original(values, (width, height), least))
        scene: Any = SimpleNamespace(
            geometry=geometry,
            image=SimpleNamespace(width=width, height=height),
            facts=SimpleNamespace(follows_image=follows),
        )
        ours = window(values, scene)
        off = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
        same, near, worst = same + (off == 0), near + (off <= 1), max(worst, off)
    return {"maps": count, "same": same, "within one pixel": near, "largest difference": worst}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    original = released(args.checkout)
    print(json.dumps({"llava": compared(original, args.count, 336, False)}))
    print(json.dumps({"qwen2.5-vl": compared(original, args.count, 224, True)}))


if __name__ == "__main__":
    main()
