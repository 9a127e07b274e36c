"""Which images, when, to where: pictures are opened ahead, images of one form run together, rows go to parts.

A bad sample costs its own rows. A signal finishes the images under way, writes what there is and stops; the same
command picks up from there.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from vgtool.benchmarks.load import Benchmark
from vgtool.errors import Exit, SampleError
from vgtool.methods.task import Row, Task
from vgtool.models.adapter import Adapter
from vgtool.records import Sample
from vgtool.runs import plan
from vgtool.runs.ahead import AHEAD, Ready, batches, image_key, prepared
from vgtool.runs.attempt import Limits, attempt
from vgtool.runs.growth import turns
from vgtool.runs.progress import Report
from vgtool.runs.store import Shard, Store, key

PART_SAMPLES = 64
PART_SECONDS = 60.0
"""A part is written when it holds this many samples, or its first row is this old at the end of a batch: what a kill
can lose."""
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
    lacking: Counter[str] = field(default_factory=Counter)
    """Why samples that ran lack a number that was asked for -> samples."""
    stopped: int | None = None
    """The signal that stopped it."""
    limits: Limits = field(default_factory=Limits)

    @property
    def exit(self) -> int:
        if self.stopped is not None:
            return 128 + self.stopped
        return Exit.SOME_FAILED if self.failed else Exit.DONE


def run(
    task: Task,
    adapter: Adapter,
    benchmark: Benchmark,
    store: Store,
    *,
    shard: Shard,
    images: int = 1,
    batch: int | None = None,
    report: Report = lambda done, failed, before, total: None,
    say: Callable[[str], None] = lambda text: None,
    trial: frozenset[str] | None = None,
    outcome: Outcome | None = None,
) -> Outcome:
    """Run a task over a benchmark's shard. `images`: most images in one forward pass; `batch`: most questions of one;
    None lets packs decide. `trial`: only the images of these keys, one sample at a time, for a parent that watches."""
    outcome = outcome or Outcome()
    groups, lost = plan.mine(benchmark.samples, benchmark.rejected, shard)
    if trial is not None:
        groups, lost = [[one] for group in groups if image_key(group) in trial for one in group], []
        images = 1
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
    with signals(outcome), _Pending(task, store, shard, report, outcome, 1 if trial else PART_SAMPLES) as pending:
        for labels, names in lacking.items():  # one turn, but where methods were added since some samples ran
            part = task if labels == task.labels else task.only(labels)
            mine = [some for group in groups if (some := [sample for sample in group if sample.id in names])]
            dead = [sample for group in mine for sample in group if key(sample.id) in condemned]
            left = [some for group in mine if (some := [one for one in group if key(one.id) not in condemned])]
            if trial is None:
                pending.take([row for one in lost if one.id in names for row in part.failed(one, one.reason)])
                pending.take([r for s in dead for r in part.failed(s, f"kills_process: {condemned[key(s.id)]}")])
            for together in _gathered(adapter, store, left, images, trial is not None, outcome):
                rows = _rows(part, together, batch, outcome.limits)
                for ended in together:
                    ended.note.unlink(missing_ok=True)
                pending.take(rows)
                for ended in together:
                    if trial is None and image_key(ended.samples) in noted:
                        store.settle(image_key(ended.samples))
    if outcome.stopped is None:
        for image in trial or ():
            store.settle(image)
        if trial is None:
            store.mark(shard)
    return outcome


def _gathered(
    adapter: Adapter, store: Store, left: Sequence[Sequence[Sample]], images: int, single: bool, outcome: Outcome
) -> Iterator[list[Ready]]:
    """Batches as they get ready, until the run is stopped; then what waits is let go."""

    def stopped() -> bool:
        return outcome.stopped is not None

    ahead = 1 if single else max(AHEAD, 2 * images)
    with (
        closing(prepared(adapter, store, left, ahead, single)) as ready,
        closing(batches(ready, images, stopped)) as gathered,
    ):
        for together in gathered:
            yield together
            if stopped():
                return


def _rows(task: Task, some: Sequence[Ready], batch: int | None, limits: Limits) -> Sequence[Row]:
    """The rows of a batch, or of what could not be prepared."""
    groups = [one.found for one in some if not isinstance(one.found, SampleError)]
    if groups:
        return attempt(task, groups, batch, limits)
    return [row for one in some for sample in one.samples for row in task.failed(sample, str(one.found))]


@dataclass
class _Pending:
    """Rows that no part holds yet. Parts are written in a thread of their own, one after the other."""

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
    writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    writing: Future[None] | None = None

    def __post_init__(self) -> None:
        self.number = sum(1 for _ in (self.store.root / "parts").glob(f"{self.shard.name}-*"))

    def __enter__(self) -> "_Pending":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.flush()
            self.written()
        finally:
            self.writer.shutdown()

    def take(self, rows: Sequence[Row]) -> None:
        """All rows of some samples, each sample's together."""
        for _, some in groupby(rows, key=lambda row: row["sample_id"]):
            self._add(list(some))
        if rows:
            if self.rows and time.monotonic() - self.oldest >= PART_SECONDS:
                self.flush()
            self.report(self.outcome.done, self.outcome.failed.total(), self.outcome.skipped, self.outcome.total)

    def _add(self, rows: list[Row]) -> None:
        """All rows of one sample."""
        if not self.rows:
            self.oldest = time.monotonic()
        self.rows += rows
        self.samples += 1
        codes = [row["error"].split(":")[0] for row in rows if row.get("error")]
        self.outcome.failed.update(codes[-1:])
        self.outcome.warned += sum(bool(row.get("warning")) for row in rows)
        self.outcome.lacking.update(row["unmeasured"].split(":")[0] for row in rows if row.get("unmeasured"))
        self.outcome.done += 1
        if self.samples >= self.most:
            self.flush()

    def flush(self) -> None:
        """Hand a part to the writer; what the one before could not write is raised here."""
        self.written()
        if self.rows:
            self.writing = self.writer.submit(self.store.write, self.shard, self.number, self.rows, self.task.schema)
            self.rows, self.samples, self.number = [], 0, self.number + 1
        if self.most == 1:  # a trial: the next sample may end the process
            self.written()

    def written(self) -> None:
        """Wait for the part that is being written."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()


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
