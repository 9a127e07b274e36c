"""A vgtool command inside a Slurm job: started as a step, and the job queued again when it should go on.

    stopped or dead, the job still running   a warned time limit, a preemption's grace, a death: queued again
    stopped or dead, the limit used up       the warning was too short: queued again
    stopped or dead, the job ending          scancel: stays cancelled; a preemption: Slurm queues it again itself
    nothing new in three starts in a row     ends with a sentence; any new row starts the count again

A step gets its signals from Slurm directly (under GraceTime the batch script gets none), and the batch script's own
(--signal=B:...) are passed on; vgtool takes both for one. Facts: Slurm 22.05.8, three ways of ending tried on it.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from vgtool.errors import Exit, StorageError, VgError
from vgtool.runs.cluster import number, place
from vgtool.runs.whole import remedy, save

FRUITLESS = 3
"""Starts in a row that wrote nothing, after which a job is not queued again. A sample that kills its process is found,
and left out, by the third start."""
TRIES, PAUSE = 4, 5.0
"""Times that Slurm is asked for a job, and seconds between them: under load it answers late or not at all."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
FINAL = (Exit.DONE, Exit.USER, Exit.SOME_FAILED)


@dataclass(frozen=True, slots=True)
class Job:
    """What Slurm says of the job that this process is in."""

    state: str
    """`RUNNING`; `COMPLETING` while it is being ended, whoever ends it."""
    used: int
    """Seconds it has run."""
    limit: int | None
    """Seconds it may run; None: no limit."""

    @classmethod
    def read(cls, text: str) -> "Job":
        """From a line of `scontrol --oneliner show job`."""
        fields = dict(part.split("=", 1) for part in text.split() if "=" in part)
        limit = fields.get("TimeLimit", "")
        return cls(fields.get("JobState", ""), seconds(fields.get("RunTime", "")) or 0, seconds(limit))

    @property
    def out_of_time(self) -> bool:
        return self.limit is not None and self.used >= self.limit


