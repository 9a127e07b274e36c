"""Two processes of one thread against one process of one thread: seconds between the first and the last sample.

python perf/scale.py            needs two free cores; model loading is reported apart
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(shards: int, limit: int, folder: Path) -> tuple[float, float]:
    """(seconds until all have loaded, seconds from its first image to its end of the slowest process)."""
    out = folder / f"of{shards}"
    command = [sys.executable, "-m", "vgtool", "probe", "--model", "phantom-vlm", "--benchmark", "scenes"]
    command += ["--limit", str(limit), "--out", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    began = time.monotonic()
    running = [
        subprocess.Popen([*command, "--shard", f"{i}/{shards}"], env=env, stderr=subprocess.DEVNULL)
        for i in range(1, shards + 1)
    ]
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
        time.sleep(0.005)
    return max(first.values()) - began, max(last[number] - first[number] for number in first)


def main() -> None:
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        first = 0.0
        for shards in (1, 2):
            loading, seconds = timed(shards, limit, Path(folder))
            print(f"{shards} process(es): {loading:.1f} s to load, {seconds:.1f} s, {limit / seconds:.1f} samples/s")
            first = seconds if shards == 1 else first
        print(f"two are {first / seconds:.2f} times as fast as one")


if __name__ == "__main__":
    main()
