"""Kill a run under Slurm at random points, many times, and compare its table with that of an undisturbed run.

    python perf/kill_slurm.py [--kills 200] [--tasks 4]      needs root, and slurm-wlm and munge (Debian)

A cluster of two nodes starts on this machine; an array of tasks runs scripts/array.sbatch on a task without a model,
which starts quickly. Processes of the run die by SIGKILL, and Slurm queues their jobs again. An array that ends because
its starts wrote nothing is submitted again, as a user would.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import slurm

HERE = Path(__file__).resolve().parent.parent

VGTOOL = f"""#!{sys.executable}
import os, runpy, sys
sys.path.insert(0, {str(HERE / "tests")!r})
if sys.argv[1] == "probe":
    import importlib.machinery, types
    from unittest.mock import MagicMock

    class Absent(types.ModuleType):  # torch and what stands on it take seconds to load, and nothing is computed here
        OutOfMemoryError, __path__ = MemoryError, []
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return MagicMock()

    class Finder:
        def find_spec(name, path=None, target=None):
            if name.partition(".")[0] in ("torch", "transformers"):
                return importlib.machinery.ModuleSpec(name, Finder, is_package=True)
        create_module = lambda spec: Absent(spec.name)
        exec_module = lambda module: None

    sys.meta_path.insert(0, Finder)
    from pathlib import Path
    import faults
    from vgtool.runs import cluster
    from vgtool.runs.trial import on_trial
    given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
    shard = cluster.place(given["--shard"]).shard.name.replace("of", "/")
    nap = float(os.environ.get("NAP", 0.1))
    settings = {{"images": int(given["--images"]), "part": 10, "nap": nap, "beside": True, "batch": 2}}
    sys.exit(faults.work(Path(given["--out"]), shard, trial_of=on_trial(), command=sys.argv, **settings))
runpy.run_module("vgtool", run_name="__main__")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("kills", 200), ("tasks", 4), ("images", 4000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    if why := slurm.missing():
        sys.exit(f"No Slurm: {why}.")
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    root.chmod(0o755)
    cluster = slurm.Slurm(root)
    try:
        cluster.start()
        ends = killed(cluster, args)
    finally:
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(ends)


def killed(cluster: slurm.Slurm, args: argparse.Namespace) -> int:
    vgtool, out, rng = cluster.root / "vgtool", cluster.root / "run", random.Random(args.seed)
    vgtool.write_text(VGTOOL)
    vgtool.chmod(0o755)
    env = {"VGTOOL": str(vgtool), "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    script = [f"--array=0-{args.tasks - 1}", "--cpus-per-task=2", "--gpus-per-task=0"]
    script += [str(HERE / "scripts" / "array.sbatch"), "probe", "--images", str(args.images), "--out", str(out)]
    began, met, submitted, job = time.monotonic(), 0, 1, cluster.submit(*script, **env)
    while met < args.kills:
        time.sleep(rng.uniform(0, 12 / args.tasks))
        met += one(vgtool, rng)
        states = Counter(cluster.states(job))
        if set(states) <= {"COMPLETED", "FAILED", "CANCELLED"}:
            if not states["FAILED"]:
                break
            job, submitted = cluster.submit(*script, **env), submitted + 1
    while "FAILED" in cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED"):
        job, submitted = cluster.submit(*script, **env), submitted + 1
    seconds = time.monotonic() - began
    whole = cluster.root / "whole"
    for task in range(args.tasks):
        share = f"{task + 1}/{args.tasks}"
        words = ("probe", "--images", args.images, "--out", whole, "--shard", share)
        cluster.run(vgtool, *words, **env, NAP="0")
    return compared(out, whole, f"{met} kills in {seconds:.0f} s, {submitted} submissions: ")


def one(vgtool: Path, rng: random.Random) -> int:
    """Kill one process of the run that is at work, if there is any."""
    found = [pid for pid, told in slurm.commands() if f"{vgtool} probe" in told and "srun" not in told.split()[0]]
    found = [pid for pid in found if "slurmstepd" not in _name(pid)]
    if not found:
        return 0
    slurm.kill(rng.choice(found))
    return 1


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return "slurmstepd"


def compared(out: Path, whole: Path, told: str) -> int:
    import polars as pl

    found, wanted = (
        pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")]).sort("sample_id", "method")
        for run in (out, whole)
    )
    lost = wanted.join(found, on=["sample_id", "method"], how="anti").height
    doubled = found.height - found.unique(["sample_id", "method"]).height
    samples = wanted["sample_id"].n_unique()
    tried = len([path for path in (out / "tried").iterdir() if not path.name.endswith("-all")])
    print(f"{told}{lost} of {wanted.height:,} rows lost, {doubled} doubled, ", end="")
    print(f"tables equal: {found.equals(wanted)} ({samples:,} samples, {tried} of them tried alone)")
    return int(not found.equals(wanted))


if __name__ == "__main__":
    main()
