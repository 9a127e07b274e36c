"""A run in small: a task without a model, and children that are killed at a named point of it.

Children are real processes, forked by a server that has imported everything and used nothing, and real signals end
them. Faults go in at the seams the store and the runner have: open, write, fsync, replace, touch, the task itself.
"""

import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from forked import SERVER, end
from PIL import Image

from vgtool.benchmarks.digest import digest
from vgtool.benchmarks.load import Benchmark
from vgtool.errors import VgError
from vgtool.grounding.geometry import Geometry
from vgtool.methods.task import ImageGroup, Row
from vgtool.models.inputs import Vision
from vgtool.records import Decoding, Grid, ImageSource, Rejected, Sample
from vgtool.runs import children, deal, runner, trial
from vgtool.runs import whole as files
from vgtool.runs.parts import read_part
from vgtool.runs.store import Shard, Store

METHODS = ("baseline", "other")
TOUCH = Path.touch
POINTS = ("open", "half", "fsync", "replace", "replaced", "touch", "touched", "prepare", "run", "ran")


class Toy:
    """An adapter that prepares a picture into nothing. `forms`: pictures of two sizes do not go together."""

    alpha = "white"

    def __init__(self, at: Callable[[str], None] = lambda point: None, forms: bool = False) -> None:
        self.at, self.forms = at, forms

    def prepare(self, image: Image.Image) -> Vision:
        self.at("prepare")
        cols = image.width // 3 if self.forms else 2
        return Vision({}, Geometry.squash(image.width, image.height, 8, 8, Grid(2, cols)))


class Answers:
    """Two rows a sample, made of its id alone. Faults by sample id: one that ends the process, ones too big. `beside`:
    an answer is made of all ids that went through together, as rounding is."""

    kind = "refine"
    labels = tuple(METHODS)
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("sample_id", "image_id", "question", "method", "answer", "error")),
            ("numbers", pa.list_(pa.float32())),
        ]
    )

    def __init__(
        self,
        *,
        at: Callable[[str], None] = lambda point: None,
        nap: float = 0.0,
        deadly: Sequence[str] = (),
        huge: Sequence[str] = (),
        most: int | None = None,
        beside: bool = False,
    ) -> None:
        self.beside, self.at, self.nap, self.most = beside, at, nap, most
        self.deadly, self.huge = set(deadly), set(huge)
        self.calls: list[tuple[tuple[str, ...], int | None]] = []

    def identity(self) -> dict[str, Any]:
        return {"methods": list(METHODS)}

    def failed(self, sample: Sample | Rejected, reason: str) -> list[Row]:
        ids = {"sample_id": sample.id, "image_id": sample.image_id, "question": sample.question}
        return [{**ids, "method": method, "error": reason} for method in METHODS]

    def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
        self.at("run")
        ids = tuple(sample.id for group in groups for sample in group.samples)
        self.calls.append((ids, max_questions))
        for name in ids:
            if name in self.deadly:
                os._exit(9)
        asked = sum(min(len(group.samples), max_questions or len(group.samples)) for group in groups)
        if self.huge & set(ids) or (self.most is not None and asked > self.most):
            raise torch.OutOfMemoryError("no room")
        time.sleep(self.nap)
        rows = [row(sample, method) for group in groups for sample in group.samples for method in METHODS]
        self.at("ran")
        return [one | {"answer": " ".join(ids)} for one in rows] if self.beside else rows


def row(sample: Sample, method: str) -> Row:
    numbers = np.random.default_rng([len(method), *sample.id.encode()]).normal(size=5).astype(np.float32)
    text = {"sample_id": sample.id, "image_id": sample.image_id, "question": sample.question, "method": method}
    return {**text, "answer": f"{method} of {sample.id}", "numbers": numbers, "error": None}


def picture(width: int = 6) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, 4), (10, 200, 30)).save(out, "PNG")
    return out.getvalue()


def benchmark(images: int = 12, per: int = 3, rejected: int = 2) -> Benchmark:
    narrow, wide = picture(), picture(9)
    samples = [
        Sample(
            id=f"i{i}-q{q}",
            image_id=f"i{i}",
            image=ImageSource(f"i{i}.png", lambda i=i: wide if i % 3 == 0 else narrow),
            question="?",
            prompt="? " * (1 + (i + q) % 5),
            domain="medical",
            group="CT",
            question_type="closed",
        )
        for i in range(images)
        for q in range(1 + (i + per) % per)
    ]
    bad = [Rejected(f"bad{i}", "malformed_row: no image") for i in range(rejected)]
    return Benchmark(
        name="toy",
        split="all",
        protocol="default",
        domain="medical",
        samples=samples,
        rejected=bad,
        digest=digest(samples, bad),
        decoding=Decoding(),
        rule="strict",
        notes=(),
    )


def opened(root: Path, rows: Benchmark) -> Store:
    """The store of a run of these rows."""
    folder = Store(root)
    folder.open("refine", {"rows": rows.rows}, [])
    return folder


def ids(rows: Benchmark) -> set[str]:
    return {one.id for one in (*rows.samples, *rows.rejected)}


