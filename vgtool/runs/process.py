"""The name of a process, in files that outlive it: host, process number and birth, so that a later process on the
same host can tell whether it is dead. Of another host's processes nothing is known."""

import os
import socket
from functools import cache
from pathlib import Path


def me() -> str:
    """This process."""
    return _named(os.getpid())


@cache  # by number, which a forked child does not share
def _named(number: int) -> str:
    return f"{_host()}-{number}-{_born(number)}"


def gone(name: str) -> bool:
    """Whether that process is known to have ended."""
    return on_this_host(name) and not alive(name)


def alive(name: str) -> bool:
    """Whether that process is known to be running."""
    host, number, born = split(name)
    return host == _host() and number > 0 and _born(number) == born != ""


def on_this_host(name: str) -> bool:
    return split(name)[0] == _host()


def split(name: str) -> tuple[str, int, str]:
    """(host, process number, birth) of a process; number 0 when it is no process's name."""
    host, _, rest = name.partition("-")
    number, _, born = rest.partition("-")
    return host, int(number) if number.isdecimal() else 0, born


@cache
def _host() -> str:
    """The host's name, with letters that file names and this module's own separators leave free."""
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname()) or "host"


def _born(number: int) -> str:
    """When a process started, in the kernel's ticks; `0` where /proc does not say, empty when there is none."""
    try:
        text = Path(f"/proc/{number}/stat").read_text("utf-8", errors="replace")
        state, *fields = text.rpartition(") ")[2].split()
        return "" if state in "ZX" else fields[18]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        return "0"
    return "0"
