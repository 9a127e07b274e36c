"""A pass that runs out of memory, and images that cannot be prepared, cost as little as they can."""

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import torch
from faults import Answers, Toy, benchmark, opened, table

from vgtool.errors import Exit, SampleError
from vgtool.methods.task import ImageGroup, Row
from vgtool.runs import runner
from vgtool.runs.attempt import Limits, attempt
from vgtool.runs.store import Shard

SMALL = pa.schema([("sample_id", pa.string()), ("error", pa.string())])


def test_out_of_memory_halves_the_pass_remembers_it_and_fails_only_what_never_fits(tmp_path: Path) -> None:
    rows = benchmark(images=6, per=8, rejected=0)
    huge = "i5-q3"
    task = Answers(most=2, huge=[huge])
    outcome = runner.run(task, Toy(), rows, opened(tmp_path / "a", rows), shard=Shard())  # type: ignore[arg-type]
    assert dict(outcome.failed) == {"out_of_memory": 1}
    small = runner.run(Answers(), Toy(), rows, opened(tmp_path / "b", rows), shard=Shard(), batch=2)  # type: ignore[arg-type]
    assert small.exit == Exit.DONE
    there, reference = (table(tmp_path / name).filter(pl.col("sample_id") != huge) for name in "ab")
    assert there.equals(reference)
    limits = [limit for names, limit in task.calls if names[0].startswith(("i2", "i3", "i4"))]
    first = next(i for i, limit in enumerate(limits) if limit == 2)
    assert None not in limits[first:] and max(limits[first:]) == 2, "the size that worked is kept"
    assert outcome.limits.questions[4] <= 2


def test_out_of_memory_is_tried_again_only_after_the_failed_pass_is_let_go() -> None:
    class Big(Answers):
        held: "weakref.ref[Any] | None" = None
        was_free: list[bool] = []  # noqa: RUF012

        def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
            if self.held is not None:
                gc.disable()
                self.was_free.append(self.held() is None)
                return super().run(groups, max_questions)
            tensor = torch.zeros(10)
            self.held = weakref.ref(tensor)
            raise torch.OutOfMemoryError(f"no room beside {tensor.shape}")

    rows = benchmark(images=1, per=8, rejected=0)
    group = ImageGroup(tuple(rows.samples) * 2, (), ())
    task = Big()
    try:
        attempt(task, [group], None, Limits())
    finally:
        gc.enable()
    assert task.was_free == [True]


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_every_way_a_device_says_that_memory_ran_out_is_taken_for_it(said: str) -> None:
    class Full(Answers):
        def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
            raise RuntimeError(said)

    rows = benchmark(images=1, per=1)
    group = ImageGroup(tuple(rows.samples), (), ())
    assert [row["error"].split(":")[0] for row in attempt(Full(), [group], None, Limits())] == ["out_of_memory"] * 2


def test_any_other_error_of_the_device_is_not_taken_for_memory() -> None:
    class Broken(Answers):
        def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> list[Row]:
            raise RuntimeError("CUDA error: device-side assert triggered")

    group = ImageGroup(tuple(benchmark(images=1).samples), (), ())
    with pytest.raises(RuntimeError, match="device-side assert"):
        attempt(Broken(), [group], None, Limits())


def test_an_image_that_cannot_be_prepared_costs_its_own_samples(tmp_path: Path) -> None:
    class Picky(Toy):
        def prepare(self, image: Any) -> Any:
            raise SampleError("grid_mismatch", "12 tokens for a grid of 16")

    rows = benchmark(images=2, per=1, rejected=0)
    outcome = runner.run(Answers(), Picky(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
    assert dict(outcome.failed) == {"grid_mismatch": len(rows.samples)} and not list((tmp_path / "open").iterdir())


@pytest.mark.parametrize(
    "fault", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to")]
)
def test_an_image_without_the_memory_to_be_prepared_costs_its_own_samples(fault: Exception, tmp_path: Path) -> None:
    class Greedy(Toy):
        def prepare(self, image: Any) -> Any:
            raise fault

    rows = benchmark(images=2, per=1, rejected=0)
    outcome = runner.run(Answers(), Greedy(), rows, opened(tmp_path, rows), shard=Shard())  # type: ignore[arg-type]
    assert dict(outcome.failed) == {"image_too_large": len(rows.samples)} and not list((tmp_path / "open").iterdir())
