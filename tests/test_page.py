"""The page as a whole in a real Chromium: widths, themes, tables, printing, hostile text."""

import csv
import io
import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from opened import painted, settle, show, window
from pypdf import PageObject, PdfReader
from reports import NASTY, WITNESSES, build, nasty, own_benchmark, pair, plain, probed, refined, store, witnessed

from vgtool.reporting.album import Pictures

pytestmark = pytest.mark.browser
__all__ = ["window"]


THEMES = ("light", "dark")
UNREADABLE = (Path(__file__).parent / "contrast.js").read_text()
"""Texts whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3)."""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two probe runs, one with witnesses, and two refine runs of one model, with pictures; a model's name is long."""
    root = tmp_path_factory.mktemp("page")
    names = {"benchmark": str(own_benchmark(root / "data", 40)), "split": "all", "model": "a-long-name-of-a-7b-model"}
    runs = [*pair(root / "a", **names, dtype="float32"), *pair(root / "b", **names, dtype="bfloat16")]
    asked = [probed(i) | witnessed(i) for i in range(40)]
    runs[0] = store(root / "asked", "probe", asked, **names, dtype="float32", **WITNESSES)
    return build(runs, root / "out", pictures=Pictures())


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_at_every_width_and_in_both_themes_nothing_runs_over_and_every_text_is_readable(
    width: int, theme: str, page: Path, window: Browser
) -> None:
    """VGTOOL_SCREENSHOTS=DIR keeps the pictures, to be looked at."""
    window.resize(width)
    show(window, page)
    window.js("document.documentElement.dataset.theme = arguments[0]", theme)
    inside = "!e.closest('.scroll, .skip, #rows bdi')"  # a list's line that is too long ends in an ellipsis
    past = f"[...document.querySelectorAll('body *')].filter((e) => {inside}"
    past += " && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((e) => e.outerHTML)"
    assert window.js("return innerWidth") == width and window.js(f"return {past}") == []
    assert window.js("return document.documentElement.scrollWidth <= innerWidth")
    assert window.js(UNREADABLE) == []
    if "VGTOOL_SCREENSHOTS" in os.environ:
        kept = Path(os.environ["VGTOOL_SCREENSHOTS"]) / "page"
        kept.mkdir(parents=True, exist_ok=True)
        for part in ("summary", "samples", "figures", "tables"):
            window.js("document.getElementById(arguments[0]).scrollIntoView()", part)
            painted(window)
            window.screenshot(kept / f"{part}-{width}-{theme}.png")
    assert window.complaints() == []


def test_figures_use_a_wide_page_and_columns_beyond_a_phones_edge_are_counted(page: Path, window: Browser) -> None:
    window.resize(1400)
    show(window, page)
    share = "document.querySelector('figure:not(.column) img').clientWidth / document.querySelector('main').clientWidth"
    assert window.js(f"return {share}") > 0.95
    window.resize(390)
    assert window.js(f"return {share}") > 0.95
    table = "document.querySelector('#tables .scroll')"
    beyond = f"[...{table}.querySelectorAll('thead th')].filter((e) => e.getBoundingClientRect().right > innerWidth)"
    hint = f"{table}.parentElement.querySelector('.more').textContent"
    assert window.js(f"return {beyond}.length") > 3
    window.until(f"Math.abs(parseInt({hint}) - {beyond}.length) <= 1")
    window.js(f"{table}.scrollLeft = 10000")
    window.until(f"{hint} === ''")


def test_two_runs_of_one_model_are_told_apart_everywhere(page: Path, window: Browser) -> None:
    window.resize(1400)
    show(window, page)
    texts = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())"
    runs = window.js(texts, "#summary tbody td:is(:nth-child(2), :nth-child(3))")
    assert len(set(zip(runs[::2], runs[1::2], strict=True))) == 4
    for where in ("#runs summary", "#tables h3", "#f-method option", "figcaption"):
        found = window.js(texts, where)
        assert found and len(set(found)) == len(found), where
    methods = window.js(texts, "#answers th")
    assert len(set(methods)) == len(methods) == 10, "both runs' answers"
    maps = window.js(texts, "#heat option")
    assert len(set(maps)) == len(maps) and maps[0].startswith("probe (dtype ") and "bfloat16" in "".join(maps)


