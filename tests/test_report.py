"""The report: figures, the page, what it must never hold, and the sample browser in a real Chromium."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from browser import Browser, missing
from forked import vgtool
from PIL import Image
from scipy.stats import binomtest

from vgtool.errors import VgError
from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.reporting import figures, pack, samples
from vgtool.reporting.examples import examples
from vgtool.reporting.inputs import families, sources, without_folders
from vgtool.reporting.page import write
from vgtool.reporting.samples import Pictures, levels
from vgtool.runs.store import Shard, Store
from vgtool.scoring.score import score

LAYERS, HEADS, ROWS, COLS = 3, 2, 4, 4
METHODS = ["baseline", "vgrefine", "vgrefine:percentile=20", "vgrefine:percentile=80", "no-image"]
NASTY = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\"'&$\\frac{$ {{7*7}} \u202e"
Row = dict[str, Any]


def identity(kind: str, samples: int, **other: Any) -> dict[str, Any]:
    own = {"methods": METHODS, "heads": [[2, 1], [0, 0]]} if kind == "refine" else {"maps": "layers"}
    known = {"model": "m", "revision": "r1", "benchmark": "b", "split": "test", "protocol": "default"}
    return known | {"rule": "strict", "rows": samples, **own} | other


def shared(i: int) -> Row:
    """A 100 x 50 image padded to a square, seen as 4 x 4 cells of 25 px: the top and bottom row half outside."""
    return {
        "sample_id": f"s{i}",
        "image_id": f"i{i // 2}",
        "group": ("CT", "MRI")[i % 2],
        "question_type": ("closed", "open")[i % 3 == 0],
        "question": f"Is there a finding {i}?",
        "width": 100,
        "height": 50,
        "grid_rows": ROWS,
        "grid_cols": COLS,
        "grid_box": [0.0, -25.0, 100.0, 75.0],
        "boxes": [[25.0, 0.0, 50.0, 25.0]],
        "region": [5],
        "error": None,
    }


def probed(i: int, hot: Sequence[int] = (7, 6, 5)) -> Row:
    """Layer l attends most to token hot[l]; the question's own map and the relative one are the same."""
    maps = np.full((LAYERS, ROWS * COLS), 0.1, np.float32)
    maps[range(LAYERS), list(hot)] = 1.0
    rng = np.random.default_rng(i)
    ratio, kl = rng.uniform(0.5, 3, LAYERS), rng.uniform(1, 4, LAYERS)
    kl[0] = 0.5
    metrics = {"layer_ratio": ratio, "layer_kl": kl, "layer_js": kl / 10}
    heads = {f"head_{m}": np.repeat(metrics[f"layer_{m}"], HEADS) for m in ("ratio", "kl", "js")}
    lists = {name: [float(v) for v in values] for name, values in (metrics | heads).items()}
    flat = {"attention": maps.ravel(), "general_attention": np.ones(maps.size, np.float32)}
    return shared(i) | {"domain": "medical"} | lists | flat


def refined(i: int) -> list[Row]:
    """vgrefine fixes every fourth sample and breaks every fifth; the baseline is right on odd ones."""
    rows = []
    for at, method in enumerate(METHODS):
        right = i % 2 == 1
        if method == "vgrefine":
            right = True if i % 4 == 0 else False if i % 5 == 0 else right
        kept = list(range(8)) if method.startswith("vgrefine") else None
        own = {"reference": "yes", "method": method, "answer": "yes" if right else "no", "confidence": 0.5 + 0.01 * at}
        triage = None if kept is None else np.linspace(0, 1, 16, dtype=np.float32)
        rows.append(shared(i) | own | {"kept": kept, "triage": triage})
    return rows


def store(root: Path, kind: str, rows: Sequence[Row], **other: Any) -> Path:
    made = Store(root)
    made.open(kind, identity(kind, len({row["sample_id"] for row in rows}), **other), ["A note."])
    schema: pa.Schema = Probe.schema if kind == "probe" else Refine.schema
    if rows:
        made.write(Shard(), 0, rows, schema)
    return root


def pair(root: Path, samples: int = 40, **other: Any) -> list[Path]:
    return [
        store(root / "p", "probe", [probed(i) for i in range(samples)], **other),
        store(root / "r", "refine", [row for i in range(samples) for row in refined(i)], **other),
    ]


