"""The checkpoints of the registry, written once for all test files, and seen as a cache by one file at a time."""

from collections.abc import Iterator

import huggingface_hub.constants
import polars as pl
import pytest

from tests.library import Library


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def library(shelf: Library) -> Iterator[Library]:
    patch = pytest.MonkeyPatch()
    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(shelf.cache))
    yield shelf
    patch.undo()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The table of a run in small (faults.py) that nothing disturbed."""
    import faults

    root = tmp_path_factory.mktemp("undisturbed") / "run"
    assert faults.run(root) == 3, "the benchmark has two unusable rows"
    rows, wanted = faults.table(root), faults.ids(faults.benchmark())
    assert set(rows["sample_id"]) == wanted and rows.height == 2 * len(wanted)
    return rows
