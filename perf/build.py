"""What a build takes: time and peak memory for masks in SA-Med2D's form.

    python perf/build.py [--masks 10000 --per-image 4 --size 512]
Writes random pictures with blobs (not counted), then runs `vgtool build` in a process of its own, held to two cores
where the system can.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("liver", "left_kidney", "liver_tumor", "spleen", "gall_bladder", "colon", "aorta", "stomach")


def write(root: Path, masks: int, per_image: int, size: int) -> None:
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:size, :size]
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for index in range(masks // per_image):
        stem = f"ct_00--demo--case{index // 10:04d}--x_{index:05d}"
        image = rng.integers(0, 120, (size, size)).astype(np.uint8)
        for number in range(per_image):
            name = CLASSES[(index + number) % len(CLASSES)]
            y, x, a, b = rng.uniform(0.1, 0.9, 4) * (size, size, size / 6, size / 6)
            blob = ((ys - y) / (a + 6)) ** 2 + ((xs - x) / (b + 6)) ** 2 < 1
            image[blob] += 60
            Image.fromarray(blob).save(root / "masks" / f"{stem}_{name}_000.png", compress_level=1)
        Image.fromarray(image).save(root / "images" / f"{stem}.png", compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=int, default=10_000)
    parser.add_argument("--per-image", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        root = Path(home) / "in"
        root.mkdir()
        write(root, args.masks, args.per_image, args.size)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
        command = [sys.executable, "-m", "vgtool", "build", "--masks", str(root), "--out", f"{home}/out", "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        counts = json.loads(done.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    row = {"masks": counts["masks"], "images": counts["images"], "questions": counts["rows"]}
    print({**row, "size": args.size, "seconds": round(seconds, 1), "peak_gb": round(peak, 2)})


if __name__ == "__main__":
    main()
