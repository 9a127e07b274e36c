"""vgtool commands in processes of their own that need not import torch again: forked by a server that has."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["warm"])


def vgtool(
    *words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, pretend: str = ""
) -> "subprocess.CompletedProcess[str]":
    """A command as a user runs it. `env`: added to this process's; `pretend`: Python that runs before it.

    Settings of Hugging Face are read on import: a command whose `env` has one gets a fresh process.
    """
    told = [str(word) for word in words]
    new = {**os.environ, **(env or {})}
    if any(name.startswith(("HF_", "PYTHON")) for name in env or {}):
        script = f"import sys\n{pretend}\nsys.argv = {['vgtool', *told]!r}\nfrom vgtool.commands import main\nmain()"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cwd, env=new)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        child = SERVER.Process(target=_command, args=(told, str(cwd or Path.cwd()), new, pretend, str(out), str(err)))
        child.start()
        child.join()
        assert child.exitcode is not None
        return subprocess.CompletedProcess(told, child.exitcode, out.read_text(), err.read_text())


def _command(words: Sequence[str], cwd: str, env: Mapping[str, str], pretend: str, out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
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
