"""The checkpoints of the registry, written once for all test files, and seen as a cache by one file at a time."""

from collections import Counter
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last lines: what was not tested here, and how to have it."""
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.getreports("skipped"))  # type: ignore[index]
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"not tested: {count} x {reason.removeprefix('Skipped: ')}")
