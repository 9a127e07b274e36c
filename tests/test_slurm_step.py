"""What becomes of a Slurm job whose command has ended, Slurm's commands pretended; test_slurm.py has a real one."""

import os
import sys
from pathlib import Path

import pytest

from vgtool.errors import VgError
from vgtool.runs import slurm

RUNNING = "JobId=9 JobState=RUNNING RunTime=00:01:00 TimeLimit=1-00:00:00"
ENDING = "JobId=9 JobState=COMPLETING RunTime=00:01:00 TimeLimit=UNLIMITED"
OUT_OF_TIME = "JobId=9 JobState=COMPLETING RunTime=01:00:02 TimeLimit=01:00:00"


class Pretended:
    """A job in which vgtool exits with a code, writes a part or not, and Slurm says what it is told to say."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.out, self.said, self.monkeypatch = folder, folder / "run", list[str](), monkeypatch
        self.calls = folder / "calls"
        self.before_show = ":"
        monkeypatch.setattr(slurm, "PAUSE", 0.01)
        self.command("srun", 'while [[ $1 == -* ]]; do shift; done; exec "$@"')
        self.arguments = ["probe", "--model", "m", "--out", str(self.out)]

    def command(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def run(self, code: int, says: str, part: str = "", refused: bool = False, **env: str) -> tuple[int, bool]:
        """(exit code, whether the job was queued again)"""
        self.calls.unlink(missing_ok=True)
        write = f"mkdir -p {self.out}/parts; touch {self.out}/parts/{part}.parquet\n" if part else ""
        vgtool = self.command("vgtool", f"{write}exit {code}")
        requeue = f"echo requeue $2 >> {self.calls}; exit {int(refused)}"
        self.command("scontrol", f'if [[ $2 == show ]]; then {self.before_show}; echo "{says}"; exit 0; fi\n{requeue}')
        self.monkeypatch.setattr(sys, "orig_argv", [vgtool, "slurm", *self.arguments])
        names = {"PATH": f"{self.folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "9"} | env
        ended = slurm.run(self.arguments, self.said.append, names)
        return ended, self.calls.exists() and self.calls.read_text().startswith("requeue ")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    return Pretended(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "code,says,ends",
    [
        (0, RUNNING, (0, False)),
        (3, RUNNING, (0, False)),  # done; the run names the samples that failed
        (2, RUNNING, (2, False)),  # a mistake in the command stays one
        (138, RUNNING, (0, True)),  # warned of the time limit
        (143, RUNNING, (0, True)),  # told to end in a preemption's grace
        (1, RUNNING, (0, True)),
        (137, RUNNING, (0, True)),
        (143, OUT_OF_TIME, (0, True)),  # the limit came before the warned image was done
        (143, ENDING, (143, False)),  # cancelled, or preempted without grace: Slurm does what is to be done
        (137, ENDING, (137, False)),
        (143, "", (143, False)),  # the job is no longer known
    ],
)
def test_a_job_goes_on_unless_it_is_done_wrong_or_being_ended(
    code: int, says: str, ends: tuple[int, bool], job: Pretended
) -> None:
    assert job.run(code, says) == ends


@pytest.mark.parametrize("silent,ends", [(slurm.TRIES - 1, (0, True)), (slurm.TRIES, (143, False))])
def test_a_slurm_that_does_not_answer_is_asked_again(silent: int, ends: tuple[int, bool], job: Pretended) -> None:
    asked = job.folder / "asked"
    unanswered = f'echo x >> {asked}; [[ $(wc -l < {asked}) -le {silent} ]] && exit 1'
    job.before_show = unanswered
    assert job.run(143, RUNNING) == ends
    assert len(asked.read_text().split()) == slurm.TRIES


def test_only_starts_in_a_row_that_write_nothing_count(job: Pretended) -> None:
    assert [job.run(137, RUNNING) for _ in range(2)] == [(0, True)] * 2
    assert job.run(138, RUNNING, part="1of1-00000-a") == (0, True), "something was written: the count starts again"
    stops = [job.run(138, RUNNING, part=f"1of1-{i:05}-a") for i in range(1, 9)]
    assert stops == [(0, True)] * 8, "orderly stops are free"
    assert [job.run(138, RUNNING) for _ in range(2)] == [(0, True)] * 2
    assert job.run(138, RUNNING) == (138, False)
    assert "3 starts in a row wrote nothing (last: exit 138 after 60 s)" in job.said[0] and len(job.said) == 1
    assert job.run(137, RUNNING) == (0, True), "submitted again, it has three starts again"


def test_a_task_counts_its_own_parts_and_not_those_of_the_others(job: Pretended) -> None:
    job.arguments += ["--shard", "slurm"]
    names = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    names |= {"SLURM_ARRAY_TASK_MAX": "1"}
    ends = [job.run(137, RUNNING, part=f"1of2-{i:05}-a", **names) for i in range(3)]
    assert ends == [(0, True), (0, True), (137, False)]
    assert [job.run(137, RUNNING, part=f"2of2-{i:05}-a", **names) for i in range(4)] == [(0, True)] * 4


def test_of_an_array_only_the_own_task_is_asked_about_and_queued_again(job: Pretended) -> None:
    """One task's job number is that of the array: under it Slurm shows, and would queue again, all of them."""
    names = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"}
    names |= {"SLURM_ARRAY_TASK_MIN": "6", "SLURM_ARRAY_TASK_MAX": "7", "SLURM_ARRAY_TASK_STEP": "1"}
    job.before_show = f'echo "show $4" >> {job.folder}/asked'
    assert job.run(143, RUNNING, **names)[0] == 0
    assert (job.folder / "asked").read_text() == "show 9_7\n" and job.calls.read_text() == "requeue 9_7\n"


