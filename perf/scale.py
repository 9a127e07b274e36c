"""Two processes against one, a core each: seconds from the first image to the end, loading apart.

python perf/scale.py [ROUNDS]       needs two idle cores

Every process has one thread for torch and is pinned to one core, as `--cpus-per-task 1` does. The last line frees
the single process to open pictures on the other core, so what two processes gain over it is less. A process's own
start and end (about a second, whatever the work) is in the seconds, so fewer samples show less than is there.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(shards: int, out: Path, pinned: bool) -> tuple[float, float, int]:
    """(seconds until all have loaded, seconds from its first image to its end of the slowest process, samples)."""
    command = ["-m", "vgtool", "probe", "--model", "phantom-vlm", "--benchmark", "scenes"]
    command = [sys.executable, *command, "--split", "calibration+test", "--json", "--out", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < shards:
        sys.exit(f"{shards} processes need {shards} cores; here are {len(cores)}.")
    began = time.monotonic()
    running = []
    for index in range(shards):
        share = [*command, "--shard", f"{index + 1}/{shards}"]
        child = subprocess.Popen(share, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if pinned:
            os.sched_setaffinity(child.pid, {cores[index]})  # before it starts a thread: threads inherit it
        running.append(child)
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    while len(last) < shards:
        notes = list((out / "open").iterdir()) if (out / "open").is_dir() else []
        for number in {int(note.name.split("-")[3]) for note in notes} - first.keys():
            first[number] = time.monotonic()
        for child in running:
            if child.pid not in last and child.poll() is not None:
                if child.returncode:
                    sys.exit("a process failed")
                last[child.pid] = time.monotonic()
        time.sleep(0.02)
    done = sum(json.loads(child.communicate()[0])["done"] for child in running)
    return max(first.values()) - began, max(last[number] - first[number] for number in first), done


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    cases = {"1 process, 1 core": (1, True), "2 processes, a core each": (2, True), "1 process, both cores": (1, False)}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    loading: dict[str, list[float]] = {name: [] for name in cases}
    samples = 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            for name, (shards, pinned) in cases.items():
                load, work, samples = timed(shards, Path(folder) / f"{turn}{name}", pinned)
                loading[name].append(load)
                seconds[name].append(work)
    base = statistics.median(seconds["1 process, 1 core"])
    for name in cases:
        middle = statistics.median(seconds[name])
        spread = f"{min(seconds[name]):.1f} to {max(seconds[name]):.1f}"
        load = statistics.median(loading[name])
        print(
            f"{name:25} {load:.1f} s to load, {middle:.1f} s ({spread}), "
            f"{samples / middle:.0f} samples/s, {base / middle:.2f} times"
        )


if __name__ == "__main__":
    main()
