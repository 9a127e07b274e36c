"""A command of vgtool in a process of its own: signals are handed on to it, and where the kernel can (Linux) it does
not outlive the process that watches it."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from vgtool import console

HANDED_ON = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


def command(*words: str) -> list[str]:
    """`vgtool WORDS...` of this very installation, which says as much as this process does."""
    talk = {console.Talk.QUIET: ("-q",), console.Talk.VERBOSE: ("-v",)}.get(console.talk, ())
    return [sys.executable, "-m", "vgtool", *words, *talk]


def watch(
    words: Sequence[str], env: Mapping[str, str] | None = None, stdout: int | IO[bytes] | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Run a command to its end: the process and its exit code (negative: the signal that killed it). SystemExit when a
    signal came meanwhile, after the child has ended on it."""
    caught: list[int] = []
    # A session of its own: a terminal's Ctrl-C reaches it once, from here, and not twice, which would end it at once.
    child = subprocess.Popen(
        words, env={**os.environ, **(env or {})}, stdout=stdout, preexec_fn=_dying_with_parent(), start_new_session=True
    )

    def hand_on(number: int, frame: Any) -> None:
        caught.append(number)
        child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        raise SystemExit(128 + caught[0])
    return child, code


def _dying_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # found before the fork: between fork and exec another thread's lock may be held

    def ask() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG

    return ask
