"""Two methods added to a finished run: what that costs beside a run that had them from the start, and whether it ends
in the same table.

python perf/grow.py [--limit 2000] [--rounds 3]     embedded model; processor seconds of this process, loading apart
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

import vgtool
from vgtool.benchmarks.load import Benchmark, load
from vgtool.methods.base import Facts
from vgtool.methods.parse import parse
from vgtool.methods.refine import Refine
from vgtool.runs import launch
from vgtool.runs.runner import run
from vgtool.runs.shard import Shard
from vgtool.runs.store import Store

FIRST, ADDED = ("vgrefine", "random-keep"), ("pai", "vgrefine:percentile=80")
KEPT = ["sample_id", "method", "answer", "kept", "error"]
"""Equal to the letter; probabilities differ by rounding where questions were packed otherwise."""


def answer(sessions: object, rows: Benchmark, methods: tuple[str, ...], out: Path) -> float:
    """Processor seconds of answering a benchmark's rows by these methods, into a run folder."""
    adapter = sessions.adapter
    facts = Facts(adapter.layers, adapter.heads, ((1, 0), (2, 1), (2, 3), (3, 2)), (2,), 0)
    made = {label: parse(label) for label in methods}
    task = Refine(sessions, made, facts, rows.decoding, mapping="exact", partner=lambda sample: sys.exit(1))
    store = Store(out)
    start = time.process_time()
    store.open("refine", launch.identity(task, sessions, rows), [])
    run(task, adapter, rows, store, shard=Shard())
    return time.process_time() - start


def table(out: Path) -> pl.DataFrame:
    return vgtool.read(out, maps=False).select(KEPT).sort("sample_id", "method")


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--limit", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    rows, sessions = load("phantom", limit=given.limit), vgtool.load("phantom-vlm").sessions
    times: dict[str, list[float]] = {name: [] for name in ("first two", "two added", "added alone", "all four")}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            grown, alone, whole = (Path(folder) / name for name in ("grown", "alone", "whole"))
            times["first two"].append(answer(sessions, rows, FIRST, grown))
            times["two added"].append(answer(sessions, rows, ADDED, grown))
            times["added alone"].append(answer(sessions, rows, ADDED, alone))
            times["all four"].append(answer(sessions, rows, FIRST + ADDED, whole))
            same = table(grown).equals(table(whole))
            print(f"same table: {same} ({table(whole).height:,} rows)")
    for name, seconds in times.items():
        print(f"{name:12} {statistics.median(seconds):6.1f} s processor time")
    for name, beside in (("added alone", "two added"), ("all four", "two added")):
        ratio = statistics.median(b / a for a, b in zip(times[name], times[beside], strict=True))
        print(f"{beside} / {name}: {ratio:.2f}")


if __name__ == "__main__":
    main()
