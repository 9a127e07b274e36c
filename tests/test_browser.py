"""The sample browser in a real Chromium: what shows through the heat, addresses, search, order and saving."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from browser import Browser
from opened import count, go, painted, pixel, put, settle, show, window
from PIL import Image
from reports import Row, lone, own_benchmark, pair, plain, probed, refined, small_pack, store

from vgtool.reporting.album import Pictures
from vgtool.reporting.maps import CAP

pytestmark = pytest.mark.browser
__all__ = ["window"]
CASES = ("empty", "one", "failed", "no-boxes", "no-maps")


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
    show(window, plain([run], tmp_path / "out", pictures=Pictures()))
    put(window, "opacity", "100")
    window.js("document.getElementById('boxes').click()")
    assert pixel(window, 10, 40) == [255, 0, 0] and pixel(window, 90, 40) == [0, 0, 255], "the scan's own red and blue"
    assert pixel(window, 62, 12) == [252, 255, 164], "the one token"
    hidden = "return ['scale', 'scale-text'].map((name) => document.getElementById(name).hidden)"
    assert window.js(hidden) == [False, False]
    put(window, "style", "off")
    assert window.js(hidden) == [True, True], "no scale of what is not shown"
    assert pixel(window, 62, 12) in ([255, 0, 0], [0, 0, 255])
    put(window, "style", "contour")
    assert pixel(window, 62, 0) == [255, 176, 0], "all contours share this edge: the strongest is seen"
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
    show(window, plain([run], tmp_path / "out"))
    said = text(window, "scale-text")
    assert said.startswith(f"0 is clear, {CAP:.0f} is full: times the general prompt's attention.")
    assert said.endswith("1 tokens above 100 are shown as 100.")
    assert (text(window, "scale-low"), text(window, "scale-high")) == ("0", "100")
    bar = "return [...document.getElementById('scale').getContext('2d').getImageData(0, 0, 64, 1).data]"
    shown = window.js(bar)
    assert shown[3] == 0 and shown[-4:] == [252, 255, 164, 255], "from clear to full, as on the picture"


def test_a_triage_map_without_bound_is_capped_too(tmp_path: Path, window: Browser) -> None:
    """Against a general map of nothing a token's triage is 1e10 times its attention; the others stay to be seen."""
    rows = refined(0)
    for row in rows:
        if row["triage"] is not None:
            row["triage"] = np.array([50.0, *[0.0] * 14, 1e9], np.float32)
    show(window, plain([store(tmp_path / "r", "refine", rows)], tmp_path / "out"))
    put(window, "heat", "t/1")
    assert text(window, "scale-text").endswith("1 tokens above 100 are shown as 100.")
    assert (text(window, "scale-low"), text(window, "scale-high")) == ("0", "100")


def test_a_peak_in_the_padding_is_shown_in_the_margin_and_said(tmp_path: Path, window: Browser) -> None:
    rows = [probed(i, hot=(0, 6, 6)) for i in range(2)]  # the first row of tokens lies above the picture
    show(window, plain([store(tmp_path / "p", "probe", rows)], tmp_path / "out"))
    assert "strongest token lies in the padding" in text(window, "note")
    assert pixel(window, 12, -12) == [252, 255, 164]
    put(window, "layer", "1")
    assert "padding" not in text(window, "note")


def test_every_sample_has_an_address(tmp_path: Path, window: Browser) -> None:
    page = plain(pair(tmp_path), tmp_path / "out")
    show(window, page)
    window.keys("#list", "j")
    settle(window)
    where = window.js("return location.hash")
    assert where.endswith("/s1") and "finding 1?" in first(window)
    go(window, where.replace("/s1", "/s7"))
    assert "finding 7?" in first(window)
    put(window, "f-text", "finding 3?")
    go(window, where.replace("/s1", "/s9"))
    assert "finding 9?" in first(window) and count(window) == 40, "a filter that hides it is let go"
    go(window, where.replace("/s1", "/s99"))
    assert "No sample 's99'" in text(window, "trouble")
    assert window.complaints() == []


