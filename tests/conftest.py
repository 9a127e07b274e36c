"""The registry's checkpoints, written once and seen as a cache by one file at a time; the embedded model, per file.

What needs torch is imported where it is made: the process that only hands out tests to others needs none.
"""

import gc
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cache
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    import polars as pl

    from tests.library import Library
    from tests.native import Families
    from vgtool.attention.sharing import Sessions
    from vgtool.methods.task import ImageGroup


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> "Library":
    from tests.library import Library

    return Library(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def library(shelf: "Library") -> "Iterator[Library]":
    import huggingface_hub.constants

    patch = pytest.MonkeyPatch()
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(shelf.cache))
    yield shelf
    patch.undo()


@pytest.fixture(scope="session")
def relatives(tmp_path_factory: pytest.TempPathFactory) -> "Families":
    from tests.native import Families

    return Families(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def family(relatives: "Families") -> "Iterator[Families]":
    """Checkpoints that the adapter native reads, with a geometry cache of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(relatives.root / "cache"))
        yield relatives


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> "pl.DataFrame":
    """The table of a run in small (faults.py) that nothing disturbed."""
    import faults

    root = tmp_path_factory.mktemp("undisturbed") / "run"
    assert faults.run(root) == 3, "the benchmark has two unusable rows"
    rows, wanted = faults.table(root), faults.ids(faults.benchmark())
    assert set(rows["sample_id"]) == wanted and rows.height == 2 * len(wanted)
    return rows


@pytest.fixture(scope="module")
def opened() -> "Sessions":
    """The embedded model, float32 on the CPU."""
    from vgtool.attention.sharing import sessions
    from vgtool.models.load import load, resolve

    spec, source = resolve("phantom-vlm")
    return sessions(load(spec, source=source, dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def groups(opened: "Sessions") -> "list[ImageGroup]":
    """The first three pictures of the embedded benchmark: square, wide and tall ones among them."""
    from tests.embedded import shown

    out = shown(opened.adapter, 20)
    assert len({(g.images[0].width > g.images[0].height) - (g.images[0].width < g.images[0].height) for g in out}) > 1
    return out


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What tests import stays to the end: to look through it for garbage again and again takes a tenth of all time."""
    from vgtool.garbage import uncollected

    with uncollected():
        try:
            return (yield)
        finally:
            gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines: what was not tested here, and how to have it."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.getreports("skipped"))  # type: ignore[index]
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"not tested: {count} x {reason.removeprefix('Skipped: ')}")


@pytest.fixture
def loads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's commands share what the first of them loads."""
    from vgtool.runs import launch

    monkeypatch.setattr(launch, "load", cache(launch.load))


@pytest.fixture
def rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's resize as it was before 13, for pipelines that are referees: rows, then columns. Pillow 13 takes columns
    first where that is less work."""
    resize = Image.Image.resize

    def older(image: Image.Image, size: tuple[int, int], resample: int | None = None, **others: object) -> Image.Image:
        first = resize(image, (size[0], image.height), resample, **others)  # type: ignore[arg-type]
        return resize(first, size, resample, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", older)
