"""Which images, when, to where: pictures are opened ahead, images of one form run together, rows go to parts.

A bad sample costs its own rows. A signal finishes the images under way, writes what there is and stops; the same
command picks up from there.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from vgtool.benchmarks.load import Benchmark
from vgtool.errors import Exit, SampleError
from vgtool.methods.task import Row, Task
from vgtool.models.adapter import Adapter
from vgtool.records import Sample
from vgtool.runs import deal
from vgtool.runs.ahead import AHEAD, Ready, batches, prepared
from vgtool.runs.attempt import Limits, attempt
from vgtool.runs.compact import compact
from vgtool.runs.growth import turns
from vgtool.runs.notes import forget, image_key, key
from vgtool.runs.progress import Report
from vgtool.runs.store import Shard, Store
from vgtool.runs.trial import Trial

PART_SAMPLES = 64
PART_LEAST = 1.0
PART_SECONDS = 60.0
"""A part is written at the end of a batch, when it holds this many samples and its first row is a second old (a small
model fills dozens of them in that), or when that row is a minute old: what a kill can lose. Parts hold whole batches,
so that what is left after a kill falls into the batches of an undisturbed run."""
PARTS = 256
"""After so many parts the shard's small ones are merged, as when it is done: a resume reads them all."""
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
    first: dict[str, str] = field(default_factory=dict)
    """Failure code -> the first sample that failed so, and its error."""
    warned: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    """Why samples that ran lack a number that was asked for -> samples."""
    stopped: int | None = None
    """The signal that stopped it."""
    limits: Limits = field(default_factory=Limits)

    def lost(self, name: str, error: str) -> None:
        """Count a sample that failed, and keep the first of each code."""
        code = error.split(":")[0]
        self.failed[code] += 1
        self.first.setdefault(code, f"'{name}': {error}")

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
    trial: Trial | None = None,
    outcome: Outcome | None = None,
    share: deal.Share | None = None,
    held: Mapping[str, Mapping[str, str]] | None = None,
) -> Outcome:
    """Run a task over a benchmark's shard. `images`: most images in one forward pass; `batch`: most questions of one;
    None lets packs decide. `trial`: only its images, one sample at a time, for a parent that watches.
    `share` and `held`: the shard's rows, and what the store holds of them, where they are known already."""
    outcome = outcome or Outcome()
    share = share or deal.mine(benchmark.samples, benchmark.rejected, shard)
    groups, lost, ids = share.groups, share.rejected, share.ids
    if trial is not None:
        groups, lost = trial.left(groups, store), []
        images, ids, held = 1, {name for group in groups for name in group.ids}, None
    held, condemned = store.held(ids, say) if held is None else held, store.condemned()
    lacking = turns(task.labels, held, ids)
    open_ids = {name for names in lacking.values() for name in names}
    outcome.total, outcome.skipped = len(ids), len(ids) - len(open_ids)
    for name, each in held.items():
        if name not in open_ids and (error := next(filter(None, each.values()), "")):
            outcome.lost(name, error)
    if open_ids and trial is None:
        store.unmark(shard)
    noted = {note.image for note in store.under_way()}
    with signals(outcome), _Pending(task, store, shard, report, outcome, 1 if trial else PART_SAMPLES) as pending:
        for labels, names in lacking.items():  # one turn, but where methods were added since some samples ran
            part = task if labels == task.labels else task.only(labels)
            dead = [one for one in _chosen(groups, names) if key(one.id) in condemned] if condemned else []
            alive = names - {sample.id for sample in dead}
            left = (some for group in groups if (some := list(_chosen([group], alive))))
            if trial is None:
                pending.take([row for one in lost if one.id in names for row in part.failed(one, one.reason)])
                pending.take([r for s in dead for r in part.failed(s, f"kills_process: {condemned[key(s.id)]}")])
            for together in _gathered(adapter, store, left, images, trial is not None, outcome):
                rows = _rows(part, together, batch, outcome.limits)
                for ended in together:
                    forget(ended.note)
                if trial is None or trial.keeps(together[0].samples, store):
                    pending.take(rows)
                for ended in together:
                    if trial is None and image_key(ended.samples) in noted:
                        store.settle(image_key(ended.samples))
    if outcome.stopped is None and trial is None:
        _end(store, shard, outcome, say)
    elif outcome.stopped is None and trial is not None:
        trial.end(store)
    return outcome


def _end(store: Store, shard: Shard, outcome: Outcome, say: Callable[[str], None]) -> None:
    """Merge the shard's small parts, then mark it as done; a signal that comes meanwhile leaves both to a rerun."""
    with signals(outcome):
        try:
            compact(store.root, shard, lambda: outcome.stopped is not None)
        except FileNotFoundError:  # read by a compaction beside this one; where the folder is gone, `mark` says so
            pass
        except OSError as error:
            say(f"Small parts stay as they are ({error.strerror or error}): no row is missing.")
    if outcome.stopped is None:
        store.mark(shard)


def _chosen(groups: Iterable[deal.Group], names: Set[str]) -> Iterator[Sample]:
    """The samples of these ids."""
    for group in groups:
        if not names.isdisjoint(group.ids):
            yield from (sample for sample in group if sample.id in names)


def _gathered(
    adapter: Adapter, store: Store, left: Iterable[Sequence[Sample]], images: int, single: bool, outcome: Outcome
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
        """All rows of a batch, each sample's together."""
        for _, some in groupby(rows, key=lambda row: row["sample_id"]):
            self._count(list(some))
        if self.rows:
            age = time.monotonic() - self.oldest
            if age >= PART_SECONDS or (self.samples >= self.most and (age >= PART_LEAST or self.most == 1)):
                self.flush()
        if rows:
            self.report(self.outcome.done, self.outcome.failed.total(), self.outcome.skipped, self.outcome.total)

    def _count(self, rows: list[Row]) -> None:
        """All rows of one sample."""
        if not self.rows:
            self.oldest = time.monotonic()
        self.rows += rows
        self.samples += 1
        if errors := [row["error"] for row in rows if row.get("error")]:
            self.outcome.lost(rows[0]["sample_id"], errors[-1])
        self.outcome.warned += sum(bool(row.get("warning")) for row in rows)
        self.outcome.lacking.update(row["unmeasured"].split(":")[0] for row in rows if row.get("unmeasured"))
        self.outcome.done += 1

    def flush(self) -> None:
        """Hand a part to the writer; what the one before could not write is raised here."""
        self.written()
        if self.rows:
            self.writing = self.writer.submit(self._write, self.number, self.rows)
            self.rows, self.samples, self.number = [], 0, self.number + 1
        if self.most == 1:  # a trial: the next sample may end the process
            self.written()

    def _write(self, number: int, rows: Sequence[Row]) -> None:
        self.store.write(self.shard, number, rows, self.task.schema)
        if number % PARTS == PARTS - 1:
            with suppress(OSError):  # a disk without room for a larger part: the next small one may still fit
                compact(self.store.root, self.shard)

    def written(self) -> None:
        """Wait for the part that is being written."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()


# ---- signals -----------------------------------------------------------------------------------------------------


@contextmanager
def signals(outcome: Outcome) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGUSR1 stop after the batch under way; a second one stops at once.

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
