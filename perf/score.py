"""Scoring at the size of the whole study: 110,000 rows x 4 methods with triage columns present.

    python perf/score.py [--rows 110000 --methods 4 --tokens 576]
Writes a synthetic refine run, then times `vgtool score` on it as a process of its own, with its peak memory.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from vgtool.runs.store import Shard, Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 110_000), ("methods", 4), ("tokens", 576)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    methods = ["baseline", *(f"vgrefine:percentile={10 * i}" for i in range(1, args.methods))]
    schema = pa.schema(
        [(name, pa.string()) for name in ("sample_id", "image_id", "group", "question_type", "question", "reference")]
        + [("method", pa.string()), ("answer", pa.string()), ("error", pa.string())]
        + [("choices", pa.list_(pa.string())), ("triage", pa.list_(pa.float32()))]
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "run")
        identity = {"model": "m", "benchmark": "b", "split": "test", "protocol": "default", "rule": "strict"}
        store.open("refine", identity | {"methods": methods, "rows": args.rows}, [])
        words = np.array(["yes", "no", "No acute disease is seen.", "Yes, in the left lung"])
        for number, start in enumerate(range(0, args.rows, 5000)):
            ids = range(start, min(start + 5000, args.rows))
            triage = rng.random((len(ids), args.tokens), np.float32)
            store.write(
                Shard(),
                number,
                [
                    {
                        "sample_id": f"s{i}",
                        "image_id": f"i{i // 3}",
                        "group": ("CT", "MRI", "X-ray")[i % 3],
                        "question_type": "closed",
                        "question": f"Is there a finding number {i}?",
                        "reference": ("yes", "no")[i % 2],
                        "method": method,
                        "answer": str(words[rng.integers(4)]),
                        "triage": triage[i - start],
                    }
                    for method in methods
                    for i in ids
                ],
                schema,
            )
        size = sum(path.stat().st_size for path in store.root.rglob("*.parquet")) / 1e6
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "vgtool", "score", str(store.root)], check=True)
        spent = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{args.rows:,} rows x {args.methods} methods, {size:,.0f} MB: {spent:.1f} s, {peak:,.0f} MiB at its peak")


if __name__ == "__main__":
    main()
