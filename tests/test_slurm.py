"""Arrays, limits, cancels, preemptions, dead nodes and the whole study on a real Slurm of two nodes on this machine.

Opt-in, for it starts daemons as root: `sh .ci/slurm` installs what is needed and runs it.
"""

import os
import shutil
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
PROBE = ["probe", "--model", "phantom-vlm", "--benchmark", "phantom", "--limit", "400", "--images", "2", "--offline"]
SLOW = """
import runpy, sys, time
if sys.argv[1] == "probe":
    from vgtool.methods.probe import Probe
    from vgtool.runs import runner
    runner.PART_SAMPLES, runner.PART_LEAST, before = 8, 0.0, Probe.run
    def run(self, *given):
        time.sleep(0.5 * len(given[0]))
        return before(self, *given)
    Probe.run = run
runpy.run_module("vgtool", run_name="__main__")
"""

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


def env(**names: str) -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1", "VGTOOL": f"{Path(sys.executable).parent}/vgtool", "PYTHONPATH": str(ROOT)} | names


@pytest.fixture(scope="module")
def slow(cluster: Slurm) -> str:
    """A vgtool whose images take half a second longer each and whose parts are small: there is time to meddle."""
    path = cluster.root / "slow-vgtool"
    path.write_text(f"#!{sys.executable}\n{SLOW}")
    path.chmod(0o755)
    return str(path)


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
    job = cluster.submit(f"--array={array}", SCRIPTS / "array.sbatch", *PROBE, "--out", out, **env())
    assert set(cluster.wait(job)) == {"COMPLETED"}, logs(cluster)
    assert table(out).equals(alone)


def test_a_cancelled_job_stays_cancelled(cluster: Slurm, slow: str) -> None:
    out = cluster.root / "cancelled"
    job = cluster.submit("--array=0-0", SCRIPTS / "array.sbatch", *PROBE, "--out", out, **env(VGTOOL=slow))
    begun(out)
    cluster.run("scancel", job)
    assert cluster.wait(job) == ["CANCELLED"], logs(cluster)
    until(lambda: "Stopped; the same command goes on from here" in logs(cluster), "the run stops in good order")
    time.sleep(8)  # a requeued job would show again after cred_expire, 5 s here
    assert cluster.states(job) == ["CANCELLED"] and cluster.jobs(job)[0]["Restarts"] == "0"


def test_jobs_that_meet_their_time_limit_go_on_with_and_without_a_warning(
    cluster: Slurm, slow: str, alone: pl.DataFrame
) -> None:
    """Slurm looks at limits every half minute: of two minutes with 80 seconds' warning at least a half comes in time;
    of one minute with one second's the warning is lost, and at the limit everything is told to end at once."""
    warned, late = cluster.root / "warned", cluster.root / "late"
    script = ("--array=0-0", SCRIPTS / "array.sbatch", *PROBE, "--out")
    long = cluster.submit("--time=2", "--signal=B:USR1@80", *script, warned, **env(VGTOOL=slow))
    short = cluster.submit("--time=1", "--signal=B:USR1@1", *script, late, **env(VGTOOL=slow))
    for job in (long, short):
        until(lambda job=job: cluster.jobs(job)[0]["Restarts"] != "0", "the job is queued again")
        cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    for job, out in ((long, warned), (short, late)):
        assert cluster.wait(job) == ["COMPLETED"], logs(cluster)
        assert table(out).equals(alone)


def test_a_job_that_never_writes_anything_ends_after_three_starts(cluster: Slurm) -> None:
    """As under a limit that is shorter than its warning: each start is told to stop before its first image."""
    stops = cluster.root / "stops-at-once"
    stops.write_text(f"#!{sys.executable}\nimport runpy, sys\nif sys.argv[1] == 'probe':\n    sys.exit(138)\n")
    stops.write_text(stops.read_text() + "runpy.run_module('vgtool', run_name='__main__')\n")
    stops.chmod(0o755)
    out = cluster.root / "short"
    script = ("--array=0-0", SCRIPTS / "array.sbatch", *PROBE, "--out", out)
    job = cluster.submit(*script, **env(VGTOOL=str(stops)))
    assert cluster.wait(job, "COMPLETED", "FAILED") == ["FAILED"], logs(cluster)
    assert cluster.jobs(job)[0]["Restarts"] == "2" and cluster.jobs(job)[0]["ExitCode"] == "138:0"
    assert "3 starts in a row wrote nothing (last: exit 138" in logs(cluster)


