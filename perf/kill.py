"""Kill a run at random points, many times in a row, and compare its table with that of an undisturbed run.

python perf/kill.py --kills 200            the runner on a task without a model, children forked by a warm server
python perf/kill.py --kills 200 --images 8    the same, eight images a pass
python perf/kill.py --kills 20 --command   the command itself on the embedded model, from its first import on

A run that goes on has other images in a pass than the undisturbed one: the command's numbers may differ in last digits.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import faults


def forked(root: Path, kills: int, rng: random.Random, images: int) -> tuple[int, pl.DataFrame, pl.DataFrame]:
    """(kills that met a live process, disturbed table, undisturbed table)."""
    settings = {"images": 1500, "part": 5, "trials": False, "batch": images}
    faults.run(root / "whole", **settings)
    met = 0
    while met < kills:
        child = faults.start(root / "run", nap=0.02 * images, **settings)
        child.join(rng.uniform(0.02, 0.5))
        if child.exitcode is None:
            child.kill()
            child.join()
        if child.exitcode != -signal.SIGKILL:
            break
        met += 1
    faults.run(root / "run", **settings)
    return met, faults.table(root / "run"), faults.table(root / "whole")


def commanded(root: Path, kills: int, rng: random.Random, images: int) -> tuple[int, pl.DataFrame, pl.DataFrame]:
    """The same with `python -m vgtool probe`."""

    def start(out: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vgtool", "probe", "--model", "phantom-vlm", "--benchmark", "scenes"]
        command += ["--limit", "500", "--images", str(images), "--out", str(root / out)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    began = time.monotonic()
    start("whole").wait()
    length, met = time.monotonic() - began, 0
    while met < kills:
        child = start("run")
        try:
            child.wait(rng.uniform(0, length))
            break
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            met += 1
    while start("run").wait() != 0:
        print("the last run did not end well; once more")
    return met, faults.table(root / "run"), faults.table(root / "whole")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=1, help="images a pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="store_true")
    settings = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        how = commanded if settings.command else forked
        met, found, wanted = how(Path(folder), settings.kills, random.Random(settings.seed), settings.images)
    lost = wanted.join(found, on="sample_id", how="anti")["sample_id"].n_unique()
    doubled = found.height - found.unique("sample_id" if settings.command else ["sample_id", "method"]).height
    print(f"{met} kills in {time.monotonic() - began:.0f} s: {lost} samples lost, {doubled} rows doubled, ", end="")
    equal = alike(found, wanted) if settings.command else found.equals(wanted)
    print(f"tables equal: {equal} ({wanted['sample_id'].n_unique()} samples)")
    sys.exit(not equal)


def alike(found: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    """Equal but for the last digits of numbers."""
    try:
        assert_frame_equal(found, wanted, rel_tol=1e-4, abs_tol=1e-5)
    except AssertionError as error:
        print(error)
        return False
    return True


if __name__ == "__main__":
    main()
