"""Arrays, limits, cancels, preemptions, dead nodes and the whole study on a real Slurm of two nodes on this machine.

Opt-in, for it starts daemons as root: `sh .ci/slurm` installs what is needed and runs it.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from slurm import Slurm, missing, until

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"
PROBE = ["probe", "--model", "phantom-vlm", "--benchmark", "phantom", "--limit", "400", "--offline"]
SMALL = ["--gpus-per-task=0", "--cpus-per-task=1"]  # nodes here have no cards
SLOW = "import time\nfrom vgtool.runs import runner\nbefore = runner.attempt\n"
SLOW += "def attempt(*a, **k):\n    time.sleep({pause})\n    return before(*a, **k)\nrunner.attempt = attempt\n"

pytestmark = pytest.mark.skipif(
    os.environ.get("VGTOOL_TEST_SLURM") != "1" or bool(missing()),
    reason=missing() or "starts daemons as root: sh .ci/slurm",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    root.chmod(0o755)
    one = Slurm(root)
    try:
        one.start()
        yield one
    finally:
        one.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def alone(cluster: Slurm) -> pl.DataFrame:
    """The table of one process outside Slurm."""
    done = cluster.run(sys.executable, "-m", "vgtool", *PROBE, "--out", cluster.root / "alone", **env())
    assert done.returncode == 0, done.stderr
    return table(cluster.root / "alone")


def env(pause: float = 0.0, **names: str) -> dict[str, str]:
    """Environment of jobs. `pause`: seconds that each image takes longer, so that there is time to meddle."""
    found = {"OMP_NUM_THREADS": "1", "VGTOOL": f"{Path(sys.executable).parent}/vgtool", "PYTHONPATH": str(ROOT)}
    if pause:
        folder = Path(tempfile.mkdtemp(prefix="slow-"))
        (folder / "sitecustomize.py").write_text(
            "import sys\nif 'vgtool' in ' '.join(sys.orig_argv) and 'slurm' not in sys.orig_argv[3:4]:\n    "
            + "\n    ".join(SLOW.format(pause=pause).splitlines()) + "\n"
        )  # fmt: skip
        found["PYTHONPATH"] = f"{folder}:{ROOT}"
    return found | names


def table(run: Path) -> pl.DataFrame:
    """The rows as they lie there; a row written twice is there twice."""
    return pl.concat([pl.read_parquet(part) for part in (run / "parts").glob("*.parquet")]).sort("sample_id")


def logs(cluster: Slurm) -> str:
    return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(cluster.root.glob("*.log")))


def begun(run: Path, parts: int = 1) -> None:
    until(lambda: len(list((run / "parts").glob("*.parquet"))) >= parts, f"{parts} parts in {run.name}")


@pytest.mark.parametrize("array", ["0-3", "1-4%2", "0-6:2", "0,3,7"])
def test_an_array_gives_the_table_of_one_process(array: str, cluster: Slurm, alone: pl.DataFrame) -> None:
    out = cluster.root / f"array-{array.replace(',', '_').replace('%', 'x').replace(':', 's')}"
    job = cluster.submit(*SMALL, f"--array={array}", SCRIPTS / "array.sbatch", *PROBE, "--out", out, **env())
    assert set(cluster.wait(job)) == {"COMPLETED"}, logs(cluster)
    assert table(out).equals(alone)


def test_a_cancelled_job_stays_cancelled(cluster: Slurm) -> None:
    out = cluster.root / "cancelled"
    job = cluster.submit(*SMALL, SCRIPTS / "large.sbatch", *PROBE[:-1], "--device", "cpu", "--out", out, **env(0.2))
    until((out / "run.json").exists, "the run starts")
    cluster.run("scancel", job)
    assert cluster.wait(job) == ["CANCELLED"], logs(cluster)
    time.sleep(8)  # longer than what a requeue takes to show
    assert cluster.states(job) == ["CANCELLED"] and cluster.jobs(job)[0]["Restarts"] == "0"