def build(runs: Sequence[Path], out: Path, **other: Any) -> Path:
    return write(list(runs), out, rule=None, partial=False, seed=0, **other)


class Tags(HTMLParser):
    """Every tag with the names of its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# ---- figures -----------------------------------------------------------------------------------------------------


def test_every_figure_is_there_as_pdf_svg_and_png_at_paper_width(tmp_path: Path) -> None:
    natural = [probed(i) | {"domain": "natural"} for i in range(20)]
    runs = [*pair(tmp_path), store(tmp_path / "n", "probe", natural, benchmark="nat", model="m2")]
    build(runs, tmp_path / "out")
    stems = {"layers", "heads-0", "heads-1", "accuracy", "modality-accuracy-0", "modality-grounding-0", "ablation"}
    for stem in stems | {"gain-0"}:
        assert (tmp_path / "out" / f"{stem}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (tmp_path / "out" / f"{stem}.svg").read_text()
        with Image.open(tmp_path / "out" / f"{stem}.png") as drawn:
            assert drawn.width / 220 <= 7.01 and drawn.height > 100


def test_the_same_runs_give_the_same_figures(tmp_path: Path) -> None:
    runs = pair(tmp_path, 12)
    for name in "ab":
        build(runs, tmp_path / name)
    for one in (tmp_path / "a").iterdir():
        assert one.read_bytes() == (tmp_path / "b" / one.name).read_bytes(), one.name


def test_layer_curves_show_the_means_and_natural_images_are_dashed(tmp_path: Path) -> None:
    rows = [probed(i) for i in range(10)]
    runs = [store(tmp_path / "p", "probe", rows)]
    runs.append(store(tmp_path / "n", "probe", [row | {"domain": "natural"} for row in rows], benchmark="nat"))
    drawn = figures.layers(sources(runs, None, False), 0).figure
    for axis, metric in zip(drawn.axes, ("layer_ratio", "layer_kl", "layer_js"), strict=True):
        curves = [line for line in axis.lines if len(line.get_xdata()) == LAYERS]
        assert [line.get_linestyle() for line in curves] == ["-", "--"]
        expected = np.mean([row[metric] for row in rows], 0)
        np.testing.assert_allclose(curves[0].get_ydata(), expected, rtol=1e-5)


def test_the_head_map_rings_the_heads_of_the_refine_run(tmp_path: Path) -> None:
    read = sources(pair(tmp_path, 10), None, False)
    chosen = figures._chosen(read[0], read[1:], None)
    rings = figures.head_map(read[0], chosen, "heads-0").figure.axes[0].collections[0].get_offsets()
    assert np.asarray(rings).tolist() == [[2, 1], [0, 0]]


def test_an_ablation_holds_only_methods_that_differ_in_one_parameter(tmp_path: Path) -> None:
    methods = ["baseline", "a:k=1", "a:k=2", "a:k=2,p=5", "a:k=3,p=5", "b:k=1"]
    row = refined(0)[0]
    run = store(tmp_path / "r", "refine", [row | {"method": m} for m in methods], methods=methods)
    found = figures.sweeps(families(sources([run], None, False))[0])
    assert {sweep: list(values) for sweep, values in found.items()} == {
        ("a", "k", ""): ["1", "2"],
        ("a", "k", "p=5"): ["2", "3"],
    }


def test_layers_are_scaled_by_their_greatest_value_and_what_is_not_finite_is_no_value() -> None:
    values, tops = levels(np.array([[0.0, 1.0, 2.0], [np.nan, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    assert values.tolist() == [[0, 128, 255], [0, 255, 0], [0, 0, 0]] and tops == [2.0, 4.0, None]


# ---- what a page holds -------------------------------------------------------------------------------------------


def everything(out: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file())


def unpacked(out: Path) -> bytes:
    """All data of a page, inflated."""
    import base64
    import zlib

    page = (out / "index.html").read_text()
    texts = re.findall(r'<script type="text/plain"[^>]*>([^<]*)</script>', page)
    texts += [re.findall(r'"(.*)"', path.read_text())[0] for path in sorted(out.glob("data/*.js"))]
    return b"".join(zlib.decompress(base64.b64decode(text)) for text in texts)


def test_the_default_report_holds_no_image_data_and_no_absolute_path(tmp_path: Path) -> None:
    rows = [probed(i) for i in range(5)]
    rows[0] = {**shared(0), "error": f"image_missing: '{tmp_path}/secret/a.png' is gone"}
    run = store(tmp_path / "p", "probe", rows, benchmark=f"{tmp_path}/secret/own.jsonl")
    build([run], tmp_path / "out")
    held = everything(tmp_path / "out") + unpacked(tmp_path / "out")
    assert str(tmp_path).encode() not in held and b"secret" not in held
    assert b"IHDR" not in unpacked(tmp_path / "out") and b"JFIF" not in unpacked(tmp_path / "out")
    embedded = re.findall(r'src="data:([a-z/+]*)', (tmp_path / "out" / "index.html").read_text())
    assert set(embedded) == {"image/svg+xml"}  # the figures
    assert b"own.jsonl" in held and b"'a.png' is gone" in held


@pytest.mark.parametrize(
    "text,cut",
    [
        ("'/a/b/c.png' is gone", "'c.png' is gone"),
        ("at /home/me/x: no", "at x: no"),
        (r"in C:\data\x.png", "in x.png"),
        ("yes/no and a/b/c stay", "yes/no and a/b/c stay"),
    ],
)
def test_sentences_lose_folders(text: str, cut: str) -> None:
    assert without_folders(text) == cut


def nasty(root: Path) -> list[Path]:
    texts = {"image_id": NASTY, "group": NASTY, "question": NASTY}
    probe = [probed(i) | texts | {"sample_id": f"{i}{NASTY}"} for i in range(12)]
    failed = {**shared(1), **texts, "sample_id": f"1{NASTY}", "error": NASTY}
    probe[1] = failed
    answers = [
        row | texts | {"sample_id": f"{i}{NASTY}", "answer": NASTY, "reference": NASTY, "choices": [NASTY]}
        for i in range(12)
        for row in refined(i)
    ]
    names = [NASTY if row["method"] == "no-image" else row["method"] for row in answers]
    answers = [row | {"method": name} for row, name in zip(answers, names, strict=True)]
    other = {"model": NASTY, "benchmark": NASTY, "split": NASTY}
    methods = [*METHODS[:-1], NASTY]
    return [store(root / "p", "probe", probe, **other), store(root / "r", "refine", answers, methods=methods, **other)]


def test_hostile_text_is_text_and_the_policy_forbids_the_network(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    pages = []
    for name, runs in (("plain", pair(tmp_path / "plain", 12)), ("nasty", nasty(tmp_path / "nasty"))):
        pages.append(Tags(build(runs, tmp_path / f"out-{name}").read_text()))
    plain, hostile = pages
    assert hostile.found <= plain.found
    assert NASTY in hostile.text
    page = (tmp_path / "out-nasty" / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[^']+'", rules["script-src"]) and "connect-src" not in rules


def test_a_smaller_report_leaves_nothing_of_the_old_one_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "INLINE", 10)
    monkeypatch.setattr(pack.Pack, "__init__", _small(pack.Pack.__init__))
    out = tmp_path / "out"
    build(pair(tmp_path), out)
    assert (out / "data" / "chunk-00000.js").exists() and (out / "gain-0.pdf").exists()
    monkeypatch.undo()
    build([tmp_path / "p"], out)
    assert not (out / "data").exists() and not (out / "gain-0.pdf").exists() and (out / "index.html").exists()


def test_a_page_is_the_same_however_many_samples_are_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = pair(tmp_path)
    page = (build(runs, tmp_path / "whole") / "index.html").read_bytes()
    monkeypatch.setattr(samples, "TOGETHER", 7)
    assert (build(runs, tmp_path / "some") / "index.html").read_bytes() == page


def _small(original: Any) -> Any:
    def made(self: pack.Pack, folder: Path, inline: int = 10, **other: Any) -> None:
        original(self, folder, inline, **other)

    return made


def test_no_two_tables_of_a_page_have_one_title(tmp_path: Path) -> None:
    runs = pair(tmp_path, 6)
    rows = [row for i in range(6) for row in refined(i)]
    page = build([*runs, store(tmp_path / "again", "refine", rows, dtype="other")], tmp_path / "out").read_text()
    titles = re.findall(r"<h3>([^<]*)</h3>", page)
    assert len(set(titles)) == len(titles)
    ours = [title for title in titles if re.match(r"Accuracy(,| by (group|question type),)", title)]
    assert ours == [
        f"Accuracy{by}, m on b (test, default), {run}"
        for run in ("r", "again")
        for by in ("", " by group", " by question type")
    ]


def test_the_numbers_of_the_page_lie_beside_it_as_score_gives_them(tmp_path: Path) -> None:
    runs = pair(tmp_path)
    build(runs, tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "results.parquet")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == frame.rows(named=True)
    scored = score(runs, by=["group", "question_type"]).frame
    assert frame.height and frame.join(scored, on=frame.columns, nulls_equal=True, how="anti").is_empty()


def test_two_checkpoints_of_one_name_are_two_models_of_the_page(tmp_path: Path) -> None:
    runs = [*pair(tmp_path / "x", 6), *pair(tmp_path / "y", 6, revision="r2")]
    read = sources(runs, None, False)
    models = {one.model for one in read}
    assert models == {"m (x/p)", "m (y/p)"} and {family.key[0] for family in families(read)} == models
    assert len({one.name for one in read if one.run.kind == "probe"}) == 2


# ---- the folder it is put in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.html", "mine.pdf", "data/mine.js", "run.json"])
def test_a_folder_that_holds_anything_else_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("<p>mine")
    (out / "layers.pdf").write_text("of an older report")
    with pytest.raises(VgError, match=f"'{out / Path(name).parts[0]}' is no part of a report"):
        build(pair(tmp_path, 2), out)
    assert contents(out) == {Path(name): b"<p>mine", Path("layers.pdf"): b"of an older report"}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "p", "r"}


def test_a_file_that_comes_while_the_report_is_made_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, (run, _) = tmp_path / "out", pair(tmp_path, 2)
    out.mkdir()
    monkeypatch.setattr(figures, "draw", lambda *_: (out / "mine.txt").write_text("mine") and [])
    with pytest.raises(VgError, match=r"mine\.txt"):
        build([run], out)
    assert contents(out) == {Path("mine.txt"): b"mine"}


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run, _) = pair(tmp_path / "runs", 2)
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for out in (".", ".."):
        with pytest.raises(VgError, match=r"you are inside it.*--out .*report"):
            build([run], Path(out))
    assert Path.cwd() == tmp_path / "here" / "below"


def test_a_report_keeps_its_folders_mode_and_a_link_to_it(tmp_path: Path) -> None:
    (run, _) = pair(tmp_path, 2)
    (tmp_path / "kept").mkdir(mode=0o750)
    (tmp_path / "out").symlink_to("kept")
    build([run], tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "kept").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "kept" / "index.html").is_file()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_mistake_leaves_the_older_report_as_it_was_and_makes_nothing_new(tmp_path: Path) -> None:
    place = tmp_path / "place"
    build(pair(tmp_path, 2), place / "out")
    before = contents(place)
    mistaken = tmp_path / "p.csv"
    mistaken.write_text("id,question_type,question,answer,reference\na,closed,q?,yes,yes\n")
    for out in (place / "out", place / "new" / "out"):
        done = vgtool("report", mistaken, "--images", "--out", out, cwd=tmp_path)
        assert done.returncode == 2 and "names no images" in done.stderr
    assert contents(place) == before and [path.name for path in place.iterdir()] == ["out"]


SLOW = """
import sys, time
from vgtool import commands
from vgtool.reporting import page
page._page = lambda *_: print("drawn", flush=True) or time.sleep(60)
sys.argv = ["vgtool", *sys.argv[1:]]
commands.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_report_that_is_killed_changes_nothing_and_leaves_no_picture_to_the_next(
    number: signal.Signals, tmp_path: Path
) -> None:
    data = own_benchmark(tmp_path / "data", 4)
    (run, _) = pair(tmp_path, 4, benchmark=str(data), split="all")
    place = tmp_path / "place"
    out = place / "out"
    build([run], out)
    before = contents(place)
    command = [sys.executable, "-c", SLOW, "report", run, "--images", "--out", out]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None and child.stdout.readline() == b"drawn\n"
        assert len(list(place.rglob("examples-0.*"))) == 3
        child.send_signal(number)
    assert child.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert {name: data for name, data in contents(place).items() if name.parts[0] == "out"} == before
    assert bool(list(place.rglob("examples*"))) == (number == signal.SIGKILL)
    build([run], out)
    assert contents(place) == before and [path.name for path in place.iterdir()] == ["out"]