def test_a_refused_requeue_is_said(job: Pretended) -> None:
    assert job.run(138, RUNNING, refused=True) == (138, True)
    assert "did not queue job 9 again" in job.said[0]


def test_the_tasks_of_an_array_with_gaps_are_dealt_by_rank(job: Pretended) -> None:
    """The first task that starts notes them; a later one finds a Slurm that has forgotten those that ended."""
    names = {"PATH": f"{job.folder}:{os.environ['PATH']}", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4"}
    names |= {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "9", "SLURM_ARRAY_TASK_STEP": "1"}
    job.command("scontrol", "echo 'JobId=6 ArrayTaskId=3 JobState=RUNNING'; echo 'JobId=5 ArrayTaskId=0,7,9%2 X=1'")
    dealt = slurm.ranked({**names, "SLURM_ARRAY_TASK_ID": "3"}, job.out)
    assert [dealt[f"SLURM_ARRAY_TASK_{name}"] for name in ("ID", "MIN", "MAX", "STEP")] == ["1", "0", "3", "1"]
    job.command("scontrol", "exit 1")
    ranks = [slurm.ranked({**names, "SLURM_ARRAY_TASK_ID": str(task)}, job.out) for task in (0, 3, 7, 9)]
    assert [one["SLURM_ARRAY_TASK_ID"] for one in ranks] == ["0", "1", "2", "3"]
    with pytest.raises(VgError, match="Of the 4 tasks of array 6 Slurm names 0"):
        slurm.ranked({**names, "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "0"}, job.out)
    whole = names | {"SLURM_ARRAY_TASK_COUNT": "10", "SLURM_ARRAY_TASK_ID": "4"}
    assert slurm.ranked(whole, job.out) == {} == slurm.ranked({}, job.out)


@pytest.mark.parametrize(
    "text,found",
    [("3", [3]), ("0,3-5,9%2", [0, 3, 4, 5, 9]), ("1-9:4", [1, 5, 9]), ("N/A", [])],
)  # fmt: skip
def test_lists_of_array_tasks_are_read_as_slurm_writes_them(text: str, found: list[int]) -> None:
    assert list(slurm.members(text)) == found


@pytest.mark.parametrize(
    "text,found", [("00:01:00", 60), ("1-02:03:04", 93784), ("UNLIMITED", None), ("Partition_Limit", None), ("", None)]
)
def test_times_are_read_as_slurm_writes_them(text: str, found: int | None) -> None:
    assert slurm.seconds(text) == found


def test_outside_a_job_and_without_a_run_folder_it_is_one_sentence(job: Pretended) -> None:
    with pytest.raises(VgError, match="This is no Slurm job"):
        slurm.run(job.arguments, job.said.append, {"PATH": str(job.folder)})
    with pytest.raises(VgError, match="No --out among the arguments"):
        slurm.run(["probe"], job.said.append, {"PATH": str(job.folder), "SLURM_JOB_ID": "9"})
    assert slurm.folder(["--out=a b"]) == Path("a b")
