"""A report of 5,000 samples with pictures at a 7B model's size: 28 layers, 576 image tokens, maps, four methods' masks.

    python perf/report.py [OLD] [--rounds 3 --samples 5000 --layers 28 --heads 28 --tokens 576 --methods 4 --folder DIR]
Writes a synthetic probe and refine run and their pictures (to --folder, where they are used again), then times
`vgtool report --images` on them as processes of their own, interleaved with the same of OLD, a checkout of another
version (`git worktree add ../old cb11e92`): seconds, processor seconds, peak memory of all processes together and the
size of what they wrote.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.runs.store import Shard, Store

HERE = Path(__file__).resolve().parent.parent
SIDE, QUESTIONS = 512, 3
"""Pixels of a picture's side; questions about each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    for name, value in (("samples", 5000), ("layers", 28), ("heads", 28), ("tokens", 576), ("methods", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "made").exists():
            folder.mkdir(parents=True, exist_ok=True)
            pictures(folder, args.samples)
            runs(folder, args)
            (folder / "made").touch()
        roots = {"now": HERE} if args.old is None else {"old": args.old.resolve(), "now": HERE}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in roots}
        for _ in range(args.rounds):
            for name, root in roots.items():
                found[name].append(one := report(root, folder))
                print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in one.items()), flush=True)
        if args.old is not None:
            for key in ("seconds", "processor seconds"):
                pairs = zip(found["now"], found["old"], strict=True)
                print(f"{key}, now / old: {statistics.median(now[key] / old[key] for now, old in pairs):.2f}")


def report(root: Path, folder: Path) -> dict[str, float]:
    """One report by the version in `root`."""
    with tempfile.TemporaryDirectory() as out:
        page = Path(out) / "report"
        command = [sys.executable, "-m", "vgtool", "report", "probe", "refine", "--images", "--out", str(page)]
        began = time.perf_counter()
        env = {**os.environ, "PYTHONPATH": str(root)}
        child = subprocess.Popen(command, cwd=folder, env=env, stderr=subprocess.DEVNULL)
        peaks: list[int] = []
        watch = threading.Thread(target=watched, args=(psutil.Process(child.pid), peaks))
        watch.start()
        _, status, used = os.wait4(child.pid, 0)  # with the processes that it waited for
        took = time.perf_counter() - began
        watch.join()
        assert status == 0, f"{root}: exit {status}"
        size = sum(path.stat().st_size for path in page.rglob("*") if path.is_file())
        return {
            "seconds": took,
            "processor seconds": used.ru_utime + used.ru_stime,
            "peak GB": max(used.ru_maxrss / 1e6, max(peaks, default=0) / 1e9),
            "MB": size / 1e6,
            "of it the page": (page / "index.html").stat().st_size / 1e6,
        }


def watched(process: psutil.Process, peaks: list[int]) -> None:
    """Memory of a process and those it started together, bytes, ten times a second until it ends."""
    while True:
        try:
            family = [process, *process.children(recursive=True)]
            peaks.append(sum(one.memory_info().rss for one in family))
            if process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            if not process.is_running():
                return
        time.sleep(0.1)


def pictures(folder: Path, samples: int) -> None:
    """Soft grey noise, which packs about as a scan does, and the benchmark's file."""
    rng = np.random.default_rng(1)
    (folder / "scans").mkdir(exist_ok=True)
    lines = []
    for number in range(-(-samples // QUESTIONS)):
        coarse = Image.fromarray(rng.integers(0, 255, (24, 24), np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "scans" / f"{number}.png")
    for i in range(samples):
        image, question = f"scans/{i // QUESTIONS}.png", f"Is there a finding number {i} in the left lung?"
        own = {"id": f"s{i}", "image": image, "question": question, "answer": "yes", "question_type": "closed"}
        lines.append(json.dumps(own))
    (folder / "own.jsonl").write_text("\n".join(lines) + "\n")


def common(i: int, side: int) -> dict[str, object]:
    names = {"sample_id": f"s{i}", "image_id": f"i{i // QUESTIONS}", "group": ("CT", "MRI", "X-ray")[i % 3]}
    names |= {"question_type": "closed", "question": f"Is there a finding number {i} in the left lung?"}
    size = {"width": SIDE, "height": SIDE, "grid_rows": side, "grid_cols": side}
    size |= {"grid_box": [0.0, 0.0, float(SIDE), float(SIDE)]}
    return names | size | {"boxes": [[10.0, 20.0, 200.0, 300.0]], "region": [1, 2, 3]}


def runs(folder: Path, args: argparse.Namespace) -> None:
    side = int(args.tokens**0.5)
    rng = np.random.default_rng(0)
    methods = ["baseline", *(f"vgrefine:percentile={10 * i}" for i in range(1, args.methods))]
    identity = {"model": "m", "revision": "r", "benchmark": "own.jsonl", "split": "all", "protocol": "default"}
    identity |= {"rule": "strict", "rows": args.samples}
    probe, refine = Store(folder / "probe"), Store(folder / "refine")
    probe.open("probe", identity | {"maps": "layers"}, [])
    refine.open("refine", identity | {"methods": methods, "heads": [[1, 2]]}, [])
    for number, start in enumerate(range(0, args.samples, 64)):
        ids = range(start, min(start + 64, args.samples))
        rows: list[dict[str, object]] = []
        for i in ids:
            row = common(i, side) | {"domain": "medical"}
            for level, size in (("layer", args.layers), ("head", args.layers * args.heads)):
                row |= {f"{level}_{m}": rng.random(size, np.float32) for m in ("ratio", "kl", "js")}
            maps = rng.standard_gamma(0.3, (2, args.layers * side * side), np.float32) + np.float32(1e-6)
            rows.append(row | {"attention": maps[0], "general_attention": maps[1]})
        probe.write(Shard(), number, rows, Probe.schema)
        rows = []
        for i in ids:
            for method in methods:
                own = {"reference": "yes", "method": method, "answer": str(rng.choice(["yes", "no"]))}
                masks = {"kept": list(range(side * side // 2)), "triage": rng.random(side * side, np.float32)}
                rows.append(common(i, side) | own | {"confidence": 0.5} | (masks if method != "baseline" else {}))
        refine.write(Shard(), number, rows, Refine.schema)


if __name__ == "__main__":
    main()
