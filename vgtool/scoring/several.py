"""Several runs of answers in one table: models and methods down, benchmarks across, published figures beside ours (the
paper's main, ablation and rival tables)."""

import csv
from collections.abc import Sequence
from importlib import resources
from itertools import combinations

import polars as pl

from vgtool.errors import VgError
from vgtool.scoring.accuracy import levels
from vgtool.scoring.frame import Estimates, Row, framed
from vgtool.scoring.names import model_key
from vgtool.scoring.runs import Scored

ROWS = ("split", "protocol", "rows", "data_digest", "rule")
ENGINE = ("attention", "box_mapping", "dtype", "heads")
Key = tuple[str, str, str]
"""Model, method, benchmark."""


def together(runs: Sequence[Scored], allow_mixed: bool) -> Estimates:
    """Accuracy of every run's methods, and the plain and weighted mean over benchmarks of those that have all.

    VgError when runs of one benchmark or one model differ in what they measured; labelled with `allow_mixed`.
    """
    results = [
        {method: levels(one.rows.filter(pl.col("method") == method), one.outcomes)[0] for method in one.methods}
        for one in runs
    ]
    differing = _differing(runs, results, allow_mixed)
    labels = [_label(one, names) for one, names in zip(runs, differing, strict=True)]
    found: dict[Key, Row] = {}
    for one, label, result in zip(runs, labels, results, strict=True):
        for method, row in result.items():
            own = one.columns("runs") | {"model": label, "method": method, "kind": one.role(method)} | row
            found.setdefault((label, method, own["benchmark"]), own)
    marks = list(dict.fromkeys(one.run.identity["benchmark"] for one in runs))
    plain = {label: str(one.run.identity["model"]) for one, label in zip(runs, labels, strict=True)}
    known = published()
    shown = [
        {key: own[key] for key in ("table", "model", "benchmark", "method")}
        | {"kind": "published", "metric": "accuracy", "value": known[plain[label], method, mark]}
        for (label, method, mark), own in found.items()
        if (plain[label], method, mark) in known
    ]
    notes = [
        "Accuracy %, 95 % Wilson, rows; failed samples are left out. Plain mean: of benchmarks; weighted: of all rows."
    ]
    notes += [f"{one.title}: {note}" for one in runs for note in (*one.judging(), *one.run.notes)]
    if shown:
        notes.append("Published: the paper's figures, whose rows, prompts and rule may differ; not measured here.")
    rows = [*found.values(), *shown, *_means(found, marks)]
    return Estimates("Accuracy of all runs", framed(rows), tuple(notes))


def _means(found: dict[Key, Row], marks: Sequence[str]) -> list[Row]:
    """Means over benchmarks of what ran on all of them."""
    out: list[Row] = []
    for label, method in dict.fromkeys((label, method) for label, method, _ in found):
        mine = [found[label, method, mark] for mark in marks if (label, method, mark) in found]
        if len(mine) < len(marks) or not all(row["n"] for row in mine):
            continue
        rows = sum(row["n"] for row in mine)
        own = {"table": "runs", "model": label, "method": method, "kind": mine[0]["kind"], "n": rows}
        weighted = sum(row["value"] * row["n"] for row in mine) / rows
        out.append(own | {"metric": "mean accuracy", "value": sum(row["value"] for row in mine) / len(mine)})
        out.append(own | {"metric": "weighted mean accuracy", "value": weighted})
    return out


def _differing(runs: Sequence[Scored], results: Sequence[dict[str, Row]], allow_mixed: bool) -> list[list[str]]:
    """What each run measured otherwise than another one of its benchmark or model; `run` where only the results do."""
    found: list[list[str]] = [[] for _ in runs]
    for (a, one), (b, two) in combinations(enumerate(runs), 2):
        names = _differences(one, two)
        mine, other = one.run.identity, two.run.identity
        if names and not allow_mixed:
            name = names[0]
            raise VgError(
                f"'{one.run.path}' and '{two.run.path}' differ in {name}: {mine.get(name)} and {other.get(name)}.",
                "Score them apart, compare them with --against, or give --allow-mixed to label them.",
            )
        if not names and one.names.model == two.names.model and mine["benchmark"] == other["benchmark"]:
            both = results[a].keys() & results[b].keys()
            clash = sorted(m for m in both if results[a][m] != results[b][m])
            if clash and not allow_mixed:
                raise VgError(
                    f"'{one.run.path}' and '{two.run.path}' both have {clash[0]} on {mine['benchmark']}, with other "
                    "results.",
                    "Name one of them only, compare them with --against, or give --allow-mixed to label them.",
                )
            names = ["run"] if clash else []
        for at in (a, b):
            found[at] += [name for name in names if name not in found[at]]
    return found


def _differences(one: Scored, two: Scored) -> list[str]:
    """Names of the identity that must not differ in one table, and do."""
    mine, other = one.run.identity, two.run.identity
    files = one.run.path.is_file() and two.run.path.is_file()
    rows = mine["benchmark"] == other["benchmark"] and not files
    names = [name for name in ROWS if rows and not (name == "rule" and one.rule == two.rule)]
    names += [name for name in ENGINE if model_key(one.run) == model_key(two.run)]
    return [name for name in names if mine.get(name) != other.get(name)]


def _label(one: Scored, differing: Sequence[str]) -> str:
    """The model, and where runs differ what in."""
    i = one.run.identity
    said = [", ".join(one.names.apart) if name == "run" else f"{name}={str(i.get(name))[:12]}" for name in differing]
    return ", ".join([one.names.model, *filter(None, said)])


def published() -> dict[Key, float]:
    """(model, method, benchmark) -> accuracy, as a share, in the paper's tables."""
    text = (resources.files("vgtool.scoring") / "published.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return {(r["model"], r["method"], r["benchmark"]): float(r["accuracy"]) / 100 for r in rows}