def test_pictures_that_a_killed_report_left_in_the_folder_itself_go(tmp_path: Path) -> None:
    out, (run, _) = tmp_path / "out", pair(tmp_path, 2)
    out.mkdir()
    (out / "examples-0.png").write_bytes(b"\x89PNG cut")
    build([run], out)
    assert not list(out.glob("examples*"))


def test_a_kill_between_the_renames_loses_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, (run, _) = tmp_path / "place", pair(tmp_path, 2)
    out = place / "out"
    build([run], out)
    before, rename = contents(place), Path.rename

    def killed(self: Path, to: Path) -> Path:
        if to == out and not self.name.endswith("-old"):
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        build([run], out)
    assert contents(place) == before
    monkeypatch.undo()
    out.rename(place / ".out.vgtool-01234567-old")  # no time even to put it back
    (tmp_path / "p.csv").write_text("id,question_type,question,answer,reference\na,closed,q?,yes,yes\n")
    with pytest.raises(VgError, match="names no images"):
        build([tmp_path / "p.csv"], out, pictures=Pictures())
    assert contents(place) == before


def lone(root: Path, case: str) -> list[Path]:
    if case == "empty":
        return [store(root / "p", "probe", []), store(root / "r", "refine", [])]
    if case == "one":
        return pair(root, 1)
    if case == "failed":
        failed = [
            {"sample_id": f"s{i}", "image_id": "i", "question": "q", "error": "image_missing: x"} for i in range(3)
        ]
        both = [row | {"method": method} for row in failed for method in METHODS]
        return [store(root / "p", "probe", failed), store(root / "r", "refine", both)]
    bare = {name: None for name in ("attention", "general_attention")}
    if case == "no-boxes":
        names = [f"{level}_{m}" for level in ("layer", "head") for m in ("ratio", "kl", "js")]
        bare = {name: None for name in names} | {"boxes": [], "region": []}
    return [store(root / "p", "probe", [probed(i) | bare for i in range(4)])]


