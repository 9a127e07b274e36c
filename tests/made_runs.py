"""Run folders of answers and of probes whose numbers tests work out by other means, and how tests read tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vgtool.methods.probe import Probe
from vgtool.methods.refine import Refine
from vgtool.runs.store import Shard, Store
from vgtool.scoring import accuracy as accuracies
from vgtool.scoring.runs import Scored, read
from vgtool.scoring.views import Number, Table, view

IDENTITY = {"model": "m", "revision": "r", "benchmark": "b", "split": "test", "protocol": "default", "rule": "strict"}
IDENTITY |= {"data_digest": "d", "attention": "shared"}


def refine_run(root: Path, answers: dict[str, list[str]], **identity: Any) -> Path:
    """A run whose references are all yes, two rows an image; an answer "failed" is a failed row."""
    samples = len(next(iter(answers.values())))
    rows = [
        {"sample_id": f"s{i}", "method": method, "error": "image_missing: gone"}
        if text == "failed"
        else {
            "sample_id": f"s{i}",
            "image_id": f"i{i // 2}",
            "group": "CT" if i % 2 else "MRI",
            "question_type": "closed",
            "question": "Is it?",
            "reference": "yes",
            "method": method,
            "answer": text,
        }
        for method, given in answers.items()
        for i, text in enumerate(given)
    ]
    store = Store(root)
    store.open("refine", IDENTITY | {"methods": list(answers), "rows": samples} | identity, [])
    store.write(Shard(), 0, rows, Refine.schema)
    return root


def probe_run(root: Path, ratios: list[float]) -> Path:
    rows = [
        {
            "sample_id": f"s{i}",
            "image_id": f"i{i // 2}",
            "domain": "medical",
            **{f"layer_{name}": [5.0, ratio] for name in ("ratio", "js")},
            "layer_kl": [9.0, 1.0],
            **{f"head_{name}": [5.0, 5.0, ratio, ratio] for name in ("ratio", "kl", "js")},
        }
        for i, ratio in enumerate(ratios)
    ]
    store = Store(root)
    store.open("probe", IDENTITY | {"rows": len(ratios)}, [])
    store.write(Shard(), 0, rows, Probe.schema)
    return root


def cells(table: Table, column: str) -> list[Any]:
    """A column's cells as they are shown; counts as numbers."""
    found = [row[list(table.columns).index(column)] for row in table.rows]
    return [str(cell) if isinstance(cell, Number) else cell for cell in found]


def one(path: Path) -> Scored:
    return read([path], None, False)[0]


def accuracy(path: Path) -> Table:
    return view(accuracies.accuracy(one(path)))


SAMPLES, LAYERS, HEADS = 48, 3, 2
METHODS = ("baseline", "vgrefine", "random-keep", "oracle", "pai")


def answered(root: Path, seed: int, **identity: Any) -> Path:
    """A run of five methods on 48 samples, three an image, right by chance; a few rows failed."""
    rng = np.random.default_rng(seed)
    answers = {
        method: ["failed" if rng.random() < 0.05 else "yes" if rng.random() < share else "no" for _ in range(SAMPLES)]
        for method, share in zip(METHODS, (0.5, 0.7, 0.55, 0.9, 0.5), strict=True)
    }
    return refine_run(root, answers, **identity)


def looked(
    root: Path,
    seed: int,
    layers: int = LAYERS,
    more: Callable[[int], dict[str, Any]] = lambda sample: {},
    **identity: Any,
) -> Path:
    """A probe of these samples; `more`: further columns of each."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(SAMPLES):
        row: dict[str, Any] = {"sample_id": f"s{i}", "image_id": f"i{i // 2}", "domain": "medical"}
        row |= {"group": "CT" if i % 2 else "MRI", "question_type": "closed"}
        for name, scale in (("ratio", 3.0), ("kl", 5.0), ("js", 0.6)):
            row[f"layer_{name}"] = [*rng.random(layers) * scale]
            row[f"head_{name}"] = [*rng.random(layers * HEADS) * scale]
        if i % 7 == 0:
            row["layer_kl"][0] = row["layer_ratio"][0] = None
        rows.append(row | more(i))
    store = Store(root)
    store.open("probe", IDENTITY | {"rows": SAMPLES} | identity, [])
    store.write(Shard(), 0, rows, Probe.schema)
    return root


def raw(run: Path) -> pd.DataFrame:
    """A run's rows as another library reads them."""
    return pd.concat([pd.read_parquet(part) for part in (run / "parts").glob("*.parquet")])