def test_hostile_text_shows_as_text_in_the_browser(tmp_path: Path, window: Browser) -> None:
    show(window, build(nasty(tmp_path), tmp_path / "out"))
    assert window.js("return document.getElementById('question').textContent") == NASTY
    shown = "return document.getElementById(arguments[0]).textContent"
    for where in ("answers", "choices", "prompt", "facts", "f-model", "f-method", "f-group", "rows", "summary", "runs"):
        assert NASTY in window.js(shown, where), where
    facts = window.js("return [...document.querySelectorAll('#facts bdi')].map((e) => e.textContent)")
    assert f"image {NASTY}" in facts and facts[-1] == "100 x 50 px", "what turns the writing round turns itself alone"
    window.js("document.getElementById('copy').click()")
    settle(window)
    assert json.loads(window.js("return document.getElementById('json').value"))["prompt"] == NASTY
    window.js("vgPicture.save = (blob, name) => { window.saved = [name, blob.text()]; }")
    window.js("document.getElementById('save-svg').click()")
    settle(window)
    name, drawn = window.js("return Promise.all(window.saved)")
    assert "pwned" not in drawn and not set("/<>&\"'") & set(name)
    assert window.js("return window.pwned === undefined && !document.querySelector('img:not([src^=data])')")
    assert window.complaints() == []


def test_tables_fold_sort_by_their_numbers_and_are_saved_as_they_stand(tmp_path: Path, window: Browser) -> None:
    show(window, plain(pair(tmp_path), tmp_path / "out"))
    script = "const t = document.querySelector('#tables table'); const b = [...t.tHead.rows[0].cells]"
    script += ".find((e) => e.textContent.startsWith('right')).querySelector('button'); b.click();"
    script += "const at = b.parentNode.cellIndex;"
    script += "return [...t.tBodies[0].rows].map((r) => Number(r.cells[at].textContent))"
    found = window.js(script)
    assert found == sorted(found) and len(set(found)) > 1
    assert window.js(script) == sorted(found, reverse=True)
    window.js("vgPicture.save = (blob, name) => { window.saved = [name, blob.text()]; }")
    window.js("document.querySelector('#tables .csv').click()")
    name, text = window.js("return Promise.all(window.saved)")
    shown = "const t = document.querySelector('#tables table'); return [...t.rows].map((r) => [...r.cells].map((c) =>"
    assert list(csv.reader(text.splitlines())) == window.js(f"{shown} c.textContent))")
    assert name.endswith(".csv") and name.startswith("Accuracy")
    opened = "return [...document.querySelectorAll('#tables details')].filter((e) => e.open).length"
    tables = window.js(opened)
    assert tables == window.js("return document.querySelectorAll('#tables table').length") > 5
    window.js("document.querySelector('#tables summary').click()")
    assert window.js(opened) == tables - 1
    window.js("document.getElementById('fold').click()")
    assert window.js(opened) == 0
    window.js("document.getElementById('fold').click()")
    assert window.js(opened) == tables and window.complaints() == []


def test_a_cell_that_a_spreadsheet_would_run_is_saved_as_text(tmp_path: Path, window: Browser) -> None:
    methods = ["baseline", '=cmd("x")', "+1.5"]
    rows = [refined(i)[0] | {"method": name} for i in range(4) for name in methods]
    show(window, plain([store(tmp_path / "r", "refine", rows, methods=methods)], tmp_path / "out"))
    window.js("vgPicture.save = (blob) => { window.saved = blob.text(); }")
    window.js("document.querySelector('#tables .csv').click()")
    first = [row[0] for row in csv.reader(window.js("return window.saved").splitlines())]
    assert first == ["method", "baseline", '\'=cmd("x")', "+1.5"]


