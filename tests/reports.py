"""Run folders for the tests of the report: small ones whose numbers are known, hard ones, and what a figure hides."""

import json
import math
from collections.abc import Collection, Sequence
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vgtool.reporting import page
from vgtool.reporting.figures import draw
from vgtool.reporting.figures.files import DATES
from vgtool.reporting.pack import Pack
from vgtool.runs.store import Shard, Store

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
        "prompt": f"USER: <image>\nIs there a finding {i}? Answer yes or no. ASSISTANT:",
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


WITNESSES = {"reliance": {"window": 1, "starts": [0, 1, 2], "draws": 1, "seed": 0}, "ask": {"box": {"scale": "0-1000"}}}
"""Of the identity of a probe that asks beside attention."""


def witnessed(i: int) -> Row:
    """What a probe asks beside attention: reliance but for every fifth sample; a box, said by every second."""
    rng = np.random.default_rng(1000 + i)
    outcome = ("box", "box", "none", "unreadable")[i % 4]
    said = {"box_answer": f"[{i}, 0, 500, 500]" if outcome == "box" else "no", "box_outcome": outcome, "box_said": []}
    if outcome == "box":
        said |= {"box_said": [[float(i), 2.0, 60.0, 40.0]], "box_attention_ratio": [*rng.uniform(0.5, 3, LAYERS)]}
    if outcome == "box" and i % 7 < 6:
        said |= {"box_iou": float(rng.random()), "box_centre_inside": bool(rng.random() < 0.5)}
    said |= {"boxes": [[25.0, 0.0, 50.0, 25.0]] if i % 7 < 6 else []}
    answer = {"answer": "yes" if rng.random() < 0.6 else "no", "reference": "yes", "choices": None}
    if i % 5 == 4:
        return said | answer | {"unmeasured": "no_region: the sample has neither box nor mask"}
    names = ("reliance", "reliance_random", "sufficiency")
    numbers = dict(zip(names, rng.normal((1, 0, -1), 0.5).tolist(), strict=True))
    curves = {f"{name}_curve": rng.normal(0, 1, LAYERS).tolist() for name in ("reliance", "reliance_random")}
    return said | answer | numbers | curves | {"log_probability": -0.25}


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


def schema(kind: str) -> pa.Schema:
    from vgtool.methods.probe import Probe
    from vgtool.methods.refine import Refine

    return Probe.schema if kind == "probe" else Refine.schema


def store(root: Path, kind: str, rows: Sequence[Row], **other: Any) -> Path:
    made = Store(root)
    made.open(kind, identity(kind, len({row["sample_id"] for row in rows}), **other), ["A note."])
    if rows:
        made.write(Shard(), 0, rows, schema(kind))
    return root


def pair(root: Path, samples: int = 40, **other: Any) -> list[Path]:
    return [
        store(root / "p", "probe", [probed(i) for i in range(samples)], **other),
        store(root / "r", "refine", [row for i in range(samples) for row in refined(i)], **other),
    ]


def build(runs: Sequence[Path], out: Path, kinds: Collection[str] = ("svg",), **other: Any) -> Path:
    """The report, its figures as the page's own kind of file: the fonts of a PDF take longer than the figure."""
    with patch.object(draw, "DATES", {kind: DATES[kind] for kind in kinds}):
        return page.write(list(runs), out, **{"rule": None, "partial": False, "seed": 0, **other})


def plain(runs: Sequence[Path], out: Path, **other: Any) -> Path:
    """The report without its figures, which take longest."""
    with patch.object(page, "draw", lambda given, out, workers, say: []):
        return build(runs, out, **other)


def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports have two figures of the runs' numbers, one of each width: all of them take longest."""
    monkeypatch.setattr(page, "drawings", lambda *given: islice(draw.drawings(*given), 2))


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


def nasty(root: Path) -> list[Path]:
    """Runs every text of which tries to be more than text."""
    texts = {"image_id": NASTY, "group": NASTY, "question": NASTY, "prompt": NASTY}
    probe = [probed(i) | texts | {"sample_id": f"{i}{NASTY}"} for i in range(12)]
    probe[1] = {**shared(1), **texts, "sample_id": f"1{NASTY}", "error": NASTY}
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
    if case == "no-numbers":
        names = [f"{level}_{m}" for level in ("layer", "head") for m in ("ratio", "kl", "js")]
        bare = {name: [math.nan] * (LAYERS if name.startswith("layer") else LAYERS * HEADS) for name in names}
    return [store(root / "p", "probe", [probed(i) | bare for i in range(4)])]


def small_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every page's data lie beside it, as that of a large one does."""
    original = Pack.__init__

    def made(self: Pack, folder: Path, inline: int = 10, **other: Any) -> None:
        original(self, folder, inline, **other)

    monkeypatch.setattr(Pack, "__init__", made)


class Tags(HTMLParser):
    """Every tag with the names of its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
