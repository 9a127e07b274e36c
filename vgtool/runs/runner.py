"""Which images, when, to where: pictures are opened ahead, one image's questions run together, rows go to parts.

A bad sample costs its own rows. Out of memory halves the questions per pass, which later images remember. A signal
finishes the image under way, writes what there is and stops; the same command picks up from there. An image is noted
before it starts and the note is removed after, so that a process that ends without a word leaves a trace (trial.py).
"""

import gc
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vgtool.benchmarks.load import Benchmark
from vgtool.errors import Exit, SampleError
from vgtool.images import open_image
from vgtool.methods.task import ImageGroup, Row, Task
from vgtool.models.adapter import Adapter
from vgtool.records import Sample
from vgtool.runs import plan
from vgtool.runs.growth import turns
from vgtool.runs.progress import Report
from vgtool.runs.store import Shard, Store, key

AHEAD = 4
"""Images opened ahead of the model."""
PART_SAMPLES = 64
PART_SECONDS = 60.0
"""A part is written when it holds this many samples or its first row is this old, at the end of an image: what a kill
can lose."""
NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What torch's CPU allocator, CUDA itself and cuBLAS say for want of memory, not as torch.OutOfMemoryError."""
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""SIGUSR1 is what Slurm's --signal sends ahead of a time limit."""
TOGETHER = 5.0
"""Seconds within which a second SIGTERM or SIGUSR1 is the first once more. Ctrl-C twice always stops at once."""


@dataclass
class Outcome:
    """What a run did."""

    done: int = 0
    skipped: int = 0
    """Samples that an earlier run had finished."""
    total: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Failure code -> samples."""
    warned: int = 0
    stopped: int | None = None
    """The signal that stopped it."""
    halved: dict[int, int] = field(default_factory=dict)
    """Image tokens -> most questions a pass that memory was enough for, where it once was not."""

    @property
    def exit(self) -> int:
        if self.stopped is not None:
            return 128 + self.stopped
        return Exit.SOME_FAILED if self.failed else Exit.DONE


def image_key(group: Sequence[Sample]) -> str:
    """The name of a group's images in notes of what is under way."""
    return key(group[0].image_id, *(source.name for source in group[0].extra_images))


