"""The sample browser in a real Chromium: what shows through the heat, addresses, search, order, saving and printing."""

import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from pypdf import PdfReader
from test_report import Row, build, count, own_benchmark, pair, pixel, probed, put, refined, settle, show, store, window

from vgtool.reporting.samples import CAP, Pictures

pytestmark = pytest.mark.browser
__all__ = ["window"]
GREY = [107, 107, 107]


def first(window: Browser) -> str:
    return str(window.js("return document.getElementById('question').textContent"))


def text(window: Browser, name: str) -> str:
    return str(window.js("return document.getElementById(arguments[0]).textContent", name))


def clear(i: int, general: float = 1.0) -> Row:
    """Nothing but token 6 (second row, third column) is looked at."""
    row = probed(i)
    tokens = np.zeros((3, 16), np.float32)
    tokens[:, 6] = 1.0
    below = np.ones((3, 16), np.float32)
    below[:, 6] = general
    return row | {"attention": tokens.ravel(), "general_attention": below.ravel()}


def test_what_is_not_looked_at_is_clear_and_keeps_the_scans_colours(tmp_path: Path, window: Browser) -> None:
    data = own_benchmark(tmp_path / "data", 2)
    names = {"benchmark": str(data), "split": "all"}
    run = store(tmp_path / "p", "probe", [clear(i) for i in range(2)], **names)
    show(window, build([run], tmp_path / "out", pictures=Pictures()))
    put(window, "opacity", "100")
    window.js("document.getElementById('boxes').click()")
    assert pixel(window, 10, 40) == [255, 0, 0] and pixel(window, 90, 40) == [0, 0, 255], "the scan's own red and blue"
    assert pixel(window, 62, 12) == [252, 255, 164], "the one token"
    put(window, "style", "off")
    assert pixel(window, 62, 12) in ([255, 0, 0], [0, 0, 255])
    for style in ("contour", "cells"):
        put(window, "style", style)
        assert pixel(window, 62, 12) in ([255, 0, 0], [0, 0, 255]) and pixel(window, 10, 40) == [255, 0, 0]
        seen = "return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].join()"
        drawn = window.js(seen)
        put(window, "opacity", "0")
        assert window.js(seen) != drawn, "its lines are there"
        put(window, "opacity", "100")
    assert window.complaints() == []


def test_a_ratio_without_bound_is_capped_and_said_in_plain_numbers(tmp_path: Path, window: Browser) -> None:
    run = store(tmp_path / "p", "probe", [clear(i, 1e-22) for i in range(2)])
    show(window, build([run], tmp_path / "out"))
    said = text(window, "scale-text")
    assert said.startswith(f"0 is clear, {CAP:.0f} is full: times the general prompt's attention.")
    assert said.endswith("1 tokens above 100 are shown as 100.")
    assert (text(window, "scale-low"), text(window, "scale-high")) == ("0", "100")


def test_a_peak_in_the_padding_is_shown_in_the_margin_and_said(tmp_path: Path, window: Browser) -> None:
    rows = [probed(i, hot=(0, 6, 6)) for i in range(2)]  # the first row of tokens lies above the picture
    show(window, build([store(tmp_path / "p", "probe", rows)], tmp_path / "out"))
    assert "strongest token lies in the padding" in text(window, "note")
    assert pixel(window, 12, -12) == [252, 255, 164]
    put(window, "layer", "1")
    assert "padding" not in text(window, "note")


def test_every_sample_has_an_address(tmp_path: Path, window: Browser) -> None:
    page = build(pair(tmp_path), tmp_path / "out")
    show(window, page)
    window.keys("#list", "j")
    settle(window)
    where = window.js("return location.hash")
    assert where.endswith("/s1") and "finding 1?" in first(window)
    window.js("location.hash = arguments[0]", where.replace("/s1", "/s7"))
    settle(window)
    assert "finding 7?" in first(window)
    put(window, "f-text", "finding 3?")
    window.js("location.hash = arguments[0]", where.replace("/s1", "/s9"))
    settle(window)
    assert "finding 9?" in first(window) and count(window) == 40, "a filter that hides it is let go"
    window.js("location.hash = arguments[0]", where.replace("/s1", "/s99"))
    settle(window)
    assert "No sample 's99'" in text(window, "trouble")
    assert window.complaints() == []


