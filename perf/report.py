"""A report of 5,000 samples at a 7B model's size: 28 layers, 576 image tokens, maps and four methods' masks.

    python perf/report.py [--samples 5000 --layers 28 --heads 28 --tokens 576 --methods 4]
Writes a synthetic probe and refine run, then times `vgtool report` on them as a process of its own, with its peak
memory and the size of what it wrote.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.runs.store import Shard, Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("samples", 5000), ("layers", 28), ("heads", 28), ("tokens", 576), ("methods", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    side = int(args.tokens**0.5)
    rng = np.random.default_rng(0)
    methods = ["baseline", *(f"vgrefine:percentile={10 * i}" for i in range(1, args.methods))]
    identity = {"model": "m", "revision": "r", "benchmark": "b", "split": "test", "protocol": "default"}
    identity |= {"rule": "strict", "rows": args.samples}

    def common(i: int) -> dict[str, object]:
        names = {"sample_id": f"s{i}", "image_id": f"i{i // 3}", "group": ("CT", "MRI", "X-ray")[i % 3]}
        names |= {"question_type": "closed", "question": f"Is there a finding number {i} in the left lung?"}
        size = {"width": 512, "height": 512, "grid_rows": side, "grid_cols": side, "grid_box": [0.0, 0.0, 512.0, 512.0]}
        return names | size | {"boxes": [[10.0, 20.0, 200.0, 300.0]], "region": [1, 2, 3]}

    with tempfile.TemporaryDirectory() as folder:
        probe, refine = Store(Path(folder) / "probe"), Store(Path(folder) / "refine")
        probe.open("probe", identity | {"maps": "layers"}, [])
        refine.open("refine", identity | {"methods": methods, "heads": [[1, 2]]}, [])
        for number, start in enumerate(range(0, args.samples, 64)):
            ids = range(start, min(start + 64, args.samples))
            rows: list[dict[str, object]] = []
            for i in ids:
                row = common(i) | {"domain": "medical"}
                for level, size in (("layer", args.layers), ("head", args.layers * args.heads)):
                    row |= {f"{level}_{m}": rng.random(size, np.float32) for m in ("ratio", "kl", "js")}
                maps = rng.gamma(0.3, size=(2, args.layers * side * side)).astype(np.float32) + 1e-6
                rows.append(row | {"attention": maps[0], "general_attention": maps[1]})
            probe.write(Shard(), number, rows, Probe.schema)
            rows = []
            for i in ids:
                for method in methods:
                    own = {"reference": "yes", "method": method, "answer": str(rng.choice(["yes", "no"]))}
                    masks = {"kept": list(range(side * side // 2)), "triage": rng.random(side * side, np.float32)}
                    rows.append(common(i) | own | {"confidence": 0.5} | (masks if method != "baseline" else {}))
            refine.write(Shard(), number, rows, Refine.schema)
        out = Path(folder) / "report"
        began = time.perf_counter()
        command = ["-m", "vgtool", "report", str(probe.root), str(refine.root), "--out", str(out)]
        subprocess.run([sys.executable, *command], check=True)
        took = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
        page = (out / "index.html").stat().st_size / 1e6
        print(
            f"{args.samples:,} samples: {took:.1f} s, peak {peak:.2f} GB, {size:.0f} MB, of it the page {page:.1f} MB"
        )


if __name__ == "__main__":
    main()
