"""Which share of the work is this process's, told by who started it: a launcher, a job array, or the user.

Environment variables are all that is read: processes never talk to each other, so one that dies costs its own open
part only, and a relaunch with any number of them finishes the rest (resume goes by ids, not by shards).
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vgtool.errors import VgError
from vgtool.runs.store import Shard, Store

QUIET = 1800.0
"""Seconds without anything new in the folder after which rank 0 no longer waits for the others."""


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those that work on the same run."""

    shard: Shard
    local: int = 0
    """Its number on this node: its card, and 0 is the one that speaks."""
    launched: bool = False
    """Started beside others by accelerate, which ends them all when one ends with an error."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """What a launcher tells each of its processes, by the names of environment variables."""

    name: str
    rank: str
    world: str
    local: str
    ends_all: bool = True
    """It ends every process when one ends with an error."""


LAUNCHERS = (
    Launcher("accelerate launch or torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    Launcher("mpirun of Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    Launcher("mpiexec of MPICH or Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    # Kubernetes tells an index only; the manifest gives the count (scripts/kubernetes.yaml).
    Launcher("a Kubernetes indexed job", "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", "", ends_all=False),
)
"""Asked in this order. Sources: torch 2.13 `torchrun`, Open MPI 5.0 `mpirun`, MPICH 4 Hydra, Kubernetes 1.33 `Job`."""


def place(text: str, env: Mapping[str, str] | None = None) -> Place:
    """What `--shard` means: `auto` asks the launcher (else everything), `slurm` and `lsf` ask the job array, or I/N."""
    env = os.environ if env is None else env
    if text == "slurm":
        return Place(_slurm(env), number(env, "SLURM_LOCALID", 0) if _tasks(env) > 1 else 0)
    if text == "lsf":
        return Place(_lsf(env))
    if text != "auto":
        return Place(Shard.parse(text), number(env, "LOCAL_RANK", 0) if launched(env) else 0)
    by = launched(env)
    if by is None:
        return Place(Shard())
    rank, world = number(env, by.rank, -1), number(env, by.world, 1)
    if not 0 <= rank < world:
        raise VgError(f"{by.rank}={rank} is not below {by.world}={world}.", f"Start vgtool with {by.name}.")
    return Place(Shard(rank + 1, world), number(env, by.local, 0), by.ends_all)


def launched(env: Mapping[str, str]) -> Launcher | None:
    """Who started this process beside others; None when nobody did."""
    by = next((one for one in LAUNCHERS if one.rank in env), None)
    if by is not None and by.world not in env and not by.ends_all:
        raise VgError(
            f"{by.rank}={env[by.rank]}, but {by.world} is not set: the share of this pod is not known.",
            f"Set {by.world} to the job's completions in the manifest, or give --shard I/N.",
        )
    return by if by is not None and number(env, by.world, 1) > 1 else None


def device(wanted: str | None, device_map: str | None, env: Mapping[str, str] | None = None) -> str | None:
    """The device of this process: its own card of the node, where accelerate or one srun started several and none is
    named."""
    env = os.environ if env is None else env
    by = launched(env)
    if not ((by and by.local) or _tasks(env) > 1) or wanted not in (None, "cuda"):
        return wanted
    import torch

    cards = torch.cuda.device_count()
    beside = max(number(env, "LOCAL_WORLD_SIZE", 1), number(env, "OMPI_COMM_WORLD_LOCAL_SIZE", 1)) if by else 1
    if device_map is not None and beside > 1:
        raise VgError(
            f"--device-map {device_map} spreads one model over the node, but {beside} processes were started on it.",
            "Launch one process per node, or leave --device-map out.",
        )
    if cards == 0 or device_map is not None:
        return wanted
    return f"cuda:{number(env, by.local if by and by.local else 'SLURM_LOCALID', 0) % cards}"


def _tasks(env: Mapping[str, str]) -> int:
    """Tasks of the srun that this process is one of."""
    return number(env, "SLURM_STEP_NUM_TASKS", 1)


def _slurm(env: Mapping[str, str]) -> Shard:
    """Array task (ID, COUNT, MIN, STEP or MAX) and, inside one srun of several tasks, the task's number."""
    if "SLURM_ARRAY_TASK_ID" not in env and "SLURM_STEP_NUM_TASKS" not in env:
        raise VgError(
            "--shard slurm, but SLURM_ARRAY_TASK_ID is not set: this is no job array.",
            "Submit with sbatch --array=0-7, or name the shard as I/N.",
        )
    task, least = number(env, "SLURM_ARRAY_TASK_ID", 0), number(env, "SLURM_ARRAY_TASK_MIN", 0)
    step, count = number(env, "SLURM_ARRAY_TASK_STEP", 1), number(env, "SLURM_ARRAY_TASK_COUNT", 1)
    index, rest = divmod(task - least, max(step, 1))
    full = (number(env, "SLURM_ARRAY_TASK_MAX", least + (count - 1) * step) - least) // max(step, 1) + 1
    if rest or not 0 <= index < count or full != count:
        raise VgError(
            f"Array task {task} is none of {count} tasks from {least} in steps of {step}.",
            "Use an array without gaps, such as --array=0-7, or scripts/array.sbatch, which deals them.",
        )
    proc, procs = number(env, "SLURM_PROCID", 0), _tasks(env)
    if not 0 <= proc < procs:
        proc, procs = 0, 1
    return Shard(index * procs + proc + 1, count * procs)


def _lsf(env: Mapping[str, str]) -> Shard:
    """Array task: its index, the last one, and the step (LSF 10.1: indices start at 1)."""
    if number(env, "LSB_JOBINDEX", 0) == 0:
        raise VgError(
            "--shard lsf, but LSB_JOBINDEX is not set: this is no job array.",
            "Submit an array, bsub -J 'vgtool[1-8]', or name the shard as I/N.",
        )
    index, last = number(env, "LSB_JOBINDEX", 0), number(env, "LSB_JOBINDEX_END", 0)
    if number(env, "LSB_JOBINDEX_STEP", 1) != 1 or not 1 <= index <= last:
        raise VgError(
            f"Array task {index} of {last} in steps of {env.get('LSB_JOBINDEX_STEP', '1')} has no share.",
            "Use an array from 1 without gaps, such as -J 'vgtool[1-8]'.",
        )
    return Shard(index, last)


def number(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise VgError(f"{name}='{text}' in the environment is no number.", "Unset it, or give --shard I/N.") from None


def wait(
    store: Store,
    count: int,
    stopped: Callable[[], bool],
    *,
    every: float = 0.5,
    quiet: float = QUIET,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Shard]:
    """Wait until all `count` shards have their done mark; the shards that lack it when a signal came, or when nothing
    new had appeared for `quiet` seconds (by this process's own clock: file times of a network disk say nothing)."""
    seen, since = -1, clock()
    while missing := [s for s in (Shard(i + 1, count) for i in range(count)) if not store.marked(s)]:
        now = sum(1 for _ in (store.root / "parts").iterdir()) + count - len(missing)
        if now != seen:
            seen, since = now, clock()
        if stopped() or clock() - since > quiet:
            return missing
        sleep(every)
    return []