def seconds(text: str) -> int | None:
    """[days-]hours:minutes:seconds as Slurm writes them; None when it is no time (UNLIMITED)."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


@dataclass(frozen=True, slots=True)
class Count:
    """Starts of this job's task in a row that wrote nothing, kept in the run folder: starts/<job>-<task>."""

    path: Path

    def read(self) -> int:
        try:
            return int(self.path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return 0

    def set(self, value: int) -> None:
        if value == 0:
            self.path.unlink(missing_ok=True)
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save(self.path, str(value).encode())
        except OSError as error:
            raise StorageError(f"Cannot write '{self.path}': {error.strerror or error}.", remedy(error)) from None


def run(arguments: Sequence[str], say: Callable[[str], None], env: Mapping[str, str] | None = None) -> int:
    """Run `vgtool ARGUMENTS` as a step of this job and give the job's exit code. VgError outside a job, or when the
    arguments name no run folder."""
    env = dict(os.environ if env is None else env)
    job = env.get("SLURM_JOB_ID")
    if job is None or shutil.which("srun", path=env.get("PATH")) is None:
        raise VgError("This is no Slurm job: SLURM_JOB_ID or srun is missing.", "Submit scripts/array.sbatch instead.")
    out = folder(arguments)
    if "SLURM_ARRAY_JOB_ID" in env:  # one task's own number is the array's: by it Slurm would take all tasks
        job = f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    env |= ranked(env, out)
    task = env.get("SLURM_ARRAY_TASK_ID", "0")
    mine = shards(arguments, env)
    before = written(out, mine)
    step = ["srun", "--input=none", "--kill-on-bad-exit=0"]
    if "SLURM_CPUS_PER_TASK" in env:
        step.append(f"--cpus-per-task={env['SLURM_CPUS_PER_TASK']}")  # since 22.05 a step does not inherit it
    itself = sys.orig_argv[: -len(arguments) - 1]  # what came before `slurm`: how this vgtool is started
    code = _child([*step, *itself, *arguments], env)
    count = Count(out / "starts" / f"{env.get('SLURM_ARRAY_JOB_ID', job)}-{task}")
    if code in FINAL:
        count.set(0)
        return Exit.DONE if code == Exit.SOME_FAILED else code
    now = _asked(env, job)
    if now.state != "RUNNING" and not now.out_of_time:
        return code
    fruitless = 0 if written(out, mine) - before else count.read() + 1
    if fruitless >= FRUITLESS:
        count.set(0)
        say(
            f"{fruitless} starts in a row wrote nothing (last: exit {code} after {now.used} s): not queued again. "
            "Read the log above; give the job more time, or a shorter --signal, then submit it again."
        )
        return code
    count.set(fruitless)
    queued = _scontrol(env, "requeue", job)
    if queued.returncode != 0:
        say(f"Slurm did not queue job {job} again: {queued.stderr.strip()}. Submit it again: it goes on from here.")
        return code
    return Exit.DONE


def folder(arguments: Sequence[str]) -> Path:
    """The run folder that the arguments name."""
    for at, word in enumerate(arguments):
        if word == "--out" and at + 1 < len(arguments):
            return Path(arguments[at + 1])
        if word.startswith("--out="):
            return Path(word.removeprefix("--out="))
    raise VgError("No --out among the arguments.", "Name the run folder: --out DIR, on a disk that every node sees.")


def shards(arguments: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the shards that this job's tasks work on, as part names start with them; (): everything is theirs."""
    if not any(pair == ("--shard", "slurm") for pair in pairwise(arguments)):
        return ()
    procs = number(env, "SLURM_NTASKS", 1)
    each = [{**env, "SLURM_PROCID": str(proc), "SLURM_STEP_NUM_TASKS": str(procs)} for proc in range(procs)]
    return tuple(f"{place('slurm', one).shard.name}-" for one in each)


def written(out: Path, mine: tuple[str, ...]) -> set[str]:
    """Names of what this job's tasks have come to: their parts, and samples that were tried alone or are left out."""
    parts = {path.name for path in (out / "parts").glob("*.parquet") if not mine or path.name.startswith(mine)}
    return parts | {path.name for folder in ("tried", "killed") for path in (out / folder).glob("[!.]*")}


def ranked(env: Mapping[str, str], out: Path) -> dict[str, str]:
    """Array variables without gaps for an array with some (--array=0,3,7): a task's rank among the tasks.

    Slurm forgets tasks that ended (MinJobAge, 300 s by default): the first to start notes them all in the run folder.
    """
    if "SLURM_ARRAY_TASK_ID" not in env:
        return {}
    first, last = number(env, "SLURM_ARRAY_TASK_MIN", 0), number(env, "SLURM_ARRAY_TASK_MAX", 0)
    step, count = max(number(env, "SLURM_ARRAY_TASK_STEP", 1), 1), number(env, "SLURM_ARRAY_TASK_COUNT", 1)
    if (last - first) // step + 1 == count:
        return {}
    array, task = env["SLURM_ARRAY_JOB_ID"], number(env, "SLURM_ARRAY_TASK_ID", 0)
    note = out / "starts" / f"{array}-tasks"
    if not note.exists():
        named = re.findall(r"ArrayTaskId=(\S+)", _scontrol(env, "--oneliner", "show", "job", array).stdout)
        found = sorted({one for text in named for one in members(text)})
        if len(found) != count or task not in found:
            raise VgError(
                f"Of the {count} tasks of array {array} Slurm names {len(found)} ({', '.join(map(str, found))}).",
                f"Submit it without gaps: --array=0-{count - 1}.",
            )
        note.parent.mkdir(parents=True, exist_ok=True)
        save(note, " ".join(map(str, found)).encode(), exclusive=True)
    tasks = [int(one) for one in note.read_text("utf-8").split()]
    return {
        "SLURM_ARRAY_TASK_ID": str(tasks.index(task)),
        "SLURM_ARRAY_TASK_MIN": "0",
        "SLURM_ARRAY_TASK_MAX": str(count - 1),
        "SLURM_ARRAY_TASK_STEP": "1",
    }


def members(text: str) -> Iterator[int]:
    """The numbers in a list of array tasks such as `0,3-9:2%4`."""
    for part in text.partition("%")[0].split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if found:
            first, last, step = found.groups()
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def _asked(env: Mapping[str, str], job: str) -> Job:
    """What Slurm says of a job, asked again while it says nothing; without a state when it never does."""
    for left in reversed(range(TRIES)):
        now = Job.read(_scontrol(env, "--oneliner", "show", "job", job).stdout)
        if now.state or not left:
            break
        time.sleep(PAUSE)
    return now


def _scontrol(env: Mapping[str, str], *told: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["scontrol", *told], env=env, capture_output=True, text=True)


def _child(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command, pass signals on to it, and give its exit code."""
    with subprocess.Popen(command, env=env) as child, _passed_on(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _passed_on(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    def pass_on(number: int, frame: Any) -> None:
        if child.poll() is None:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
