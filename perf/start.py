"""What a small command costs, nearly all of which is its start: an earlier version beside this one.

    python perf/start.py OLD [--rounds 5]     OLD a checkout; processor seconds of a probe of two rows
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROBE = ["probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "2", "--offline", "--out"]


def worked() -> float:
    """Processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost(tree: Path) -> float:
    """Processor seconds of the command in a checkout, by this Python."""
    before = worked()
    with tempfile.TemporaryDirectory() as out:
        env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "vgtool", *PROBE, out], env=env, cwd=out, check=True, capture_output=True)
    return worked() - before


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("old", type=Path)
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    rounds = [(cost(given.old.resolve()), cost(ROOT)) for _ in range(given.rounds)]
    old, new = (statistics.median(times) for times in zip(*rounds, strict=True))
    print(f"before {old:.2f} s, now {new:.2f} s: {new / old:.2f}")


if __name__ == "__main__":
    main()