def run(
    task: Task,
    adapter: Adapter,
    benchmark: Benchmark,
    store: Store,
    *,
    shard: Shard,
    batch: int | None = None,
    report: Report = lambda done, failed, before, total: None,
    say: Callable[[str], None] = lambda text: None,
    trial: frozenset[str] | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Run a task over a benchmark's shard. `batch`: most questions in one forward pass; None lets packs decide.
    `trial`: only the images of these keys, one sample at a time, for a parent that watches (trial.py)."""
    outcome = outcome or Outcome()
    groups, lost = plan.mine(benchmark.samples, benchmark.rejected, shard)
    if trial is not None:
        groups, lost = [[one] for group in groups if image_key(group) in trial for one in group], []
    ids = {sample.id for group in groups for sample in group} | {one.id for one in lost}
    held, condemned = store.held(ids, say), store.condemned()
    lacking = turns(task.labels, held, ids)
    open_ids = {name for names in lacking.values() for name in names}
    outcome.total, outcome.skipped = len(ids), len(ids) - len(open_ids)
    errors = [next(filter(None, rows.values()), "") for name, rows in held.items() if name not in open_ids]
    outcome.failed.update(error.split(":")[0] for error in errors if error)
    if open_ids and trial is None:
        store.unmark(shard)
    noted = {note.image for note in store.under_way()}
    pending = _Pending(task, store, shard, report, outcome, 1 if trial else PART_SAMPLES)
    with signals(outcome):
        try:
            for labels, names in lacking.items():  # one turn, but where methods were added since some samples ran
                part = task if labels == task.labels else task.only(labels)
                mine = [some for group in groups if (some := [sample for sample in group if sample.id in names])]
                dead = [sample for group in mine for sample in group if key(sample.id) in condemned]
                left = [some for group in mine if (some := [one for one in group if key(one.id) not in condemned])]
                if trial is None:
                    pending.take([row for one in lost if one.id in names for row in part.failed(one, one.reason)])
                    pending.take([r for s in dead for r in part.failed(s, f"kills_process: {condemned[key(s.id)]}")])
                with closing(_ahead(adapter, store, left, None if trial is None else 1)) as prepared:
                    for group, note, images in prepared:
                        if outcome.stopped is not None:
                            note.unlink(missing_ok=True)
                            break
                        found = images.result()
                        if isinstance(found, SampleError):
                            rows: Sequence[Row] = [row for s in group for row in part.failed(s, str(found))]
                        else:
                            rows = attempt(part, found, batch, outcome.halved)
                        note.unlink(missing_ok=True)
                        pending.take(rows)
                        if trial is None and image_key(group) in noted:
                            store.settle(image_key(group))
        finally:
            pending.flush()
    if outcome.stopped is None:
        for image in trial or ():
            store.settle(image)
        if trial is None:
            store.mark(shard)
    return outcome


@dataclass
class _Pending:
    """Rows that no part holds yet."""

    task: Task
    store: Store
    shard: Shard
    report: Report
    outcome: Outcome
    most: int
    rows: list[Row] = field(default_factory=list)
    samples: int = 0
    oldest: float = 0.0
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = sum(1 for _ in (self.store.root / "parts").glob(f"{self.shard.name}-*"))

    def take(self, rows: Sequence[Row]) -> None:
        """All rows of some samples."""
        if not rows:
            return
        if not self.rows:
            self.oldest = time.monotonic()
        self.rows.extend(rows)
        codes: dict[str, str] = {}
        for row in rows:
            codes.setdefault(row["sample_id"], "")
            if row.get("error"):
                codes[row["sample_id"]] = row["error"].split(":")[0]
            self.outcome.warned += bool(row.get("warning"))
        self.samples += len(codes)
        self.outcome.failed.update(code for code in codes.values() if code)
        self.outcome.done += len(codes)
        self.report(self.outcome.done, self.outcome.failed.total(), self.outcome.skipped, self.outcome.total)
        if self.samples >= self.most or time.monotonic() - self.oldest >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.store.write(self.shard, self.number, self.rows, self.task.schema)
            self.rows, self.samples, self.number = [], 0, self.number + 1


def _prepare(adapter: Adapter, samples: Sequence[Sample]) -> ImageGroup | SampleError:
    try:
        sources = (samples[0].image, *samples[0].extra_images)
        images = tuple(open_image(source, alpha=adapter.alpha) for source in sources)
        return ImageGroup(tuple(samples), images, tuple(adapter.prepare(image) for image in images))
    except SampleError as error:
        return error


def _ahead(
    adapter: Adapter, store: Store, groups: Sequence[Sequence[Sample]], most: int | None = None
) -> Generator[tuple[Sequence[Sample], Path, Future[ImageGroup | SampleError]], None, None]:
    """Groups, the note that each is under way, and its images as they get ready; AHEAD of them at work in threads.
    `most`: so many at a time, each noted by its first sample alone."""
    with ThreadPoolExecutor(2) as threads:
        waiting: list[tuple[Sequence[Sample], Path, Future[ImageGroup | SampleError]]] = []
        left = iter(groups)
        try:
            while True:
                while len(waiting) < (most or AHEAD) and (group := next(left, None)) is not None:
                    note = store.begin(image_key(group), key(group[0].id) if most else "all")
                    waiting.append((group, note, threads.submit(_prepare, adapter, group)))
                if not waiting:
                    return
                yield waiting.pop(0)
        finally:
            for _, note, future in waiting:
                future.cancel()
                note.unlink(missing_ok=True)


# ---- memory ------------------------------------------------------------------------------------------------------


def attempt(task: Task, group: ImageGroup, most: int | None, halved: dict[int, int]) -> Sequence[Row]:
    """The rows of a group, with fewer questions a pass for as long as memory runs out; `halved` remembers how few, by
    image tokens. When one question a pass is too many, each sample is tried by itself and only those too big fail."""
    tokens = sum(vision.tokens for vision in group.visions)
    known = [limit for size, limit in halved.items() if size <= tokens]
    most = min([*known, *([] if most is None else [most])], default=None)
    while True:
        rows = _rows(task, group, most)
        if rows is not None:
            return rows
        _free()
        if most == 1 or len(group.samples) == 1:
            break
        most = (min(most or len(group.samples), len(group.samples)) + 1) // 2
        halved[tokens] = most
    if len(group.samples) == 1:
        reason = "out_of_memory: one question on this image does not fit the device"
        return task.failed(group.samples[0], reason)
    singles = [replace(group, samples=(sample,)) for sample in group.samples]
    return [row for single in singles for row in attempt(task, single, 1, halved)]


def _rows(task: Task, group: ImageGroup, most: int | None) -> Sequence[Row] | None:
    """The rows, or None when memory ran out: the error and the tensors its traceback holds are gone by then."""
    try:
        return task.run(group, most)
    except SampleError as error:
        return [row for sample in group.samples for row in task.failed(sample, str(error))]
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_MEMORY):
            raise  # any other error of a device leaves it unusable: the process ends, and a rerun goes on
        return None


def _free() -> None:
    gc.collect()  # what a cycle of references still holds of the failed pass
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# ---- signals -----------------------------------------------------------------------------------------------------


@contextmanager
def signals(outcome: Outcome) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGUSR1 stop after the image under way; a second one stops at once.

    What reaches this process twice, directly and through whoever started it, is one: schedulers do that.
    """
    since = 0.0

    def stop(number: int, frame: Any) -> None:
        nonlocal since
        if outcome.stopped is None:
            outcome.stopped, since = number, time.monotonic()
        elif number == signal.SIGINT or time.monotonic() - since > TOGETHER:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
