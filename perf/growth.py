"""What grows with the rows of a run: memory and time to its first rows, a resume with all of them done, score, report.

    python perf/growth.py [--rows 100000 1000000] [--old CHECKOUT] [--stages probe refine] [--part 64]

A file of N questions on N / 10 images goes to `vgtool probe` (no maps) and `refine` (vgrefine) on the embedded model,
as processes of their own, which are killed when their first part is there. Made-up rows for all other samples then go
into the run folder in the store's own layout, copies of rows that were really computed: 64 samples a part, as they are
written, or with `--part 16384` as a run has merged them by then. The first command keeps the file's rows in a cache of
its own for the later ones.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).resolve().parent.parent
PER_IMAGE, PART, REAL = 10, 64, 400
"""Questions an image, samples a part, images that are on disk: those that a run comes to before it is killed."""


def questions(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in [*range(min(REAL, count // PER_IMAGE)), count // PER_IMAGE - 1]:
        pixels = rng.integers(0, 255, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:07d}.png")
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(count):
            asked = f"Is there a finding number {number} in the left lung?"
            row = {"id": f"q{number:07d}", "image": f"images/{number // PER_IMAGE:07d}.png", "question": asked}
            row |= {"answer": ("yes", "no")[number % 2], "group": ("CT", "MRI", "X-ray")[number % 3]}
            file.write(json.dumps(row | {"boxes": [[4, 4, 20 + number % 20, 30]]}) + "\n")
    return folder / "rows.jsonl"


class Tree:
    """One version of vgtool."""

    def __init__(self, root: Path) -> None:
        self.env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}

    def start(self, words: Sequence[object]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "vgtool", *map(str, words)]
        return subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def measured(self, words: Sequence[object]) -> str:
        """Seconds and processor seconds of a command, and its peak memory."""
        began = time.monotonic()
        child = self.start(words)
        told = child.stderr.read().decode() if child.stderr else ""
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 3):
            return f"exit {child.returncode}: {told.strip()[-300:]}"
        seconds = time.monotonic() - began
        return f"{seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s processor), {used.ru_maxrss / 1024:,.0f} MiB"

    def first(self, words: Sequence[object], run: Path) -> str:
        """Seconds until a run's first part is there, and its peak memory until then; it is killed."""
        began = time.monotonic()
        child = self.start(words)
        while child.poll() is None and not list((run / "parts").glob("*.parquet")):
            time.sleep(0.05)
        if child.poll() is not None:
            return f"exit {child.returncode}: {child.stderr.read().decode()[-300:] if child.stderr else ''}"
        seconds = time.monotonic() - began
        status = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        child.kill()
        child.wait()
        return f"{seconds:.1f} s, {int(status['VmHWM'].split()[0]) / 1024:,.0f} MiB"


def complete(run: Path, count: int, part: int) -> None:
    """Made-up rows for every sample that the run lacks, but for those of the last image."""
    parts = sorted((run / "parts").glob("*.parquet"))
    real = pa.concat_tables([pq.read_table(part) for part in parts])
    done = set(real["sample_id"].to_pylist())
    by_sample = {}
    for at, name in enumerate(real["sample_id"].to_pylist()):
        by_sample.setdefault(name, []).append(at)
    templates = list(by_sample.values())[:PART]
    each = len(templates[0])
    block = real.take([at for rows in templates for at in rows])
    left = (n for n in range(count - PER_IMAGE) if f"q{n:07d}" not in done)
    for number, some in enumerate(_chunks(left, part), len(parts)):
        copies = -(-len(some) // len(templates))
        table = pa.concat_tables([block] * copies).slice(0, len(some) * each).combine_chunks()
        for name, value in (("sample_id", "q{:07d}"), ("question", "Is there a finding number {} in the left lung?")):
            table = _with(table, name, [value.format(n) for n in some for _ in range(each)])
        table = _with(table, "image_id", [f"images/{n // PER_IMAGE:07d}.png" for n in some for _ in range(each)])
        _write(run, number, table)


def _chunks(numbers: Iterator[int], size: int) -> Iterator[list[int]]:
    while some := list(itertools.islice(numbers, size)):
        yield some


def _with(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), pa.array(values))


def _write(run: Path, number: int, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    (run / "parts" / f"1of1-{number:05d}-{digest}.parquet").write_bytes(data)


def size(run: Path) -> str:
    found = [path.stat().st_size for path in (run / "parts").glob("*.parquet")]
    return f"{len(found):,} parts, {sum(found) / 1e6:,.0f} MB"


def measure(name: str, tree: Tree, rows: Path, count: int, kind: str, folder: Path, part: int) -> None:
    def told(what: str, result: str) -> None:
        print(f"| {count:,} | {kind} | {what} | {name} | {result} |", flush=True)

    run = folder / f"{kind}-{name}"
    words = [kind, "--model", "phantom-vlm", "--benchmark", rows, "--out", run, "--offline"]
    words += ["--maps", "none"] if kind == "probe" else ["--method", "vgrefine"]
    words += ["--heads", heads(tree, folder)] if kind == "refine" else []
    told("to the first part", tree.first(words, run))
    complete(run, count, part)
    told("kept in", size(run))
    told("resume, one image left", tree.measured(words))
    told("kept in", size(run))
    told("resume, all done", tree.measured(words))
    told("score", tree.measured(["score", run]))
    told("report", tree.measured(["report", run, "--out", folder / f"report-{name}"]))
    shutil.rmtree(run)
    shutil.rmtree(folder / f"report-{name}", ignore_errors=True)


def heads(tree: Tree, folder: Path) -> Path:
    path = folder / "heads.json"
    if not path.exists():
        probe = ["probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "50"]
        tree.measured([*probe, "--out", folder / "scenes"])
        tree.measured(["heads", folder / "scenes", "-k", "4", "--out", path])
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--old", type=Path, help="a checkout of another version, measured beside this one")
    parser.add_argument("--stages", nargs="+", default=["probe", "refine"])
    parser.add_argument("--part", type=int, default=PART, help="samples of a made-up part")
    args = parser.parse_args()
    print("| rows | run | what | version | seconds, peak memory |\n|---|---|---|---|---|")
    for count in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
            trees = {"before": Tree(args.old)} if args.old else {}
            trees["now"] = Tree(HERE)
            rows = questions(Path(folder) / "data", count)
            for kind, (name, tree) in itertools.product(args.stages, trees.items()):
                measure(name, tree, rows, count, kind, Path(folder), args.part)


if __name__ == "__main__":
    main()