def lines(page: PageObject, **mode: Any) -> list[str]:
    """A page's lines. Compatibility forms undo the ligatures that a PDF is set with."""
    return [line.strip() for line in unicodedata.normalize("NFKC", page.extract_text(**mode)).splitlines()]


@pytest.mark.parametrize("paper", [(21.0, 29.7), (21.59, 27.94)], ids=["A4", "letter"])
def test_printed_no_cell_is_cut_runs_are_unfolded_and_every_page_of_a_table_has_its_head(
    paper: tuple[float, float], tmp_path: Path, window: Browser
) -> None:
    show(window, plain(pair(tmp_path), tmp_path / "out"))
    window.js("document.documentElement.dataset.theme = 'dark'")
    window.js("document.getElementById('fold').click()")
    wanted = "[...document.querySelectorAll('#tables td, #runs td, #runs th')]"
    cells = window.js(f"return {wanted}.map((e) => e.textContent)")
    window.js("const b = document.querySelector('#tables tbody'); b.rows[0].cells[0].textContent = 'long';"
              "for (let i = 0; i < 150; i += 1) b.append(b.rows[0].cloneNode(true));")  # fmt: skip
    window.js("const t = [...document.querySelectorAll('.table')].at(-1);"
              "for (let i = 0; i < 30; i += 1) t.after(t.cloneNode(true));")  # fmt: skip
    printed = PdfReader(io.BytesIO(window.printed(*paper))).pages
    pages = [lines(page) for page in printed]
    squeezed = "".join("".join("".join(page).split()) for page in pages)
    lost = [cell for cell in cells if "".join(cell.split()) not in squeezed]
    assert not lost and "Lookthrough" not in squeezed
    long = [page for page in pages if any(line.startswith("long ") for line in page)]
    assert len(long) > 2 and all("method rows right undecided failed" in page for page in long)
    titles = window.js("return [...document.querySelectorAll('h2, h3, #runs summary')].map((e) => e.textContent)")
    for number, page in enumerate(printed, 1):
        own = [line for line in lines(page, extraction_mode="layout") if line and line != f"{number} of {len(pages)}"]
        assert own, "no page is blank"
        assert not any(title.endswith(own[-1].lstrip("▾▼• ")) for title in titles), "no title parts from its table"
    opened = "return document.querySelectorAll('details[open]').length"
    assert window.js(opened) == 0 and window.complaints() == [], "folded again"


def test_on_paper_no_word_is_broken_nothing_is_dark_and_nothing_runs_over(page: Path, window: Browser) -> None:
    window.resize(703)  # A4 less its margins
    show(window, page)
    window.js("document.documentElement.dataset.theme = 'dark'")
    window.media("print")
    broken = """
    const found = [];
    for (const cell of document.querySelectorAll(".numbers.whole .whole")) {
      const text = (cell.querySelector("button") || cell).firstChild;
      for (const { 0: word, index } of text.data.matchAll(/\\S+/g)) {
        const range = new Range();
        range.setStart(text, index);
        range.setEnd(text, index + word.length);
        if (new Set([...range.getClientRects()].map((one) => one.top)).size > 1) found.push(word);
      }
    }
    return [found, document.querySelectorAll(".numbers.whole").length, document.querySelectorAll(".numbers").length];"""
    found, whole, tables = window.js(broken)
    assert found == [] and whole == tables > 10
    assert window.js("return document.documentElement.scrollWidth <= innerWidth")
    shown = "[document.body, ...document.querySelectorAll('main *')].filter((e) => e.checkVisibility())"
    tones = f"{shown}.map((e) => getComputedStyle(e).backgroundColor)"
    assert set(window.js(f"return {tones}")) <= {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}
    sides = "[...document.querySelectorAll('figure.column')].slice(0, 2).map((e) => e.getBoundingClientRect().top)"
    assert len(set(window.js(f"return {sides}"))) == 1, "two narrow figures share a line"
    kept = "[...document.querySelectorAll('figure, tbody tr')].filter((e) => e.checkVisibility())"
    assert window.js(f"return [...new Set({kept}.map((e) => getComputedStyle(e).breakInside))]") == ["avoid"]
    window.media("")
