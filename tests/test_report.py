"""What a page holds, and what it must never hold."""

import base64
import html
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from threading import Thread

import polars as pl
import pytest
from forked import FEW, vgtool
from PIL import Image
from reports import (
    METHODS,
    NASTY,
    WITNESSES,
    Tags,
    brief,
    build,
    lone,
    nasty,
    own_benchmark,
    pair,
    plain,
    probed,
    refined,
    shared,
    store,
    witnessed,
)
from rich.console import Console
from scipy.stats import binomtest

from vgtool import console
from vgtool.reporting import details, samples, steps
from vgtool.reporting.album import Pictures
from vgtool.reporting.inputs import families, sources
from vgtool.reporting.paths import without_folders
from vgtool.scoring.frame import TABLES
from vgtool.scoring.score import score
from vgtool.scoring.views import view


def everything(out: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file())


def unpacked(out: Path) -> bytes:
    """All data of a page, inflated."""
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


def test_hostile_text_is_text_and_the_policy_forbids_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = Tags(build(nasty(tmp_path / "nasty"), tmp_path / "out-nasty").read_text())
    brief(monkeypatch)
    (tmp_path / "usual").mkdir()
    usual = Tags(build(pair(tmp_path / "usual", 12), tmp_path / "out-usual").read_text())
    assert hostile.found <= usual.found
    assert NASTY in hostile.text
    page = (tmp_path / "out-nasty" / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[^']+'", rules["script-src"]) and "connect-src" not in rules


ASKED = {"against"}
"""Tables of what a score is asked for."""


def cells(page: Path) -> dict[str, list[list[str]]]:
    """Title -> rows of cells, header first, of every table below Tables."""
    found = {}
    text = page.read_text()
    for block in re.findall(r'<details class="table".*?</details>', text, re.S):
        title = html.unescape(re.findall(r"<h3>(.*?)</h3>", block)[0])
        lines = re.findall(r"<tr>(.*?)</tr>", block, re.S)
        found[title] = [[html.unescape(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line)] for line in lines]
    return found


def test_every_table_that_score_prints_is_on_the_page_cell_by_cell(tmp_path: Path) -> None:
    runs = pair(tmp_path, 20)
    rows = [row for i in range(20) for row in refined(i)]
    rows += [r | {"method": "random-keep"} for r in rows if r["method"] == "baseline"]
    rows[0] = {**shared(0), "method": "baseline", "error": "image_missing: gone"}
    runs.append(store(tmp_path / "more", "refine", rows, methods=[*METHODS, "random-keep"], dtype="other"))
    asked = [probed(i) | witnessed(i) for i in range(20)]
    runs.append(store(tmp_path / "again", "probe", asked, dtype="other", **WITNESSES))
    shown = cells(plain(runs, tmp_path / "out"))
    parts = score(runs, by=["group", "question_type"], tables=list(set(TABLES) - ASKED), allow_mixed=True).tables
    kinds = {part.table for part in parts}
    assert kinds == set(TABLES) - ASKED, "every kind of table is among them"
    assert len(parts) == len(shown)
    for part in parts:
        table = view(part)
        written = [["–" if cell is None else str(cell) for cell in row] for row in table.rows]
        assert shown[table.title] == [list(table.columns), *written], table.title


def test_a_page_is_the_same_however_many_samples_are_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = pair(tmp_path)
    page = plain(runs, tmp_path / "whole").read_bytes()
    monkeypatch.setattr(details, "TOGETHER", 7)
    assert plain(runs, tmp_path / "some").read_bytes() == page


def test_no_two_tables_of_a_page_have_one_title(tmp_path: Path) -> None:
    runs = pair(tmp_path, 6)
    rows = [row for i in range(6) for row in refined(i)]
    page = plain([*runs, store(tmp_path / "again", "refine", rows, dtype="other")], tmp_path / "out").read_text()
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
    plain(runs, tmp_path / "out")
    frame = pl.read_parquet(tmp_path / "out" / "results.parquet")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == frame.rows(named=True)
    scored = score(runs, by=["group", "question_type"], every=True).frame
    assert frame.height and frame.join(scored, on=frame.columns, nulls_equal=True, how="anti").is_empty()


@pytest.mark.parametrize("rule", [None, "paper"])
def test_witnesses_of_the_page_are_those_of_score_under_the_same_rule(rule: str | None, tmp_path: Path) -> None:
    wordy = {"answer": "yes, there is one", "question_type": "open"}  # right for one rule, wrong for the other
    rows = [probed(i) | witnessed(i) | wordy for i in range(20)]
    runs = [store(tmp_path / "p", "probe", rows, **WITNESSES)]
    page = plain(runs, tmp_path / "out", rule=rule)
    own = pl.read_parquet(tmp_path / "out" / "results.parquet").filter(table="witnesses")
    (part,) = score(runs, tables=["witnesses"], rule=rule).tables
    assert own.equals(part.frame)
    table = view(part)
    written = [["–" if cell is None else str(cell) for cell in row] for row in table.rows]
    assert cells(page)[table.title] == [list(table.columns), *written]
    right = own.filter(metric="accuracy", level="highest")["value"].item()
    assert right == (1 if rule == "paper" else 0), own


def test_two_checkpoints_of_one_name_are_two_models_of_the_page(tmp_path: Path) -> None:
    runs = [*pair(tmp_path / "x", 6), *pair(tmp_path / "y", 6, revision="r2")]
    read = sources(runs, None, False)
    models = {one.model for one in read}
    assert models == {"m (x/p)", "m (y/p)"} and {family.key[0] for family in families(read)} == models
    assert len({one.name for one in read if one.run.kind == "probe"}) == 2


def test_families_are_listed_by_what_tells_them_apart_alone(tmp_path: Path) -> None:
    names = ({"model": "long"}, {"model": "long", "benchmark": "c"}, {"model": "long", "split": "val"})
    runs = [store(tmp_path / str(n), "probe", [probed(0)], **own) for n, own in enumerate(names)]
    assert samples.apart(families(sources(runs, None, False))) == ["b, test", "c, test", "b, val"]


SAYS = {
    "empty": "no rows",
    "one": "1 measured",
    "failed": "image_missing: x",
    "no-boxes": "no grounding metric",
    "no-numbers": "4 measured, no finite metric",
    "no-maps": "4 measured",
}


@pytest.mark.parametrize("case", SAYS)
def test_a_run_with_little_in_it_gives_a_sensible_page(case: str, tmp_path: Path) -> None:
    text = Tags(plain(lone(tmp_path, case), tmp_path / "out").read_text()).text
    assert SAYS[case] in text and "nan" not in re.sub(r"[A-Za-z0-9+/=]{80,}", "", text).lower().split()


def test_without_arguments_every_run_below_runs_or_demo_is_reported(tmp_path: Path) -> None:
    pair(tmp_path / "runs", 3)
    done = vgtool("report", "--out", "seen", cwd=tmp_path, pretend=FEW)
    assert done.returncode == 0 and "seen/index.html" in done.stderr
    assert "vgrefine" in Tags((tmp_path / "seen" / "index.html").read_text()).text
    done = vgtool("report", "--out", "seen", cwd=tmp_path / "seen")
    assert done.returncode == 2 and "No run folder below ./runs or .demo" in done.stderr


def test_images_are_included_only_when_asked_for_and_only_the_right_ones(tmp_path: Path) -> None:
    data = own_benchmark(tmp_path / "data", 4)
    runs = pair(tmp_path, 5, benchmark=str(data), split="all")
    plain(runs, tmp_path / "without")
    assert b"IHDR" not in unpacked(tmp_path / "without")
    plain(runs, tmp_path / "with", pictures=Pictures())
    held = unpacked(tmp_path / "with")
    assert held.count(b"IHDR") == 3 - 1  # s0..s3 on two images; s4's image is not on this machine
    assert b"has no such sample" in held and str(tmp_path).encode() not in held
    start = held.index(b"\x89PNG")
    with Image.open(io.BytesIO(held[start:])) as first:
        assert first.size == (100, 50) and first.getpixel((10, 10)) == (255, 0, 0)


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
    text = Tags(plain([run], tmp_path / "out").read_text()).text
    p = binomtest(4, 14).pvalue  # exact McNemar; one question an image: by image it is the same
    assert "baseline 50.0 %; best claim vgrefine +15.0 [" in text and f"], p {p:.3g}, Holm {p:.3g}" in text
    assert "; control random-keep -50.0 [" in text and "; ceiling oracle +50.0 [" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_parses() -> None:
    for script in (Path(samples.__file__).parent / "templates").glob("*.js"):
        assert subprocess.run(["node", "--check", script], capture_output=True).returncode == 0


def test_a_long_report_says_how_far_it_is_on_stderr_and_a_short_one_nothing() -> None:
    said: list[str] = []
    now = [0.0]
    told = steps.Steps(steps.Log(said.append, lambda: now[0]))
    tick = told.count("maps of m, b", 100)
    for second in range(1, 101):
        now[0] = float(second)
        tick()
    told.start("tables")
    assert said == [
        "report: maps of m, b, 16 of 100 (16 s)",
        "report: maps of m, b, 48 of 100 (48 s)",
        "report: maps of m, b, 96 of 100 (96 s)",
    ]


def test_in_a_log_file_a_report_says_what_it_does(tmp_path: Path) -> None:
    (run, _) = pair(tmp_path, 3)
    often = "from vgtool.reporting import page, steps\npage.drawings = lambda *given: iter(())\n"
    done = vgtool("report", run, "--out", "out", cwd=tmp_path, pretend=f"{often}steps.FIRST = steps.MOST = 0")
    said = [re.sub(r" \(\d+ s\)$", "", line) for line in done.stderr.splitlines()]
    assert said[:2] == ["report: reading the runs", "report: tables"] and "report: the page" in said
    assert "report: maps of m, b, 3 of 3" in said and "report: samples of m, b, 3 of 3" in said


def test_in_a_terminal_a_report_says_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run, _) = pair(tmp_path, 3)
    ours, theirs = pty.openpty()
    read = list[bytes]()

    def listen() -> None:
        with suppress(OSError):  # its other end is closed
            while data := os.read(ours, 4096):
                read.append(data)

    monkeypatch.setenv("TERM", "xterm")
    listening = Thread(target=listen)
    listening.start()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(console, "err", Console(stderr=True))
        plain([run], tmp_path / "out")
        monkeypatch.undo()
    listening.join()
    os.close(ours)
    heard = b"".join(read).decode()
    assert "report: the page" in heard and "report: reading the runs (" not in heard, "one line, live"
