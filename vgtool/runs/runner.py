"""Which images, when, to where: pictures are opened ahead, one image's questions run together, rows go to parts.

A bad sample costs its own rows. Out of memory halves the questions per pack and tries again. An interrupt finishes the
image under way, writes what there is and stops; the same command picks up from there.
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from vgtool.benchmarks.load import Benchmark
from vgtool.errors import Exit, SampleError
from vgtool.images import open_image
from vgtool.methods.task import ImageGroup, Row, Task
from vgtool.models.adapter import Adapter
from vgtool.records import Sample
from vgtool.runs.store import Shard, Store

AHEAD = 4
"""Images opened ahead of the model."""
PART_ROWS = 500
"""Rows a part holds at least, but for a shard's last: what a kill can lose is less than this."""


@dataclass
class Outcome:
    """What a run did."""

    done: int = 0
    skipped: int = 0
    """Samples that an earlier run had finished."""
    failed: Counter[str] = field(default_factory=Counter)
    """Failure code -> samples."""
    warned: int = 0
    stopped: int | None = None
    """The signal that stopped it."""

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
    batch: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Run a task over a benchmark's shard. `batch`: most questions in one forward pass; None lets packs decide."""
    outcome, number = Outcome(), len(list((store.root / "parts").glob(f"{shard.name}-*.parquet")))
    finished = store.finished(task.rows_per_sample)
    groups = _groups(benchmark.samples)[shard.index - 1 :: shard.count]
    lost = [one for one in benchmark.rejected[shard.index - 1 :: shard.count] if one.id not in finished]
    total = sum(len(group) for group in groups) + len(lost)
    open_groups = [left for group in groups if (left := [s for s in group if s.id not in finished])]
    outcome.skipped = total - sum(len(group) for group in open_groups) - len(lost)
    pending: list[Row] = []

    def flush() -> None:
        nonlocal number
        if pending:
            store.write(shard, number, pending, task.schema)
            number += 1
            pending.clear()

    def take(rows: Sequence[Row]) -> None:
        pending.extend(rows)
        codes: dict[str, str] = {}
        for row in rows:
            codes.setdefault(row["sample_id"], "")
            if row.get("error"):
                codes[row["sample_id"]] = row["error"].split(":")[0]
            outcome.warned += bool(row.get("warning"))
        outcome.failed.update(code for code in codes.values() if code)
        outcome.done += len(codes)
        progress(outcome.done + outcome.skipped, total)
        if len(pending) >= PART_ROWS:
            flush()

    with _signals(outcome):
        take([row for one in lost for row in task.failed(one, one.reason)])
        try:
            for group, prepared in _ahead(adapter, open_groups):
                if outcome.stopped is not None:
                    break
                if isinstance(prepared, SampleError):
                    take([row for sample in group for row in task.failed(sample, str(prepared))])
                else:
                    take(_attempt(task, prepared, batch))
        finally:
            flush()
    if outcome.stopped is None:
        store.mark(shard)
    return outcome


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples that show the same images, in the order of their first question."""
    groups: dict[Any, list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.image_id, tuple(s.name for s in sample.extra_images)), []).append(sample)
    return list(groups.values())


def _prepare(adapter: Adapter, samples: Sequence[Sample]) -> ImageGroup | SampleError:
    try:
        images = tuple(open_image(source) for source in (samples[0].image, *samples[0].extra_images))
        return ImageGroup(tuple(samples), images, tuple(adapter.prepare(image) for image in images))
    except SampleError as error:
        return error


def _ahead(
    adapter: Adapter, groups: Sequence[Sequence[Sample]]
) -> Iterator[tuple[Sequence[Sample], ImageGroup | SampleError]]:
    """Groups with their images prepared, AHEAD of them at work in threads."""
    with ThreadPoolExecutor(2) as threads:
        waiting: list[tuple[Sequence[Sample], Future[ImageGroup | SampleError]]] = []
        left = iter(groups)
        try:
            while True:
                while len(waiting) < AHEAD and (group := next(left, None)) is not None:
                    waiting.append((group, threads.submit(_prepare, adapter, group)))
                if not waiting:
                    return
                group, future = waiting.pop(0)
                yield group, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _attempt(task: Task, group: ImageGroup, most: int | None) -> Sequence[Row]:
    """The rows of a group, with fewer questions a pass for as long as memory runs out."""
    while True:
        try:
            return task.run(group, most)
        except SampleError as error:
            return [row for sample in group.samples for row in task.failed(sample, str(error))]
        except torch.OutOfMemoryError:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if most == 1:
                reason = "out_of_memory: one question on this image does not fit the device"
                return [row for sample in group.samples for row in task.failed(sample, reason)]
            most = max(1, min(most or len(group.samples), len(group.samples)) // 2)


@contextmanager
def _signals(outcome: Outcome) -> Iterator[None]:
    """SIGINT and SIGTERM stop after the image under way; a second one stops at once."""

    def stop(number: int, frame: Any) -> None:
        if outcome.stopped is not None:
            raise KeyboardInterrupt
        outcome.stopped = number

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
