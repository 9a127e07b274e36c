"""The checkpoints of the registry, written once for all test files, and seen as a cache by one file at a time."""

from collections.abc import Iterator

import huggingface_hub.constants
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
