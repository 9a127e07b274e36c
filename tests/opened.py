"""A page of a report in a window, and what is done with it in tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, missing

PIXEL = "return [...document.getElementById('canvas').getContext('2d').getImageData({}, {}, 1, 1).data].slice(0, 3)"
@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if reason := missing():
        assert os.environ.get("VGTOOL_TEST_BROWSER") != "1", f"{reason}, and the gate tests the page"
        pytest.skip(f"{reason} (Debian: chromium chromium-driver)")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def show(window: Browser, page: Path) -> None:
    window.complaints(), window.requests()
    window.open(page)
    window.until("!document.getElementById('browser').hidden && document.getElementById('facts').textContent")
    settle(window)


def settle(window: Browser) -> None:
    """Wait until the page says that nothing it began is under way."""
    window.until("!document.querySelector('[aria-busy]')")


def go(window: Browser, address: str) -> None:
    """Follow a link within the page."""
    window.js("return new Promise((done) => { addEventListener('hashchange', () => done(), { once: true });"
              " location.hash = arguments[0]; })", address)  # fmt: skip
    settle(window)


def painted(window: Browser) -> None:
    """Wait until what the page shows by now is on the screen."""
    window.js("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))")


def put(window: Browser, name: str, value: str) -> None:
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    window.js(script + "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'))", name, value)
    settle(window)


def pixel(window: Browser, x: float, y: float) -> list[int]:
    """The canvas where stored pixel (x, y) of the 100 x 50 image lies; under heat the padding above it is shown too."""
    above = 25 if window.js("return canvas.height === canvas.width") else 0
    return window.js(PIXEL.format(round(x * 7.2), round((y + above) * 7.2)))


def count(window: Browser) -> int:
    return int(window.js("return document.getElementById('count').textContent").split()[0])
