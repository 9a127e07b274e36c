"""Which images go through the model together: those of one form, so many, and a bad one by itself."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults import Answers, Toy, benchmark, table
from forked import vgtool
from PIL import Image

from vgtool.benchmarks.load import Benchmark
from vgtool.errors import Exit, SampleError
from vgtool.grounding.geometry import Geometry
from vgtool.models.inputs import Vision
from vgtool.records import Grid, ImageSource
from vgtool.runs import runner
from vgtool.runs.ahead import WINDOW, Ready, batches, prepared
from vgtool.runs.store import Shard, Store


class Following(Toy):
    """An adapter whose grid is the picture's own size."""

    def prepare(self, image: Image.Image) -> Vision:
        width, height = image.size
        return Vision({}, Geometry.squash(width, height, width, height, Grid(height, width)))


def picture(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "PNG")
    return out.getvalue()


def shaped(sizes: list[tuple[int, int] | None]) -> Benchmark:
    """A benchmark of two questions on each picture of these sizes; None is a file that is no picture."""
    rows = benchmark(images=len(sizes), per=1, rejected=0)
    samples = []
    for sample, size in zip(rows.samples, sizes, strict=True):
        data = picture(*size) if size else b"no picture"
        shown = replace(sample, image=ImageSource(f"{sample.image_id}.png", lambda data=data: data))
        samples += [shown, replace(shown, id=f"{sample.image_id}-again")]
    return replace(rows, samples=samples)


def run(root: Path, rows: Benchmark, images: int) -> tuple[Answers, runner.Outcome]:
    task, store = Answers(), Store(root)
    store.open("refine", {"rows": rows.rows}, [])
    adapter: Any = Following()
    return task, runner.run(task, adapter, rows, store, shard=Shard(), images=images)  # type: ignore[arg-type]


WIDE, TALL, SQUARE = (6, 4), (4, 6), (5, 5)


@pytest.mark.parametrize("images", [1, 2, 3, 16])
def test_images_of_one_form_go_together_and_as_many_as_were_asked_for(images: int, tmp_path: Path) -> None:
    sizes: list[tuple[int, int] | None] = [WIDE, TALL, WIDE, SQUARE, WIDE, TALL, WIDE, WIDE, TALL]
    rows = shaped(sizes)
    task, outcome = run(tmp_path / "run", rows, images)
    assert outcome.exit == Exit.DONE
    size = {sample.id: sizes[int(sample.image_id[1:])] for sample in rows.samples}
    shown = [[name.split("-")[0] for name in names] for names, _ in task.calls]
    assert all(len({size[name] for name in names}) == 1 for names, _ in task.calls), "one form a pass"
    assert max(len(set(some)) for some in shown) == min(images, 5)
    assert sorted(name for names, _ in task.calls for name in names) == sorted(size), "each question once"
    counts = {kind: sizes.count(kind) for kind in (WIDE, TALL, SQUARE)}
    assert len(task.calls) == sum(-(-count // images) for count in counts.values()), "and no pass that could be spared"
    run(tmp_path / "alone", rows, 1)
    assert table(tmp_path / "run").equals(table(tmp_path / "alone"))


def test_a_picture_that_cannot_be_opened_costs_its_own_rows_and_waits_for_nobody(tmp_path: Path) -> None:
    rows = shaped([WIDE, None, WIDE, TALL, None, WIDE])
    task, outcome = run(tmp_path / "run", rows, 3)
    found = table(tmp_path / "run")
    lost = set(found.filter(found["error"].is_not_null())["sample_id"])
    assert lost == {sample.id for sample in rows.samples if sample.image_id in ("i1", "i4")}
    assert sum(outcome.failed.values()) == len(lost) == 4
    assert [len(names) for names, _ in task.calls] == [6, 2], "three wide images in one pass, the tall one in another"
    assert not list((tmp_path / "run" / "open").iterdir())


def test_a_form_that_stays_rare_does_not_hold_pictures_back_for_ever() -> None:
    """With every second picture of a form of its own, no more than WINDOW batches' worth wait."""
    waiting, most = 0, 2

    def ready() -> Iterator[Ready]:
        nonlocal waiting
        for at in range(60):
            waiting += 1
            assert waiting <= WINDOW * most + 1
            grid = Grid(1, 1 if at % 2 else 2 + at)
            group: Any = type("Group", (), {"form": grid})
            yield Ready((), Path(f"{at}"), group)

    found = []
    for some in batches(ready(), most, lambda: False):
        waiting -= len(some)
        found += [one.note.name for one in some]
        assert len({one.found.form for one in some if not isinstance(one.found, SampleError)}) == 1
    assert sorted(map(int, found)) == list(range(60))


def test_pictures_are_opened_ahead_and_no_further(tmp_path: Path) -> None:
    store, opened = Store(tmp_path), list[str]()
    store.open("refine", {}, [])
    rows = benchmark(images=12, per=1, rejected=0)

    class Counting(Toy):
        def prepare(self, image: Image.Image) -> Vision:
            opened.append("")
            return super().prepare(image)

    adapter: Any = Counting()
    ready = prepared(adapter, store, [[sample] for sample in rows.samples], 4)
    for taken in range(1, 13):
        one = next(ready)
        assert not isinstance(one.found, SampleError)
        assert len(opened) <= taken + 3, "this one and three more"
        assert len(list((tmp_path / "open").iterdir())) <= 4, "each noted as under way"
        one.note.unlink()
    assert next(ready, None) is None


def test_images_a_pass_are_in_the_runs_record_and_may_change_when_it_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["probe", "--model", "phantom-vlm", "--benchmark", "scenes", "--limit", "20", "--out", out, "--json"]
    for images, made in (("3", 20), ("auto", 20), ("1", 0)):
        done = vgtool(*command, "--images", images)
        assert done.returncode == Exit.DONE, done.stderr
        assert json.loads(done.stdout)["done"] == made
        record = json.loads((out / "run.json").read_text())
        assert record["recorded"]["images"] == 3 and "images" not in record["identity"]
        assert table(out).height == 20
        if images == "3":
            for part in (out / "parts").iterdir():
                part.unlink()