def test_the_search_finds_answers_and_references_and_the_list_sorts(tmp_path: Path, window: Browser) -> None:
    runs = pair(tmp_path, 12)
    rare = {"s5": {"answer": "a rare finding"}}
    odd = [row | rare.get(str(row["sample_id"]), {}) for i in range(12) for row in refined(i)]
    runs[1] = store(tmp_path / "odd", "refine", odd)
    show(window, build(runs, tmp_path / "out"))
    put(window, "f-text", "RARE")
    assert count(window) == 1 and "finding 5?" in first(window)
    put(window, "f-text", "")
    ratios = [float(probed(i)["layer_ratio"][0]) for i in range(12)]
    for order, best in (("ratio up", int(np.argmin(ratios))), ("ratio down", int(np.argmax(ratios)))):
        put(window, "f-sort", order)
        window.js("document.getElementById('list').focus()")
        window.keys("#list", "\ue011")
        settle(window)
        assert f"finding {best}?" in first(window), order
    assert window.complaints() == []


def test_two_maps_stand_side_by_side(tmp_path: Path, window: Browser) -> None:
    show(window, build(pair(tmp_path, 4), tmp_path / "out"))
    hidden = "return document.getElementById('canvas-beside').hidden"
    assert window.js(hidden)
    put(window, "beside", "t/1")
    assert not window.js(hidden)
    said = window.js("return document.getElementById('canvas-beside').getAttribute('aria-label')")
    assert "strongest in row 4 of 4, column 4 of 4" in said, "the triage map of vgrefine rises to its last token"
    assert "row 2 of 4, column 4 of 4" in window.js("return canvas.getAttribute('aria-label')")
    assert window.complaints() == []


def test_a_sample_is_copied_as_json_and_drawn_as_svg(tmp_path: Path, window: Browser) -> None:
    show(window, build(pair(tmp_path, 4), tmp_path / "out"))
    window.js("document.getElementById('copy').click()")
    row = json.loads(window.js("return document.getElementById('json').value"))
    assert (row["id"], row["reference"], row["boxes"]) == ("s0", "yes", [[25.0, 0.0, 50.0, 25.0]])
    assert [one["method"] for one in row["answers"]][:2] == ["baseline", "vgrefine"]
    assert row["metrics"][0]["ratio"] == [float(f"{v:.4g}") for v in probed(0)["layer_ratio"]]
    scene = "{width: 100, height: 50, picture: null, boxes: [[25, 0, 50, 25]], mask: null,"
    scene += " heat: {style: 'heat', opacity: 1,"
    scene += " rows: 1, cols: 2, box: [0, 0, 100, 50], values: [0, 255], colours: Array(64).fill([1, 2, 3])}}"
    drawn = window.js(f"return vgPicture.svg({scene}, null)")
    assert drawn.count("<rect") == 5
    assert '<rect x="50" y="0" width="50" height="50" fill="rgb(1,2,3)" opacity="1"/>' in drawn
    assert window.complaints() == []


def test_tables_sort_by_their_numbers_and_fold(tmp_path: Path, window: Browser) -> None:
    show(window, build(pair(tmp_path), tmp_path / "out"))
    script = "const t = document.querySelector('#tables table'); const b = [...t.tHead.rows[0].cells]"
    script += ".find((e) => e.textContent.startsWith('right')).querySelector('button'); b.click();"
    script += "const at = b.parentNode.cellIndex;"
    script += "return [...t.tBodies[0].rows].map((r) => Number(r.cells[at].textContent))"
    found = window.js(script)
    assert found == sorted(found) and len(set(found)) > 1
    assert window.js(script) == sorted(found, reverse=True) and window.complaints() == []


@pytest.mark.parametrize("paper", [(21.0, 29.7), (21.59, 27.94)], ids=["A4", "letter"])
def test_printed_no_cell_is_cut_and_runs_are_unfolded(
    paper: tuple[float, float], tmp_path: Path, window: Browser
) -> None:
    show(window, build(pair(tmp_path), tmp_path / "out"))
    window.js("document.documentElement.dataset.theme = 'dark'")
    wanted = "[...document.querySelectorAll('#tables td, #runs td, #runs th')]"
    cells = window.js(f"return {wanted}.map((e) => e.textContent)")
    pages = PdfReader(io.BytesIO(window.printed(*paper))).pages
    # Compatibility forms undo the ligatures that a PDF is set with.
    squeezed = "".join("".join(unicodedata.normalize("NFKC", page.extract_text()).split()) for page in pages)
    lost = [cell for cell in cells if "".join(cell.split()) not in squeezed]
    assert not lost and "Lookthrough" not in squeezed
