"""What the test suite costs, and whether it passes on a busy machine.

    python perf/suite.py OLD           the suite of a checkout of an earlier version, then this one's; --rounds 2: twice
    python perf/suite.py --busy 8      this one's, in random order, beside eight processes that never rest

Processor seconds are the whole machine's (Linux), so nothing else may run; with --busy they are not counted, and the
order of tests is that of pytest-randomly, where it is installed.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def busy() -> float:
    """Processor seconds that this machine has worked since it started."""
    numbers = [int(number) for number in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    idle, waiting = numbers[3:5]
    return (sum(numbers) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def suite(tree: Path, workers: int, *options: str) -> tuple[int, float, float, str]:
    """(exit code, wall seconds, processor seconds, pytest's last line) of `make test` in a checkout, by this Python."""
    command = ["make", "--old-file=.venv/done", "test", f"BIN={Path(sys.executable).parent}", f"WORKERS={workers}"]
    env = os.environ | {"PYTHONPATH": str(tree), "PYTEST_ADDOPTS": " ".join(options)}
    began, worked = time.monotonic(), busy()
    with subprocess.Popen(command, cwd=tree, env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(line)
            sys.stderr.write(line)
    said = next((line for line in reversed(lines) if " passed" in line), "no test passed")
    return child.returncode, time.monotonic() - began, busy() - worked, said.strip("= \n")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("old", nargs="?", type=Path)
    ask.add_argument("--busy", type=int, default=0, help="so many busy loops beside this version's suite")
    ask.add_argument("--rounds", type=int, default=1, help="how often, one after the other")
    ask.add_argument("--workers", type=int, default=2, help="processes that run tests")
    given = ask.parse_args()
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(given.busy)]
    try:
        for tree in [tree for tree in (given.old, ROOT) if tree is not None] * given.rounds:
            order = [] if loops else ["-p", "no:randomly"]
            code, wall, worked, said = suite(tree.resolve(), given.workers, *order)
            cost = f"{wall:.0f} s" + ("" if loops else f", {worked:.0f} s of processor")
            print(f"{tree.resolve().name}: exit {code} in {cost}: {said}", flush=True)
    finally:
        for loop in loops:
            loop.kill()


if __name__ == "__main__":
    main()
