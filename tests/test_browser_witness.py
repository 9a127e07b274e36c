"""Three witnesses on one picture, in a real Chromium: the said box, reliance and its curve, told apart."""

import json
from pathlib import Path

import pytest
from browser import Browser
from opened import pixel, settle, show, window
from reports import NASTY, WITNESSES, Row, own_benchmark, plain, probed, refined, store

from vgtool.reporting import details
from vgtool.reporting.album import Pictures

__all__ = ["window"]
browser = pytest.mark.browser
CYAN, WHITE, BLUE, ORANGE = [0, 224, 255], [255, 255, 255], [0, 114, 178], [192, 74, 0]
NUMBERS = {"reliance": 1.25, "reliance_random": 0.01, "sufficiency": -0.5}
CURVES = {"reliance_curve": [0.1, 1.2, -0.3], "reliance_random_curve": [0.0, 0.05, None]}
SAID = {"box_answer": "[600, 200, 900, 800]", "box_outcome": "box", "box_iou": 0.25}
SAID |= {"box_said": [[60.0, 10.0, 90.0, 40.0]]}
CASES: tuple[Row, ...] = (
    {**NUMBERS, **CURVES, **SAID},
    {"box_answer": "No.", "box_outcome": "none", "box_said": [], "unmeasured": "few_outside: the region is large"},
    {**NUMBERS, "reliance_random": None},
    {"box_answer": NASTY, "box_outcome": "unreadable", "box_said": []},
    {},
)
SAVED = """
return new Promise((done) => {
  vgPicture.save = (blob, name) => (name.endsWith("svg") ? blob.text().then(done) : pixels(blob));
  const pixels = (blob) => createImageBitmap(blob).then((image) => {
    const made = document.createElement("canvas");
    [made.width, made.height] = [image.width, image.height];
    const pen = made.getContext("2d");
    pen.drawImage(image, 0, 0);
    const { data } = pen.getImageData(0, 0, image.width, image.height);
    done([image.width, image.height, canvas.height, [...new Uint32Array(data.buffer)]]);
  });
  document.getElementById(arguments[0]).click();
});"""
COLOURS = """
const data = document.getElementById('curve').getContext('2d').getImageData(0, 0, 360, 96).data;
return [...Array(data.length / 4).keys()].map((at) => [...data.slice(4 * at, 4 * at + 3)].join())
  .reduce((all, one) => ({ ...all, [one]: (all[one] || 0) + 1 }), {});"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    rows = [probed(i) | case for i, case in enumerate(CASES)]
    answers = [row for i in range(len(CASES)) for row in refined(i)]
    data = {"benchmark": str(own_benchmark(root / "data", len(CASES))), "split": "all"}
    runs = [store(root / "p", "probe", rows, **data, **WITNESSES), store(root / "r", "refine", answers, **data)]
    return plain(runs, root / "out", pictures=Pictures())


def text(window: Browser, name: str) -> str:
    return str(window.js("return document.getElementById(arguments[0]).textContent", name))


def legend(window: Browser) -> list[tuple[str, str]]:
    items, each = "[...document.querySelectorAll('#legend li')]", "[e.firstChild.className || '', e.textContent.trim()]"
    return [(kind, said) for kind, said in window.js(f"return {items}.map((e) => {each})")]


def step(window: Browser, key: str) -> None:
    window.keys("#list", key)
    settle(window)


@browser
def test_the_picture_shows_attention_the_true_box_and_the_said_one_told_apart(page: Path, window: Browser) -> None:
    show(window, page)
    assert pixel(window, 60.6, 10) == CYAN and pixel(window, 37, 0) == WHITE, "dashes begin at the corner"
    below = pixel(window, 61.7, 10)
    assert below not in (CYAN, [0, 0, 0]), "between two dashes nothing is drawn, so that a true box would show"
    kinds = dict(legend(window))
    assert list(kinds) == ["key heat", "key true", "key said"]
    assert kinds["key heat"].startswith("layer 0: 0 to ") and kinds["key true"] == "true box"
    assert kinds["key said"] == "box that the model says, IoU 0.25"
    assert text(window, "reliance") == (
        "Reliance on the region 1.250 nats; on as many random tokens 0.010; sufficiency -0.500.")  # fmt: skip
    assert "1 that the model says" in window.js("return canvas.getAttribute('aria-label')")
    step(window, "w")
    assert pixel(window, 60.6, 10) != CYAN and "key said" not in dict(legend(window))
    assert pixel(window, 37, 0) == WHITE, "the true box stays"
    step(window, "wb")
    assert pixel(window, 60.6, 10) == CYAN and pixel(window, 37, 0) != WHITE
    assert list(dict(legend(window))) == ["key heat", "key said"] and window.complaints() == []


@browser
def test_the_curve_over_layers_is_drawn_and_told(page: Path, window: Browser) -> None:
    show(window, page)
    assert window.js("return document.getElementById('curve').getAttribute('aria-label')") == (
        "Reliance by window of layers, nats. "
        "Region: layers 0 to 0: 0.100, layers 1 to 1: 1.200, layers 2 to 2: -0.300. "
        "Random tokens: layers 0 to 0: 0.000, layers 1 to 1: 0.050.")  # fmt: skip
    seen = window.js(COLOURS)
    assert seen[",".join(map(str, BLUE))] > 100 and seen[",".join(map(str, ORANGE))] > 20
    highest = "const d = document.getElementById('curve').getContext('2d').getImageData(0, 20, 360, 76).data;"
    highest += "for (let at = 0; at < d.length; at += 4) if (d[at] === 0 && d[at + 1] === 114) return at / 4 % 360;"
    assert abs(window.js(highest) - (64 + (360 - 76) / 2)) < 6, "1.2 nats, of layer 1 of 0 to 2: in the middle"


@browser
def test_of_witnesses_that_are_not_there_nothing_is_shown(page: Path, window: Browser) -> None:
    show(window, page)
    hidden = "return ['l-said', 'curve'].map((name) => document.getElementById(name).hidden)"
    assert window.js(hidden) == [False, False]
    step(window, "j")
    assert window.js(hidden) == [True, True] and pixel(window, 60.6, 10) != CYAN
    assert ("", "the model says that there is none") in legend(window)
    assert text(window, "reliance") == "Not measured: few_outside: the region is large."
    step(window, "j")
    assert window.js(hidden) == [True, True] and not [kind for kind, _ in legend(window) if kind in ("", "key said")]
    assert text(window, "reliance") == "Reliance on the region 1.250 nats; sufficiency -0.500."
    step(window, "j")
    ((_, said),) = [one for one in legend(window) if one[0] == ""]
    assert said == f'what the model says is no box that can be read: "{NASTY}"'[: len(said)] and "</script>" in said
    step(window, "j")
    assert not text(window, "reliance") and list(dict(legend(window))) == ["key heat", "key true"]
    assert not window.js("return window.pwned") and window.complaints() == []


@browser
def test_saved_pictures_carry_all_three_with_the_numbers(page: Path, window: Browser) -> None:
    show(window, page)
    drawn = window.js(SAVED, "save-svg")
    parsed = "const d = new DOMParser().parseFromString(arguments[0], 'image/svg+xml'); return ["
    parsed += "d.querySelectorAll('parsererror').length,"
    parsed += "[...d.querySelectorAll('text')].map((e) => e.textContent).join(' '),"
    parsed += "d.documentElement.getAttribute('viewBox'), d.querySelectorAll('image').length]"
    bad, words, view, images = window.js(parsed, drawn)
    assert bad == 0 and images == 1 and float(view.split()[3]) > 100, "the padded square and what is below"
    for said in ("true box", "box that the model says, IoU 0.25", "Reliance on the region 1.250 nats; on as many"):
        assert said in words
    assert 'x="60" y="10" width="30" height="30" fill="none" stroke="#00e0ff"' in drawn and "#0072b2" in drawn
    width, height, above, data = window.js(SAVED, "save-png")
    assert height > above > 0
    cyan, blue = (int.from_bytes((*colour, 255), "little") for colour in (CYAN, BLUE))
    assert data[round(35 * 7.2) * width + round(60.6 * 7.2)] == cyan
    assert data[width * above :].count(blue) > 100, "the curve"
    for _ in range(3):
        step(window, "j")
    bad, words, *_ = window.js(parsed, window.js(SAVED, "save-svg"))
    assert bad == 0 and "no box that can be read" in words, "what the model said is text of the drawing"
    assert window.complaints() == []


@browser
def test_a_sample_without_other_witnesses_is_saved_as_it_was(tmp_path: Path, window: Browser) -> None:
    show(window, plain([store(tmp_path / "p", "probe", [probed(0)])], tmp_path / "out"))
    _, height, above, _ = window.js(SAVED, "save-png")
    assert height == above and "<text" not in window.js(SAVED, "save-svg")


def test_the_page_holds_of_each_sample_what_its_probe_asked_and_nothing_else() -> None:
    identity = {"reliance": {"window": 2, "starts": [0, 1, 3]}}
    assert details._witness(CASES[0], identity) == {
        "reliance": 1.25, "random": 0.01, "sufficiency": -0.5, "iou": 0.25, "outcome": "box",
        "curve": [0.1, 1.2, -0.3], "random_curve": [0.0, 0.05, None], "windows": [[0, 1], [1, 2], [3, 4]],
        "said": [[60.0, 10.0, 90.0, 40.0]],
    }  # fmt: skip
    assert details._witness(CASES[1], identity) == {"outcome": "none", "unmeasured": CASES[1]["unmeasured"]}
    assert details._witness({"box_outcome": "unreadable", "box_answer": "x" * 999}, {}) == {
        "outcome": "unreadable", "words": "x" * 200}  # fmt: skip
    assert details._witness({"box_outcome": None, "reliance": None, "box_said": None}, identity) == {}
    assert json.dumps(details._witness(CASES[0] | {"reliance": float("nan")}, identity), allow_nan=False)