def test_the_search_finds_answers_and_references_and_the_list_sorts(tmp_path: Path, window: Browser) -> None:
    runs = pair(tmp_path, 12)
    rare = {"s5": {"answer": "a rare finding"}}
    sure = [i * 7 % 12 / 12 for i in range(12)]
    odd = [row | {"confidence": sure[i]} | rare.get(str(row["sample_id"]), {}) for i in range(12) for row in refined(i)]
    for row in odd:
        if row["sample_id"] == "s7" and row["method"] in ("vgrefine", "no-image"):
            row["answer"] = "no"  # two changed answers; no other sample has more than one
    runs[1] = store(tmp_path / "odd", "refine", odd)
    show(window, plain(runs, tmp_path / "out"))
    put(window, "f-text", "RARE")
    assert count(window) == 1 and "finding 5?" in first(window)
    put(window, "f-text", "")
    ratios = [float(probed(i)["layer_ratio"][0]) for i in range(12)]
    ends = {f"{name} {way}": int(end(values)) for name, values in (("ratio", ratios), ("confidence", sure))
            for way, end in (("up", np.argmin), ("down", np.argmax))}  # fmt: skip
    for order, best in {**ends, "change down": 7}.items():
        put(window, "f-sort", order)
        window.js("document.getElementById('list').focus()")
        window.keys("#list", "\ue011")
        settle(window)
        assert f"finding {best}?" in first(window), order
    assert window.complaints() == []


def test_a_sample_shows_the_prompt_as_sent_and_its_options_with_letters(tmp_path: Path, window: Browser) -> None:
    given = {"choices": ["a cyst", "(B) a stone", "neither"], "question_type": "choice"}
    rows = [row | given for i in range(2) for row in refined(i)]
    show(window, plain([store(tmp_path / "r", "refine", rows)], tmp_path / "out"))
    assert text(window, "prompt") == "USER: <image>\nIs there a finding 0? Answer yes or no. ASSISTANT:"
    options = window.js("return [...document.querySelectorAll('#choices li')].map((e) => e.textContent)")
    assert options == ["A. a cyst", "(B) a stone", "C. neither"]
    assert "Reference: yes" in text(window, "choices") and window.complaints() == []


def test_two_maps_stand_side_by_side(tmp_path: Path, window: Browser) -> None:
    show(window, plain(pair(tmp_path, 4), tmp_path / "out"))
    hidden = "return document.getElementById('canvas-beside').hidden"
    assert window.js(hidden)
    put(window, "beside", "t/1")
    assert not window.js(hidden)
    said = window.js("return document.getElementById('canvas-beside').getAttribute('aria-label')")
    assert "strongest in row 4 of 4, column 4 of 4" in said, "the triage map of vgrefine rises to its last token"
    assert "row 2 of 4, column 4 of 4" in window.js("return canvas.getAttribute('aria-label')")
    scale = "0 to 1 times the general prompt's attention."
    assert text(window, "beside-text") == f"Beside it: triage map of vgrefine; {scale}"
    places = "return [...document.querySelectorAll('#pair canvas')].map((e) => e.getBoundingClientRect().toJSON())"
    for width in (390, 800, 1400):
        window.resize(width)
        left, right = window.js(places)
        assert left["top"] == right["top"] and left["right"] < right["left"] < right["right"] < width, width
        assert left["width"] == right["width"] > width / 5
    put(window, "beside", "")
    assert window.js(hidden) and text(window, "beside-text") == "" and window.complaints() == []