def table(root: Path) -> pl.DataFrame:
    """Every row of every part, as it lies there, sorted; a row written twice is there twice."""
    frames = [read_part(path) for path in sorted((root / "parts").glob("*.parquet"))]
    rows = pl.concat(frames)
    return rows.sort([name for name in ("sample_id", "method") if name in rows.columns])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Killer:
    """Kills this process when a point has been passed for the n-th time, or holds it there for signals (see hold)."""

    def __init__(self, point: str | None, n: int, held: Path | None = None, signals: int = 1) -> None:
        self.point, self.left, self.held, self.signals = point, n, held, signals

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0 and self.held:
                hold(self.held, self.signals)
            elif self.left == 0:
                die()


def hold(mark: Path, signals: int) -> None:
    """Go on after so many signals. The files `mark`.0, `mark`.1, ... say how many have come and been handled."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for count in range(signals):
        mark.with_suffix(f".{count}").touch()
        os.read(read, 1)


class Os:
    """The store's `os`, with a point before and after what it does."""

    def __init__(self, at: Callable[[str], None]) -> None:
        self.at = at

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, handle: int) -> None:
        self.at("fsync")
        os.fsync(handle)

    def replace(self, old: Any, new: Any) -> None:
        self.at("replace")
        os.replace(old, new)
        self.at("replaced")


class Handle:
    """A file that does as the one below it, until a subclass says otherwise."""

    handle: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.handle, name)


class Half(Handle):
    """A file whose write can be cut in the middle."""

    def __init__(self, handle: Any, at: Callable[[str], None]) -> None:
        self.handle, self.at = handle, at

    def write(self, data: bytes) -> None:
        self.handle.write(data[: len(data) // 2])
        self.handle.flush()
        self.at("half")
        self.handle.write(data[len(data) // 2 :])


def seams(at: Callable[[str], None]) -> None:
    """Put the points into what this process writes files with."""

    def opened(path: Path, mode: str) -> Half:
        at("open")
        return Half(open(path, mode), at)

    def touched(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.parent.name != "done":
            return TOUCH(self, *args, **kwargs)
        at("touch")
        TOUCH(self, *args, **kwargs)
        at("touched")

    files.os, files.open, Path.touch = Os(at), opened, touched  # type: ignore[attr-defined,assignment,method-assign]


def work(
    root: Path,
    shard: str = "1/1",
    *,
    point: str | None = None,
    n: int = 1,
    held: Path | None = None,
    signals: int = 1,
    part: int = 6,
    images: int = 12,
    nap: float = 0.0,
    batch: int = 1,
    deadly: Sequence[str] = (),
    trials: bool = True,
    trial_of: trial.Trial | None = None,
    beside: bool = False,
    fresh: bool = False,
    merge: int = 256,
) -> int:
    """One run, to be called in a child. `point`, `n`: where it kills itself, or where it is held for `signals` if
    `held` is given. `fresh`: trials are processes that import everything anew. The exit code of the run."""
    at = Killer(point, n, held, signals)

    seams(at)
    runner.PART_SAMPLES, runner.PART_LEAST, runner.PARTS = part, 0.0, merge
    rows, task = benchmark(images), Answers(at=at, nap=nap, deadly=deadly, beside=beside)
    folder = Store(root)
    again = (str(root), tuple(deadly), images, beside)
    engine = "from vgtool.runs import imports; imports.engine()"  # as every command does
    command = [sys.executable, "-c", f"{engine}; import faults; faults.tried(*{again!r})"]
    if not fresh:
        children.watch = partial(_forked, again)  # type: ignore[assignment]
    if trials:
        share = deal.mine(rows.samples, rows.rejected, Shard.parse(shard))
        trial.hold(folder, share.groups, lambda text: None, command)
    folder.open(task.kind, task.identity() | {"rows": rows.rows}, [])
    toy: Any = Toy(at, forms=beside)
    return runner.run(task, toy, rows, folder, shard=Shard.parse(shard), images=batch, trial=trial_of).exit  # type: ignore[arg-type]


def tried(root: str, deadly: Sequence[str], images: int, beside: bool) -> None:
    """What the child of a trial runs."""
    sys.exit(work(Path(root), deadly=deadly, images=images, beside=beside, trial_of=trial.on_trial()))


def _forked(again: tuple[Any, ...], words: Sequence[str], env: dict[str, str], out: int) -> tuple[BaseProcess, int]:
    """A trial in place of `words`: a fork of this process; a server of its own would import everything again."""
    child: BaseProcess = multiprocessing.get_context("fork").Process(target=_trial, args=(again, env))
    child.start()
    return child, end(child)


def _trial(again: tuple[Any, ...], env: dict[str, str]) -> None:
    os.environ.update(env)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    tried(*again)


def _main(root: Path, settings: dict[str, Any]) -> None:
    """`said`: file for the sentence that ends the child, as the command would print it."""
    sys.stderr, said = open(os.devnull, "w"), settings.pop("said", None)  # noqa: SIM115
    try:
        sys.exit(work(root, **settings))
    except VgError as error:
        if said:
            said.write_text(str(error))
        sys.exit(error.exit_code)


def start(root: Path, **settings: Any) -> BaseProcess:
    """A child at work."""
    child = SERVER.Process(target=_main, args=(root, settings))
    child.start()
    return child


def run(root: Path, **settings: Any) -> int:
    """A child's exit code; negative for a signal."""
    return end(start(root, **settings))
