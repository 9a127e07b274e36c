"""Several images in one pass: samples a second and operations started, beside an older version.

    python perf/batch.py OLD [--rounds 3 --limit 2000]     samples a second of probe and refine, interleaved
    python perf/batch.py --operations OLD                  operations started a sample, 8 images of 4 questions
OLD is a checkout of the version to compare with (`git worktree add ../old cb11e92`). Start-up is left out: rates are of
the second run in a process. Every process has torch's own number of threads, as `vgtool` has.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
WORKER = Path(__file__).with_name("batch_worker.py")


def worker(root: Path, *args: object) -> dict[str, float]:
    """What one process of a version says, with its package first on the path."""
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, WORKER, *map(str, args)], env=env, cwd=root, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def rates(old: Path, limit: int, rounds: int) -> None:
    for kind in ("probe", "refine"):
        found: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
        for _ in range(rounds):
            for name, root in (("old", old), ("new", HERE)):
                found[name].append(worker(root, kind, limit))
        wall = statistics.median(
            a["seconds"] / b["seconds"] for a, b in zip(found["old"], found["new"], strict=True)
        )
        work = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(found["old"], found["new"], strict=True))
        main = statistics.median(a["main"] / b["main"] for a, b in zip(found["old"], found["new"], strict=True))
        each = {name: statistics.median(limit / one["seconds"] for one in some) for name, some in found.items()}
        print(
            f"{kind:7} {each['old']:.0f} -> {each['new']:.0f} samples/s, {wall:.2f} times; "
            f"processor time {work:.2f} times less, of the model's thread {main:.2f} times less"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--operations", action="store_true")
    args = parser.parse_args()
    if args.old is None:
        parser.error("name a checkout of the version to compare with")
    elif args.operations:
        before, now = worker(args.old.resolve(), "operations", 0), worker(HERE, "operations", 0)
        for name in before:
            ratio = now[name] / before[name]
            print(f"{name:7} {before[name]:.0f} -> {now[name]:.0f} operations a sample: 1/{1 / ratio:.1f}")
    else:
        rates(args.old.resolve(), args.limit, args.rounds)


if __name__ == "__main__":
    main()