def test_two_models_stand_side_by_side_on_the_same_sample(tmp_path: Path, window: Browser) -> None:
    rows = [[probed(i, hot=hot) for i in range(2)] for hot in ((7, 6, 5), (8, 9, 10))]
    runs = [store(tmp_path / name, "probe", own, model=name) for name, own in zip("xy", rows, strict=True)]
    show(window, plain(runs, tmp_path / "out"))
    said = window.js("return [...document.querySelectorAll('#rows > div > span + span')].map((e) => e.textContent)")
    assert [one.split(" · ")[1] for one in said] == ["x", "x", "y", "y"], "the list says whose each is"
    put(window, "beside", "item/2")
    labels = window.js("return [...document.querySelectorAll('#pair canvas')].map((e) => e.getAttribute('aria-label'))")
    assert "row 2 of 4, column 4 of 4" in labels[0] and "row 3 of 4, column 1 of 4" in labels[1]
    assert text(window, "beside-text").startswith("Beside it: y, b: its first map; layer 0: 0 to 1 times")
    assert window.complaints() == []


def test_neither_a_tall_image_nor_a_long_question_pushes_the_answers_away(tmp_path: Path, window: Browser) -> None:
    shape = {"width": 50, "height": 2000, "grid_box": [0.0, 0.0, 50.0, 2000.0], "boxes": [[5.0, 10.0, 9.0, 50.0]]}
    shape |= {"question": "Is there a finding, and where? " * 40}
    rows = [row | shape for row in refined(0)]
    show(window, plain([store(tmp_path / "r", "refine", rows)], tmp_path / "out"))
    for width in (390, 1400):
        window.resize(width)
        for name, most in (("canvas", 600), ("question", 200)):
            assert window.js("return document.getElementById(arguments[0]).offsetHeight", name) < most, (width, name)
        past = "document.getElementById('answers').getBoundingClientRect().top"
        past += " - document.getElementById('sample').getBoundingClientRect().top"
        assert width == 390 or window.js(f"return {past}") < 1100, "on the same screen"


def test_a_sample_is_copied_as_json_and_drawn_as_svg(tmp_path: Path, window: Browser) -> None:
    show(window, plain(pair(tmp_path, 4), tmp_path / "out"))
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


def test_the_layer_slider_puts_the_heat_on_the_right_pixels(tmp_path: Path, window: Browser) -> None:
    show(window, plain(pair(tmp_path, 6), tmp_path / "out"))
    window.js("document.getElementById('boxes').click()")
    hot, cold = [252, 255, 164], pixel(window, 12, 12)
    for layer, x in ((0, 87), (1, 62), (2, 37)):
        put(window, "layer", str(layer))
        seen = {at: pixel(window, at, 12) for at in (12, 37, 62, 87)}
        assert [at for at, colour in seen.items() if colour == hot] == [x], (layer, seen, cold)
        assert pixel(window, x, 30) != hot  # the row below is another token
    put(window, "opacity", "0")
    assert pixel(window, 37, 12) == [107, 107, 107]
    put(window, "mask", "1")
    assert pixel(window, 37, 12) == [107, 107, 107] and pixel(window, 37, 37) != [107, 107, 107]
    assert "8 of 16 tokens kept" in window.js("return document.getElementById('canvas').getAttribute('aria-label')")
    assert window.complaints() == []


def test_filters_agree_with_the_runs_own_rows(tmp_path: Path, window: Browser) -> None:
    show(window, plain(pair(tmp_path), tmp_path / "out"))
    rows = [row | {"i": i} for i in range(40) for row in refined(i)]
    right = pl.DataFrame([{"i": r["i"], "method": r["method"], "right": r["answer"] == "yes"} for r in rows])
    wide = right.pivot(on="method", index="i", values="right")
    assert count(window) == 40
    put(window, "f-method", "vgrefine")
    for outcome, expected in (
        ("right", wide["vgrefine"].sum()),
        ("wrong", 40 - wide["vgrefine"].sum()),
        ("fixed", (wide["vgrefine"] & ~wide["baseline"]).sum()),
        ("broken", (~wide["vgrefine"] & wide["baseline"]).sum()),
    ):
        put(window, "f-outcome", outcome)
        assert count(window) == expected > 0, outcome
    window.js("document.getElementById('clear').click()")
    put(window, "f-group", "1")
    assert count(window) == 20
    put(window, "f-type", "0")
    assert count(window) == len([i for i in range(40) if i % 2 == 1 and i % 3 == 0])
    window.js("document.getElementById('clear').click()")
    window.keys("#f-text", "finding 17")
    assert count(window) == 1 and window.complaints() == []


