"""A vgtool on PATH that starts at once: a command that has a warm process (warm.py) fork and run it.

The worker has the caller's environment, folder and open files 0 to 2; signals that the command gets go to the worker,
the command ends as the worker does, and the vgtool that a worker starts is this one again.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from forked import SERVER, end, run_command, until

from vgtool.runs import children

COMMAND = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
told = dict(words=sys.argv, cwd=os.getcwd(), env=dict(os.environ))
socket.send_fds(server, [b"f"], [0, 1, 2])
server.sendall(json.dumps(told).encode() + b"\\n")
answers = server.makefile()
worker = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: os.kill(worker, number))
code = os.waitstatus_to_exitcode(int(answers.readline()))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@contextmanager
def vgtool(path: Path) -> Iterator[None]:
    """The command at `path`, and inside the process that serves it."""
    address = path.with_suffix(".socket")
    path.write_text(COMMAND.format(python=sys.executable, address=str(address)))
    path.chmod(0o755)
    server = SERVER.Process(target=_serve, args=(str(address),))
    server.start()
    until(address.exists, server)
    yield
    server.terminate()
    end(server)


def _itself(path: str, *words: str) -> list[str]:
    return [path, *words]


def _serve(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        os.rename(f"{address}.new", address)
        while True:
            asking, _ = listening.accept()
            _, files, _, _ = socket.recv_fds(asking, 1, 3)
            told = json.loads(asking.makefile().readline())
            worker = os.fork()
            if worker == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                listening.close()
                asking.close()
                for number, file in enumerate(files):
                    os.dup2(file, number)
                sys.orig_argv = told["words"]
                children.command = partial(_itself, told["words"][0])
                run_command(told["words"][1:], told["cwd"], told["env"])
            for file in files:
                os.close(file)
            threading.Thread(target=_report, args=(asking, worker), daemon=True).start()


def _report(asking: socket.socket, worker: int) -> None:
    asking.sendall(f"{worker}\n".encode())
    _, status = os.waitpid(worker, 0)
    asking.sendall(f"{status}\n".encode())
    asking.close()
