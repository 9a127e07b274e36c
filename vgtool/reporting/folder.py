"""A report's folder is whole or absent: the report is made beside it and put in its place by two renames.

Until then the older report stays as it is, so that no mistake, full disk or kill loses it, and nothing of two reports
is ever mixed. A kill between the renames leaves the older report beside its place; the next report puts it back first.
A folder that holds anything else is refused, since all of it would go.
"""

import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from vgtool.errors import VgError

MARK = '<meta name="generator" content="vgtool report">'
FIGURE = re.compile(
    r"(layers|accuracy(-part-\d+)?|ablation|(heads|gain|examples|depth|repairs|modality-accuracy|modality-grounding)(-\d+){1,2})"
    r"\.(pdf|svg|png)"
)
CHUNK = re.compile(r"chunk-\d+\.js")
OLD = "-old"
OURS = ("results.json", "results.parquet", ".DS_Store")


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """An empty folder to make a report in; it becomes `out` when the block ends well and is removed when it does not.

    VgError when `out` is no folder of ours to replace.
    """
    target = out.resolve()
    _check(target, out)
    new = target.with_name(f".{target.name}.vgtool-{secrets.token_hex(4)}")
    old = new.with_name(new.name + OLD)
    absent = [folder for folder in target.parents if not folder.exists()]
    with ExitStack() as ends:
        ends.enter_context(_signals_as_exits())
        ends.callback(_unmake, absent)
        ends.callback(_clear, target, [old, new])
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear(target, _left(target))
        new.mkdir()
        yield new
        _check(target, out)  # again: a file may have come while the report was made
        if target.exists():
            shutil.copymode(target, new)
            target.rename(old)
        new.rename(target)


def _check(target: Path, out: Path) -> None:
    here = Path.cwd()
    if os.path.ismount(target) or target in (here, *here.parents):
        raise VgError(
            f"'{out}' is a mount, or you are inside it: a report replaces its folder.",
            f"Name a folder in it: --out {out / 'report'}",
        )
    if not target.is_dir():
        if target.exists():
            raise VgError(f"'{out}' is no folder.", "Choose another --out.")
        return
    page = target / "index.html"
    for path in [*([page] if page.exists() else []), *sorted(target.iterdir())]:
        if not _ours(path):
            raise VgError(
                f"'{out / path.name}' is no part of a report, which replaces its folder.",
                "Move it away or choose another --out.",
            )


def _ours(path: Path) -> bool:
    """Whether an entry of a folder is part of a report."""
    if path.name == "index.html":
        return MARK in path.read_text(encoding="utf-8", errors="replace")[:2000]
    if path.name == "data" and path.is_dir():
        return all(CHUNK.fullmatch(one.name) for one in path.iterdir())
    # macOS puts .DS_Store into every folder that it shows, hence in OURS.
    return path.is_file() and (FIGURE.fullmatch(path.name) is not None or path.name in OURS)


def _left(target: Path) -> list[Path]:
    """What reports into `target` that were killed have left beside it."""
    name = re.compile(rf"\.{re.escape(target.name)}\.vgtool-[0-9a-f]{{8}}({OLD})?")
    return [path for path in sorted(target.parent.iterdir()) if name.fullmatch(path.name)]


def _clear(target: Path, folders: list[Path]) -> None:
    """Remove `folders`; an older report that nothing took the place of goes back instead."""
    for folder in folders:
        if folder.name.endswith(OLD) and folder.exists() and not target.exists():
            folder.rename(target)
        elif folder.exists():
            shutil.rmtree(folder)


def _unmake(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # in use, or never made
            folder.rmdir()


@contextmanager
def _signals_as_exits() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does, by an exception: what is half made is removed."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    alone = threading.current_thread() is threading.main_thread()
    caught = [number for number in numbers if alone and signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
