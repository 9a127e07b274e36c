"""Hard cases for figures, as run folders, and what a figure must not do: text over text, lines or bars over text.

    python tests/hard.py DIR      draws every figure of every case into DIR, to be looked at
"""

import json
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image, ImageDraw
from reports import Row, build, store

from vgtool.reporting.album import Pictures
from vgtool.reporting.figures.draw import laid_out

SIZES = {"wide": (120, 60), "tall": (40, 160), "square": (90, 90)}
MODEL = "a-model-with-a-rather-long-name-7b-instruct-v1.5"
SETTINGS = [f"vgrefine:percentile={p}" for p in (20, 40, 60, 80)]
SETTINGS += [f"vgrefine:percentile=60,top_k={k}" for k in (1, 5, 10, 20)]
SETTINGS += [f"vgrefine:combine={name}" for name in ("mean", "maximum", "intersection", "geometric-mean")]
RIVALS = ["pai", "adaptvis", "vicrop", "random-keep", "random-heads", "centre", "swap", "oracle", "no-image"]


def benchmark(root: Path, samples: int) -> Path:
    """Colour images of three shapes: an eye ground's orange disc, a brown tall one, and a green square."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(samples):
        kind = list(SIZES)[i % 3]
        picture = Image.new("RGB", SIZES[kind], {"wide": "#301008", "tall": "#a06a4a", "square": "#2a6b3c"}[kind])
        pen = ImageDraw.Draw(picture)
        pen.ellipse([5, 5, min(picture.size) - 5, min(picture.size) - 5], fill="#e07a30")
        pen.ellipse([12, 20, 22, 30], fill="#fff0b0")
        picture.save(root / f"{i}.png")
        lines.append({"id": f"s{i}", "image": f"{i}.png", "question": "q?", "answer": "yes", "question_type": "closed"})
    for name in ("own.jsonl", "natural.jsonl", "another-benchmark.jsonl"):
        (root / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root / "own.jsonl"


def common(i: int, side: int) -> Row:
    width, height = list(SIZES.values())[i % 3]
    longest = max(width, height)
    x, y = (longest - width) / 2, (longest - height) / 2  # padded to a square
    groups = ("CT", "MRI of the brain with contrast", "Colour fundus photography", "眼底", "X-ray")
    question = f"Is there a finding {i}, and if there is one, in which of the two lungs does it lie, left or right?"
    return {
        "sample_id": f"s{i}",
        "image_id": f"i{i}",
        "group": groups[i % 5],
        "question_type": "closed",
        "question": question,
        "prompt": f"USER: <image>\n{question} ASSISTANT:",
        "width": width,
        "height": height,
        "grid_rows": side,
        "grid_cols": side,
        "grid_box": [-x, -y, width + x, height + y],
        "boxes": [[8.0, 18.0, 26.0, 34.0]],
        "region": [side],
        "error": None,
    }


def looked(i: int, layers: int, heads: int, side: int = 8, domain: str = "medical", null: int = 0) -> Row:
    """Attention that grows into the picture with the layer; every `null`-th layer is read as nothing, and the peak of
    every fifth sample lies in the padding."""
    rng = np.random.default_rng(i)
    maps = rng.gamma(0.4, size=(layers, side, side)).astype(np.float32)
    hot = (0, 0) if i % 5 == 0 else (side // 2, side // 3)
    maps[:, hot[0], hot[1]] += np.linspace(0, 12, layers, dtype=np.float32)
    depth = np.arange(layers)
    bend = np.exp(-(((depth - 0.6 * layers) / (0.2 * layers)) ** 2))
    ratio = 0.6 + (1.4 if domain == "medical" else 3) * bend + rng.normal(0, 0.15, layers)
    kl = 3.5 - (1 if domain == "medical" else 2) * bend + rng.normal(0, 0.1, layers)
    row: dict[str, Any] = {}
    for name, values in (("ratio", ratio), ("kl", kl), ("js", kl / 8)):
        values = np.where(depth % null == 1, np.nan, values) if null else values
        row[f"layer_{name}"] = values.tolist()
        spread = np.random.default_rng(7).normal(0, 0.5, layers * heads)
        row[f"head_{name}"] = (np.repeat(values, heads) + spread).tolist()
    if null:
        maps[depth % null == 1] = 0
    flat = {"attention": maps.ravel(), "general_attention": np.ones(maps.size, np.float32)}
    return common(i, side) | {"domain": domain} | row | flat


def answered(i: int, methods: list[str], side: int = 8) -> list[Row]:
    rows = []
    for at, method in enumerate(methods):
        rng = np.random.default_rng(1000 * i + at)
        right = rng.random() < 0.5 + 0.03 * (at % 6)
        kept = sorted(rng.choice(side * side, side * side // 2, replace=False).tolist())
        hides = method.startswith(("vgrefine", "random-keep"))
        own = {"reference": "yes", "method": method, "answer": "yes" if right else "no", "confidence": 0.7}
        masks = {"kept": kept if hides else None, "triage": rng.random(side * side, np.float32) if hides else None}
        rows.append(common(i, side) | own | masks)
    return rows


def runs(root: Path, case: str) -> list[Path]:
    """The run folders of a case."""
    data = {"model": MODEL, "benchmark": str(benchmark(root / "data", 60)), "split": "all"}
    many = ["baseline", "vgrefine", *RIVALS]

    def probe(name: str, samples: int, layers: int = 28, heads: int = 16, null: int = 0, **other: Any) -> Path:
        domain = "natural" if "natural" in name else "medical"
        rows = [looked(i, layers, heads, domain=domain, null=null) for i in range(samples)]
        return store(root / name, "probe", rows, **data | other)

    def refine(name: str, samples: int, methods: list[str], **other: Any) -> Path:
        rows = [row for i in range(samples) for row in answered(i, methods)]
        return store(root / name, "refine", rows, methods=methods, **data | {"heads": [[3, 1], [20, 7]]} | other)

    if case == "many-methods":
        return [probe("p", 60), refine("r", 60, many)]
    if case == "two-runs":
        twice = [probe("p-bf16", 40, dtype="bfloat16"), probe("p-f32", 40, dtype="float32")]
        twice += [probe("natural", 40, benchmark=str(root / "data" / "natural.jsonl"), dtype="float32")]
        answers = [refine(f"r-{kind}", 60, many[:4], dtype=kind) for kind in ("bfloat16", "float32")]
        other = refine("other", 30, many[:3], benchmark=str(root / "data" / "another-benchmark.jsonl"))
        return [*twice, *answers, other]
    if case == "one-sample":
        return [probe("p", 1), refine("r", 1, many)]
    if case == "ablations":
        return [refine("r", 60, ["baseline", "vgrefine", *SETTINGS])]
    if case == "deep":
        return [probe("p", 24, layers=60, heads=4, null=4), probe("natural", 24, layers=60, heads=4, null=4)]
    if case == "crowded":
        swept = ["baseline", *(f"pai:p{k}={v}" for k in range(12) for v in (1, 2)), *(f"m{k}" for k in range(20))]
        names = [root / "data" / f"set-{at}.jsonl" for at in range(4)]
        for name in names:
            name.write_bytes((root / "data" / "own.jsonl").read_bytes())
        many = ["baseline", "pai", "adaptvis", "vicrop", "random-heads", "oracle", "swap", "centre", "no-image"]
        marks = [refine(f"b{at}", 2, many, benchmark=str(name)) for at, name in enumerate(names)]
        grouped = [row | {"group": f"Modality number {i % 24}"} for i in range(24) for row in answered(i, many)]
        whole = store(root / "g", "refine", grouped, methods=many, **data)
        return [whole, *marks, refine("s", 2, swept, benchmark=str(root / "data" / "another-benchmark.jsonl"))]
    raise ValueError(case)


CASES = ("many-methods", "two-runs", "one-sample", "ablations", "deep", "crowded")


def draw(root: Path, case: str, out: Path) -> Path:
    """The report of a case, with pictures."""
    return build(runs(root / case, case), out / case, pictures=Pictures())


# ---- faults of a figure ------------------------------------------------------------------------------------------


def faults(figure: Figure) -> list[str]:
    """Texts that lie over one another, beside the figure, or under a picture, a line, a dot or a bar of any panel."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    laid_out(figure)
    figure.draw_without_rendering()  # places what a legend holds
    unseen = {id(text) for axis in figure.axes for text in _outside(axis)}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and _seen(text)]
    texts = [text for text in texts if id(text) not in unseen]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-0.5)) for text in texts]
    page = figure.bbox.padded(1)
    found = [
        f"'{text}' beside the figure"
        for text, box in boxes
        if box.x0 < page.x0 or box.y0 < page.y0 or box.x1 > page.x1 or box.y1 > page.y1
    ]
    found += [f"'{a}' over '{b}'" for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]
    for axis in figure.axes:
        if not axis.get_visible():
            continue
        for line in (one for one in axis.lines if isinstance(one, Line2D) and one.get_visible()):
            path = line.get_path().transformed(line.get_transform())
            if len(path.vertices):
                clip = axis.bbox
                found += [
                    f"a line over '{text}'"
                    for text, box in boxes
                    if box.overlaps(clip) and path.intersects_bbox(box, filled=False)
                ]
        for picture in axis.images:
            area = picture.get_window_extent(renderer).padded(-0.5)
            found += [f"a picture over '{text}'" for text, box in boxes if box.overlaps(area)]
        for patch in axis.patches:
            box_ = patch.get_window_extent(renderer)
            found += [f"a bar over '{text}'" for text, box in boxes if box.overlaps(box_) and patch.get_fill()]
        for collection in axis.collections:
            area = collection.get_window_extent(renderer)
            found += [f"an area over '{text}'" for text, box in boxes if box.overlaps(axis.bbox) and box.overlaps(area)]
    return found


def _outside(axes: Any) -> Iterator[Any]:
    """Labels of ticks that are not drawn because they lie beyond what an axis shows."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        slack = 1e-6 * (high - low)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            if not low - slack <= tick.get_loc() <= high + slack:
                yield from (tick.label1, tick.label2)


def _seen(text: Text) -> bool:
    """Whether a text is drawn: it and everything that holds it."""
    if not text.get_text().strip() or not text.get_visible():
        return False
    axes = getattr(text, "axes", None)
    return axes is None or axes.get_visible()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for name in sys.argv[2:] or CASES:
        sys.stdout.write(f"{draw(target / 'runs', name, target)}\n")