SAYS = {
    "empty": "no rows",
    "one": "1 measured",
    "failed": "image_missing: x",
    "no-boxes": "no grounding metric",
    "no-maps": "4 measured",
}


@pytest.mark.parametrize("case", SAYS)
def test_a_run_with_little_in_it_gives_a_sensible_page(case: str, tmp_path: Path) -> None:
    text = Tags(build(lone(tmp_path, case), tmp_path / "out").read_text()).text
    assert SAYS[case] in text and "nan" not in re.sub(r"[A-Za-z0-9+/=]{80,}", "", text).lower().split()


def test_without_arguments_every_run_below_runs_or_demo_is_reported(tmp_path: Path) -> None:
    pair(tmp_path / "runs", 3)
    done = vgtool("report", "--out", "seen", cwd=tmp_path)
    assert done.returncode == 0 and "seen/index.html" in done.stderr
    assert "vgrefine" in Tags((tmp_path / "seen" / "index.html").read_text()).text
    done = vgtool("report", "--out", "seen", cwd=tmp_path / "seen")
    assert done.returncode == 2 and "No run folder below ./runs or .demo" in done.stderr


def own_benchmark(root: Path, samples: int) -> Path:
    """Images whose left half is red and right half blue, in vgtool's own format."""
    root.mkdir(parents=True)
    picture = Image.new("RGB", (100, 50), (255, 0, 0))
    picture.paste((0, 0, 255), (50, 0, 100, 50))
    lines = []
    for i in range(samples):
        picture.save(root / f"{i // 2}.png")
        lines.append(
            {"id": f"s{i}", "image": f"{i // 2}.png", "question": "q?", "answer": "yes", "question_type": "closed"}
        )
    (root / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root / "own.jsonl"


def test_images_are_included_only_when_asked_for_and_only_the_right_ones(tmp_path: Path) -> None:
    data = own_benchmark(tmp_path / "data", 4)
    runs = pair(tmp_path, 5, benchmark=str(data), split="all")
    build(runs, tmp_path / "without")
    assert b"IHDR" not in unpacked(tmp_path / "without")
    build(runs, tmp_path / "with", pictures=Pictures())
    held = unpacked(tmp_path / "with")
    assert held.count(b"IHDR") == 3 - 1  # s0..s3 on two images; s4's image is not on this machine
    assert b"has no such sample" in held and str(tmp_path).encode() not in held
    start = held.index(b"\x89PNG")
    with Image.open(io.BytesIO(held[start:])) as first:
        assert first.size == (100, 50) and first.getpixel((10, 10)) == (255, 0, 0)


def test_examples_show_the_highest_and_lowest_attention_ratios_with_heat_and_boxes_in_place(tmp_path: Path) -> None:
    data = own_benchmark(tmp_path / "data", 12)
    rows = [probed(i) for i in range(12)]
    for i, row in enumerate(rows):
        row["layer_ratio"][0] = [5.0, 4.0, 0.1, 0.2, 3.0, 2.0, 0.3, 0.4, 1.0, 1.1, 1.2, 1.3][i]  # layer 0 is best
    one = sources([store(tmp_path / "p", "probe", rows, benchmark=str(data), split="all")], None, False)
    (drawn,) = examples(one, Pictures())
    shown = [axis for axis in drawn.figure.axes if axis.get_visible()]
    # Two questions an image, six images: the three with the best questions, then the worst questions of the others.
    assert [axis.get_xlabel() for axis in shown] == [f"attention ratio {r:.2f}" for r in (5, 3, 1.3, 0.1, 0.3, 1.0)]
    for axis in shown:
        picture, heat = axis.get_images()
        assert tuple(picture.get_extent()) == (0, 100, 50, 0) and tuple(heat.get_extent()) == (0, 100, 75, -25)
        assert np.unravel_index(np.argmax(heat.get_array()), (ROWS, COLS)) == (1, 3)  # token 7 of layer 0
        (box,) = axis.patches
        assert (box.get_xy(), box.get_width(), box.get_height()) == ((25, 0), 25, 25)
        assert (axis.get_xlim(), axis.get_ylim()) == ((0, 100), (50, 0))
    build([tmp_path / "p"], tmp_path / "without")
    build([tmp_path / "p"], tmp_path / "with", pictures=Pictures())
    assert not list((tmp_path / "without").glob("examples*"))
    assert len(list((tmp_path / "with").glob("examples-0.*"))) == 3


def test_the_summary_names_the_best_claim_with_its_gain_and_what_controls_and_ceilings_are(tmp_path: Path) -> None:
    """By hand: of 40 images with one question vgrefine fixes 10 (every fourth, even) and breaks 4 (5, 15, 25, 35)."""
    better = {"oracle": "yes", "random-keep": "no"}
    rows = [row for i in range(40) for row in refined(i)]
    rows += [r | {"method": m, "answer": a} for m, a in better.items() for r in rows if r["method"] == "baseline"]
    order = ["baseline", "vgrefine", "random-keep", "oracle"]
    run = store(tmp_path / "r", "refine", [r for r in rows if r["method"] in order])
    record = json.loads((run / "run.json").read_text())
    record["identity"]["methods"] = order
    (run / "run.json").write_text(json.dumps(record))
    text = Tags(build([run], tmp_path / "out").read_text()).text
    p = binomtest(4, 14).pvalue  # exact McNemar; one question an image: by image it is the same
    assert "baseline 50.0 %; best claim vgrefine +15.0 [" in text and f"], p {p:.3g}, Holm {p:.3g}" in text
    assert "; control random-keep -50.0 [" in text and "; ceiling oracle +50.0 [" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_parses() -> None:
    for script in (Path(figures.__file__).parent / "templates").glob("*.js"):
        assert subprocess.run(["node", "--check", script], capture_output=True).returncode == 0


# ---- in a browser ------------------------------------------------------------------------------------------------

PIXEL = "return [...document.getElementById('canvas').getContext('2d').getImageData({}, {}, 1, 1).data].slice(0, 3)"
READY = (
    "document.querySelector('#answers tr, #note')?.textContent !== null && !document.getElementById('browser').hidden"
)


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
    """Let every promise and repaint that is under way end."""
    window.js("return new Promise((done) => setTimeout(done, 250))")


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


@pytest.mark.browser
def test_the_layer_slider_puts_the_heat_on_the_right_pixels(tmp_path: Path, window: Browser) -> None:
    show(window, build(pair(tmp_path, 6), tmp_path / "out"))
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


@pytest.mark.browser
def test_filters_agree_with_the_runs_own_rows(tmp_path: Path, window: Browser) -> None:
    show(window, build(pair(tmp_path), tmp_path / "out"))
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


@pytest.mark.browser
def test_keys_move_and_the_page_asks_for_nothing_beyond_itself(tmp_path: Path, window: Browser) -> None:
    page = build(pair(tmp_path), tmp_path / "out")
    show(window, page)
    window.keys("#list", "\ue015\ue015")
    window.keys("#list", "j]")
    settle(window)
    assert "finding 3?" in window.js("return document.getElementById('question').textContent")
    assert window.js("return document.getElementById('layer').value") == "1"
    asked = [url for url in window.requests() if not url.startswith(("data:", "blob:"))]
    assert asked == [page.resolve().as_uri()] and window.complaints() == []


@pytest.mark.browser
def test_a_narrow_window_scrolls_tables_and_never_the_page(tmp_path: Path, window: Browser) -> None:
    page = build(pair(tmp_path), tmp_path / "out")
    for width in (420, 1400):
        window.resize(width)
        show(window, page)
        past = "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll')"
        past += " && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1).map((e) => e.id)"
        assert window.js("return innerWidth") == width and window.js(f"return {past}") == []
        # A method's name stays on one line.
        heights = window.js("return [...document.querySelectorAll('#tables td')].map((e) => e.clientHeight)")
        assert max(heights) < 40


@pytest.mark.browser
def test_hostile_text_shows_as_text_in_the_browser(tmp_path: Path, window: Browser) -> None:
    show(window, build(nasty(tmp_path), tmp_path / "out"))
    assert window.js("return document.getElementById('question').textContent") == NASTY
    assert NASTY in window.js("return document.getElementById('answers').textContent")
    assert window.js("return window.pwned === undefined && !document.querySelector('img:not([src^=data])')")
    assert window.complaints() == []


@pytest.mark.browser
def test_pictures_lie_under_the_heat_and_chunks_load_from_files(
    tmp_path: Path, window: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack.Pack, "__init__", _small(pack.Pack.__init__))
    data = own_benchmark(tmp_path / "data", 4)
    page = build(pair(tmp_path, 4, benchmark=str(data), split="all"), tmp_path / "out", pictures=Pictures())
    show(window, page)
    put(window, "opacity", "0")
    assert pixel(window, 10, 40) == [255, 0, 0] and pixel(window, 90, 40) == [0, 0, 255]
    asked = {url for url in window.requests() if not url.startswith(("data:", "blob:"))} - {page.resolve().as_uri()}
    assert asked and all(url.startswith((tmp_path / "out" / "data").resolve().as_uri()) for url in asked)
    assert window.complaints() == []
    put(window, "opacity", "60")
    window.js("document.getElementById('browser').scrollIntoView()")
    settle(window)
    kept = Path(os.environ.get("VGTOOL_SCREENSHOTS", tmp_path))
    kept.mkdir(parents=True, exist_ok=True)
    window.screenshot(kept / "report.png")
    with Image.open(kept / "report.png") as taken:
        assert len(taken.convert("RGB").getcolors(1 << 24) or []) > 50
    (tmp_path / "out" / "data" / "chunk-00000.js").unlink()
    window.open(page)
    window.until("!document.getElementById('trouble').hidden || document.getElementById('facts').textContent")


@pytest.mark.browser
@pytest.mark.parametrize("case", SAYS)
def test_a_run_with_little_in_it_opens_without_a_complaint(case: str, tmp_path: Path, window: Browser) -> None:
    window.complaints()
    window.open(build(lone(tmp_path, case), tmp_path / "out"))
    settle(window)
    said = window.js("return document.getElementById('samples').innerText")
    expected = {"empty": "hold no samples", "failed": "Failed: image_missing", "no-maps": "No heatmap was kept"}
    assert expected.get(case, "Is there a finding 0?") in said and window.complaints() == []
