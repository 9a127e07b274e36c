"""Made-up pictures with masks in several layouts, and a build of them, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.draw import disk, ellipse

from vgtool.build import make
from vgtool.build.picture import Options
from vgtool.build.settings import Settings
from vgtool.grounding import runlength

SIZE = 96


def blank(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.zeros((height, width), bool)


def drawn(shape: Any, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    mask = blank(height, width)
    mask[shape] = True
    return mask


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def random_mask(seed: int, height: int = 61, width: int = 83) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.standard_normal((height, width)), 4) > 0.06


def samed2d(root: Path, pictures: int = 12, start: int = 0) -> Path:
    """Pictures with a liver (always), a bright kidney (even ones), two tumour spots (every third)."""
    rng = np.random.default_rng(5 + start)
    for index in range(start, start + pictures):
        stem = f"ct_00--demo--case{index // 2}--x_{index:04d}"
        image = rng.integers(60, 80, (SIZE, SIZE))
        spots = {"liver_000": drawn(ellipse(30, 30, 20, 8))}
        if index % 2 == 0:
            spots["kidney_000"] = drawn(disk((70, 70), 9))
        if index % 3 == 0:
            spots["small_tumor_spot_000"] = drawn(disk((20, 70), 5))
            spots["small_tumor_spot_001"] = drawn(disk((40, 75), 5))
        for name, mask in spots.items():
            image[mask] += 90
            save(root / "masks" / f"{stem}_{name}.png", mask * 255)
        save(root / "images" / f"{stem}.png", image)
    return root


def made(path: Path, out: Path, form: str = "auto", **changes: Any) -> make.Built:
    own = ("names", "modality", "patient", "axis", "slices", "window")
    options = Options(**{key: changes.pop(key) for key in own if key in changes})
    return make.build(path, out, form, options, Settings(**{"name": "demo", **changes}))


def rows(out: Path, split: str = "test") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]


def coco(root: Path) -> Path:
    """Four pictures: a square polygon each; in the first also run lengths; in the second a box; in the last nothing."""
    square = [10.0, 10.0, 40.0, 10.0, 40.0, 30.0, 10.0, 30.0]
    images, marks = [], []
    for index in range(4):
        save(root / "images" / f"{index}.png", np.random.default_rng(index).integers(0, 255, (SIZE, SIZE)))
        images.append({"id": index, "file_name": f"{index}.png", "width": SIZE, "height": SIZE})
        if index < 3:
            marks.append(
                {"id": index, "image_id": index, "category_id": 1, "segmentation": [square], "bbox": [10, 10, 30, 20]}
            )
    runs = runlength.encode(drawn(disk((70, 70), 8)))
    marks.append({"id": 10, "image_id": 0, "category_id": 2, "segmentation": runs})
    marks.append({"id": 11, "image_id": 1, "category_id": 3, "bbox": [50, 60, 20, 10]})
    classes = [{"id": i, "name": name} for i, name in ((1, "plate"), (2, "ball"), (3, "card_box"))]
    (root / "set.json").write_text(json.dumps({"images": images, "annotations": marks, "categories": classes}))
    return root / "set.json"


def label_map() -> np.ndarray:
    values = np.zeros((SIZE, SIZE), int)
    values[drawn(disk((20, 20), 8))] = 1
    values[drawn(disk((70, 20), 8))] = 1
    values[drawn(disk((60, 70), 12))] = 2
    return values
