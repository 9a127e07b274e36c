"""Which share of the work is this process's, told by who started it: accelerate, Slurm, or the user.

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


def place(text: str, env: Mapping[str, str] | None = None) -> Place:
    """What `--shard` means: `auto` asks accelerate (else everything), `slurm` asks the job array, or I/N."""
    env = os.environ if env is None else env
    if text == "slurm":
        return Place(_slurm(env), _number(env, "SLURM_LOCALID", 0) if _tasks(env) > 1 else 0)
    if text != "auto":
        return Place(Shard.parse(text), _number(env, "LOCAL_RANK", 0) if _world(env) > 1 else 0)
    if _world(env) < 2:
        return Place(Shard())
    rank, world = _number(env, "RANK", -1), _world(env)
    if not 0 <= rank < world:
        raise VgError(f"RANK={rank} is not below WORLD_SIZE={world}.", "Start vgtool with accelerate launch.")
    return Place(Shard(rank + 1, world), _number(env, "LOCAL_RANK", 0), True)


def device(wanted: str | None, device_map: str | None, env: Mapping[str, str] | None = None) -> str | None:
    """The device of this process: its own card of the node, where accelerate or one srun started several and none is
    named."""
    env = os.environ if env is None else env
    launched = _world(env) > 1
    if not (launched or _tasks(env) > 1) or wanted not in (None, "cuda"):
        return wanted
    import torch

    cards = torch.cuda.device_count()
    beside = _number(env, "LOCAL_WORLD_SIZE", 1) if launched else 1
    if device_map is not None and beside > 1:
        raise VgError(
            f"--device-map {device_map} spreads one model over the node, but {beside} processes were started on it.",
            "Launch one process per node, or leave --device-map out.",
        )
    if cards == 0 or device_map is not None:
        return wanted
    return f"cuda:{_number(env, 'LOCAL_RANK' if launched else 'SLURM_LOCALID', 0) % cards}"


def _world(env: Mapping[str, str]) -> int:
    return _number(env, "WORLD_SIZE", 1) if "RANK" in env else 1


def _tasks(env: Mapping[str, str]) -> int:
    """Tasks of the srun that this process is one of."""
    return _number(env, "SLURM_STEP_NUM_TASKS", 1)


def _slurm(env: Mapping[str, str]) -> Shard:
    """Array task (ID, COUNT, MIN, STEP or MAX) and, inside one srun of several tasks, the task's number."""
    if "SLURM_ARRAY_TASK_ID" not in env and "SLURM_STEP_NUM_TASKS" not in env:
        raise VgError(
            "--shard slurm, but SLURM_ARRAY_TASK_ID is not set: this is no job array.",
            "Submit with sbatch --array=0-7, or name the shard as I/N.",
        )
    task, least = _number(env, "SLURM_ARRAY_TASK_ID", 0), _number(env, "SLURM_ARRAY_TASK_MIN", 0)
    step, count = _number(env, "SLURM_ARRAY_TASK_STEP", 1), _number(env, "SLURM_ARRAY_TASK_COUNT", 1)
    index, rest = divmod(task - least, max(step, 1))
    if rest or not 0 <= index < count:
        raise VgError(
            f"Array task {task} is none of {count} tasks from {least} in steps of {step}.",
            "Use an array without gaps, such as --array=0-7.",
        )
    proc, procs = _number(env, "SLURM_PROCID", 0), _tasks(env)
    if not 0 <= proc < procs:
        proc, procs = 0, 1
    return Shard(index * procs + proc + 1, count * procs)


def _number(env: Mapping[str, str], name: str, default: int) -> int:
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
