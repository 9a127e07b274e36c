"""vgtool commands in processes of their own that need not import torch again: forked by a server that has."""

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["warm"])
ONE = threading.Lock()
"""Held while a process is started or asked for its exit code: starting one asks all others too, and of two threads that
ask for the same code at once one gets 255."""
FEW = """from itertools import islice
from vgtool.reporting import page
from vgtool.reporting.figures import draw
page.drawings, draw.DATES = lambda *given: islice(draw.drawings(*given), 2), {"svg": draw.DATES["svg"]}"""
"""To pretend where a report is one step of many: its figures take longest."""
HANGS = 900
"""Seconds that a child may take; only one that hangs does."""


def vgtool(
    *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, pretend: str = ""
) -> "subprocess.CompletedProcess[str]":
    """A command as a user runs it. `env`: added to this process's; `pretend`: Python that runs before it."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = start(*words, cwd=cwd, env=env, pretend=pretend, out=out, err=err)
        code = end(child)
        return subprocess.CompletedProcess([str(word) for word in words], code, out.read_text(), err.read_text())


def start(
    *words: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pretend: str = "",
    out: Path = Path(os.devnull),
    err: Path = Path(os.devnull),
) -> BaseProcess:
    """A command at work. `out`, `err`: files for what it prints."""
    new, told = {**os.environ, **(env or {})}, [str(word) for word in words]
    child = SERVER.Process(target=_command, args=(told, str(cwd or Path.cwd()), new, pretend, str(out), str(err)))
    with ONE:
        child.start()
    return child


def end(child: BaseProcess) -> int:
    """The exit code of a child, once it has one; negative for a signal."""
    assert wait([child.sentinel], HANGS), "the child hangs"
    with ONE:
        child.join(HANGS)  # the sentinel of a plain fork is ready a moment before its exit code is
        code = child.exitcode
    assert code is not None
    return code


def _code(child: BaseProcess) -> int | None:
    with ONE:
        return child.exitcode


def until(true: Callable[[], object], child: BaseProcess | None = None) -> None:
    """Wait for something that must come, and that a child brings about; only one that hangs meets the deadline."""
    last = time.monotonic() + HANGS
    while not true():
        if child is not None and _code(child) is not None:
            assert true(), "the child has ended"
            return
        assert time.monotonic() < last, "waited in vain"
        time.sleep(0.01)


def _command(words: Sequence[str], cwd: str, env: Mapping[str, str], pretend: str, out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    run_command(words, cwd, env, pretend)


def run_command(words: Sequence[str], cwd: str, env: Mapping[str, str], pretend: str = "") -> NoReturn:
    """Be that command, in a process that has nothing else to do."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run behind an &
    _environment(env)
    os.chdir(cwd)
    sys.argv = ["vgtool", *words]
    code: object = 0
    try:
        exec(pretend, {})
        from vgtool.commands import main

        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _environment(env: Mapping[str, str]) -> None:
    """Take over the variables, those too that are read on import."""
    import huggingface_hub.constants

    changed = {name for name in env.keys() | os.environ.keys() if env.get(name) != os.environ.get(name)}
    os.environ.clear()
    os.environ.update(env)
    if any(name.startswith("HF_") for name in changed):
        importlib.reload(huggingface_hub.constants)
    if "PYTHONPATH" in changed:
        sys.path[:0] = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