def test_keys_move_and_the_page_asks_for_nothing_beyond_itself(tmp_path: Path, window: Browser) -> None:
    page = plain(pair(tmp_path), tmp_path / "out")
    show(window, page)
    window.keys("#list", "\ue015\ue015")
    window.keys("#list", "j]")
    settle(window)
    assert "finding 3?" in window.js("return document.getElementById('question').textContent")
    assert window.js("return document.getElementById('layer').value") == "1"
    assert window.js("return document.getElementById('rows').childElementCount") < 40, "only those in sight"
    asked = [url for url in window.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [page.resolve().as_uri()] and window.complaints() == []


def test_pictures_lie_under_the_heat_and_chunks_load_from_files(
    tmp_path: Path, window: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pack(monkeypatch)
    data = own_benchmark(tmp_path / "data", 4)
    page = plain(pair(tmp_path, 4, benchmark=str(data), split="all"), tmp_path / "out", pictures=Pictures())
    show(window, page)
    put(window, "opacity", "0")
    assert pixel(window, 10, 40) == [255, 0, 0] and pixel(window, 90, 40) == [0, 0, 255]
    asked = {url for url in window.requests() if not url.startswith(("data:", "blob:"))} - {page.resolve().as_uri()}
    assert asked and all(url.startswith((tmp_path / "out" / "data").resolve().as_uri()) for url in asked)
    assert window.complaints() == []
    put(window, "opacity", "60")
    window.js("document.getElementById('browser').scrollIntoView()")
    painted(window)
    kept = Path(os.environ.get("VGTOOL_SCREENSHOTS", tmp_path))
    kept.mkdir(parents=True, exist_ok=True)
    window.screenshot(kept / "report.png")
    with Image.open(kept / "report.png") as taken:
        assert len(taken.convert("RGB").getcolors(1 << 24) or []) > 50
    (tmp_path / "out" / "data" / "chunk-00000.js").unlink()
    window.open(page)
    window.until("!document.getElementById('trouble').hidden || document.getElementById('facts').textContent")


@pytest.mark.parametrize("left, said", [(None, "is missing"), ("", "is damaged"), ("vgtoolChunk(", "is damaged")])
def test_a_page_whose_data_is_missing_or_damaged_says_so_and_comes_to_rest(
    left: str | None, said: str, tmp_path: Path, window: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pack(monkeypatch)
    page = plain(pair(tmp_path, 4), tmp_path / "out")
    for chunk in (tmp_path / "out" / "data").iterdir():
        chunk.unlink()
        if left is not None:
            chunk.write_text(left)
    window.open(page)
    window.until("!document.getElementById('trouble').hidden && !document.querySelector('[aria-busy]')")
    assert said in window.js("return document.getElementById('trouble').textContent")
    both = "return Promise.allSettled([vgChunks.slice([0, 0], 1), vgChunks.slice([0, 0], 1)])"
    told = window.js(f"{both}.then((all) => all.map((one) => one.status))")
    assert told == ["rejected", "rejected"], "whoever waits is told"
    window.complaints()


@pytest.mark.parametrize("case", CASES)
def test_a_run_with_little_in_it_opens_without_a_complaint(case: str, tmp_path: Path, window: Browser) -> None:
    window.complaints()
    window.open(plain(lone(tmp_path, case), tmp_path / "out"))
    settle(window)
    said = window.js("return document.getElementById('samples').innerText")
    expected = {"empty": "hold no samples", "failed": "Failed: image_missing", "no-maps": "No heatmap was kept"}
    assert expected.get(case, "Is there a finding 0?") in said and window.complaints() == []