def test_a_preempted_job_stops_in_its_grace_and_goes_on(cluster: Slurm, slow: str, alone: pl.DataFrame) -> None:
    out = cluster.root / "preempted"
    job = cluster.submit("--array=0-1", SCRIPTS / "array.sbatch", *PROBE, "--out", out, **env(VGTOOL=slow))
    begun(out, 2)
    high = cluster.submit("-p", "high", "-N2", "--wrap", "sleep 2")
    assert cluster.wait(high) == ["COMPLETED"]
    assert set(cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED")) == {"COMPLETED"}, logs(cluster)
    assert [one["Restarts"] for one in cluster.jobs(job)] == ["1", "1"] and "Traceback" not in logs(cluster)
    assert table(out).equals(alone)


def test_a_job_on_a_node_that_dies_goes_on_elsewhere(cluster: Slurm, slow: str, alone: pl.DataFrame) -> None:
    out = cluster.root / "dead"
    job = cluster.submit("--array=0-0", SCRIPTS / "array.sbatch", *PROBE, "--out", out, **env(VGTOOL=slow))
    begun(out)
    node = cluster.jobs(job)[0]["NodeList"]
    cluster.kill(node)
    until(lambda: cluster.jobs(job)[0]["Restarts"] != "0", "Slurm sees that the node is gone")
    assert cluster.wait(job, "COMPLETED", "FAILED", "CANCELLED") == ["COMPLETED"], logs(cluster)
    cluster.node(node)
    assert table(out).equals(alone)


def test_four_deaths_of_a_job_that_writes_between_cost_no_row(cluster: Slurm, slow: str, alone: pl.DataFrame) -> None:
    out = cluster.root / "kills"
    job = cluster.submit("--array=0-0", SCRIPTS / "array.sbatch", *PROBE, "--out", out, **env(VGTOOL=slow))
    for death in range(1, 5):
        begun(out, 2 * death)
        cluster.end(job)
        until(lambda death=death: cluster.jobs(job)[0]["Restarts"] == str(death), "the job is queued again")
    assert cluster.wait(job) == ["COMPLETED"], logs(cluster)
    assert table(out).equals(alone)


def test_what_depends_on_a_failed_job_is_given_up(cluster: Slurm) -> None:
    first = cluster.submit("--wrap", "exit 2")
    later = cluster.submit("--kill-on-invalid-dep=yes", f"--dependency=afterok:{first}", "--wrap", "true")
    assert cluster.wait(first) == ["FAILED"] and cluster.wait(later) == ["CANCELLED"]


def test_the_study_goes_from_its_submission_to_its_tables_and_page(cluster: Slurm) -> None:
    study = cluster.root / "study.yaml"
    study.write_text(
        "models: [phantom-vlm]\nbenchmarks: [phantom]\nmethods: [vgrefine, random-keep]\n"
        f"heads: {{benchmark: scenes, k: 4}}\nprobe: [phantom]\nlimit: 6\noffline: true\nout: {cluster.root}/runs\n"
    )
    done = cluster.run("bash", SCRIPTS / "study.sh", study, **env(SHARDS="2"))
    assert done.returncode == 0, done.stderr
    jobs = dict(line.split(": job ") for line in done.stdout.splitlines())
    runs = [f"{kind}-phantom-vlm-{rows}" for kind, rows in (("probe", "scenes"), ("probe", "phantom"))]
    assert list(jobs) == [*runs, "heads-phantom-vlm", "refine-phantom-vlm-phantom", "score", "report"]
    assert {state for job in jobs.values() for state in cluster.wait(job)} == {"COMPLETED"}, logs(cluster)
    assert (cluster.root / "runs" / "report" / "index.html").is_file()
    assert "| random-keep | 6 |" in (cluster.root / "runs" / "tables.md").read_text()
