"""A real Slurm on this machine: munged, one controller, some nodes that are processes, ports of its own.

Needs slurmctld, slurmd, srun, munged (Debian: slurm-wlm munge) and root, for slurmd starts jobs as their user.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "munged")
PATIENCE = 900.0
"""Seconds after which something that should have happened has hung."""

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n/slurmd.pid
SlurmdSpoolDir={root}/%n
StateSaveLocation={root}/state
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
InactiveLimit=0
MinJobAge=600
MessageTimeout=10
SlurmdTimeout=20
ReturnToService=2
OverTimeLimit=0
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=20 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no Slurm here; empty when there can."""
    absent = [name for name in NEEDED if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    if absent:
        return f"needs {', '.join(absent)} (Debian: slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "needs root: slurmd starts jobs as their user"


def until(true: Callable[[], object], what: str) -> None:
    """Wait for something that must come; only a hang meets the deadline."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.1)


@dataclass
class Slurm:
    """A running cluster of `count` nodes that say they have `cpus` cores and two cards (device files) each."""

    root: Path
    count: int = 2
    cpus: int = 8
    children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = {**os.environ, "SLURM_CONF": str(self.root / "slurm.conf")}
        self.env["PATH"] = f"/usr/sbin:{os.environ['PATH']}"

    @property
    def names(self) -> list[str]:
        return [f"n{i + 1}" for i in range(self.count)]

    def start(self) -> None:
        munge = self.root / "munge"
        for folder in (munge, self.root / "state", *(self.root / name for name in self.names)):
            folder.mkdir(parents=True)
        munge.chmod(0o711)
        (munge / "key").write_bytes(secrets.token_bytes(128))
        (munge / "key").chmod(0o400)
        host, ports = socket.gethostname().split(".")[0], _ports(1 + self.count)
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} Gres=gpu:2"
            for name, port in zip(self.names, ports[1:], strict=True)
        )
        (self.root / "slurm.conf").write_text(CONF.format(root=self.root, host=host, ports=ports, nodes=nodes))
        paths = [f"--key-file={munge}/key", f"--socket={munge}/socket", f"--pid-file={munge}/pid"]
        paths += [f"--log-file={munge}/log", f"--seed-file={munge}/seed"]
        (self.root / "gres.conf").write_text(f"NodeName={','.join(self.names)} Name=gpu File=/dev/null,/dev/zero\n")
        self._daemon("munged", "munged", "--foreground", "--force", "--num-threads=2", *paths)
        until((munge / "socket").exists, "munged answers")
        self._daemon("slurmctld", "slurmctld", "-D", "-c")
        for name in self.names:
            self.node(name)
        until(lambda: self.run("sinfo", "-h", "-N", "-o", "%T").stdout.split() == ["idle"] * 2 * self.count, "nodes")

    def node(self, name: str) -> None:
        """Start a node's daemon."""
        self._daemon(name, "slurmd", "-D", "-N", name)

    def kill(self, name: str) -> None:
        """A node dies with all that runs on it."""
        jobs = self.run("squeue", "-h", "-w", name, "-o", "%A").stdout.split()
        self.children.pop(name).kill()
        # Slurm's own stewards first, or they tell of a job that was killed, not of a node that is gone.
        stewards = [pid for pid, told in commands() if told.startswith(tuple(f"slurmstepd: [{job}." for job in jobs))]
        for pid in [*stewards, *_with(f"SLURMD_NODENAME={name}")]:
            kill(pid)

    def end(self, job: str) -> None:
        """The vgtool of a job dies by SIGKILL."""
        ids = {one["JobId"] for one in self.jobs(job)}
        told = dict(commands())
        for pid in {pid for one in ids for pid in _with(f"SLURM_JOB_ID={one}")}:
            words = told.get(pid, "").split()
            if "probe" in words and "slurm" not in words[:4] and not words[0].endswith("srun"):
                kill(pid)

    def stop(self) -> None:
        self.run("scancel", "-u", "root")
        for child in reversed(self.children.values()):
            child.terminate()
        for child in self.children.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
        for name in self.names:
            for pid in _with(f"SLURMD_NODENAME={name}"):
                kill(pid)

    # ---- jobs --------------------------------------------------------------------------------------------------

    def run(self, *command: object, **env: str) -> "subprocess.CompletedProcess[str]":
        told = [str(part) for part in command]
        return subprocess.run(told, env={**self.env, **env}, capture_output=True, text=True, cwd=self.root)

    def submit(self, *command: object, **env: str) -> str:
        """The number of the job."""
        done = self.run("sbatch", "--parsable", *command, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().split(";")[0]

    def jobs(self, number: str) -> list[Mapping[str, str]]:
        """What Slurm says of a job, or of every task of an array."""
        found = self.run("scontrol", "-o", "show", "job", number).stdout.splitlines()
        return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in found if line.strip()]

    def states(self, number: str) -> list[str]:
        return [job["JobState"] for job in self.jobs(number)]

    def wait(self, number: str, *states: str) -> list[str]:
        """Wait until every task of a job is in one of `states` (any end by default)."""
        ends = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")
        until(lambda: (found := self.states(number)) and all(one in ends for one in found), f"{number} in {ends}")
        return self.states(number)

    # ---- parts -------------------------------------------------------------------------------------------------

    def _daemon(self, name: str, *command: str) -> None:
        log = (self.root / f"{name}.out").open("ab")
        self.children[name] = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)


def _ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


def _files(name: str) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                yield int(folder.name), (folder / name).read_text(errors="replace")
            except OSError:
                continue


def commands() -> Iterator[tuple[int, str]]:
    """Number and command line of every process."""
    return ((pid, text.replace("\0", " ")) for pid, text in _files("cmdline"))


def _with(variable: str) -> list[int]:
    """Processes that have a variable in their environment."""
    return [pid for pid, text in _files("environ") if variable in text.split("\0")]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
