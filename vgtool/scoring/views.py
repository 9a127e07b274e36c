"""Tables for people: each a view of a table's rows of the frame, estimates as text with their intervals."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from vgtool.scoring import witness_view
from vgtool.scoring.cells import (
    Cell,
    Number,
    Row,
    Table,
    bounds,
    count,
    decimal_span,
    p_value,
    percent,
    percent_span,
)
from vgtool.scoring.frame import Estimates


def view(part: Estimates) -> Table:
    """The table of a table's estimates."""
    return VIEWS[part.table](part)


def _rows(part: Estimates, *keys: str) -> list[tuple[Row, dict[str, Row]]]:
    """The frame's rows of each key in order of appearance: the first of them, and all by metric."""
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    first: dict[tuple[Any, ...], Row] = {}
    for row in part.frame.iter_rows(named=True):
        key = tuple(row[name] for name in keys)
        first.setdefault(key, row)
        found.setdefault(key, {})[row["metric"]] = row
    return [(first[key], rows) for key, rows in found.items()]


# ---- answers -----------------------------------------------------------------------------------------------------

GAIN = ("gain [95 %, by image]", "pairs", "fixed", "broken", "p McNemar", "p by image")


def _gain(rows: Mapping[str, Row]) -> list[Cell]:
    gain = rows.get("gain")
    return [
        percent_span(gain, signed=True),
        None if gain is None else gain["n"],
        count(rows.get("fixed")),
        count(rows.get("broken")),
        p_value(gain, "p"),
        p_value(gain, "p_image"),
    ]


def accuracy(part: Estimates) -> Table:
    """A line a method (and value of the split)."""
    by, known = part.frame["field"][0], set(part.frame["metric"])
    marks = [name for name in ("right", "undecided", "unfinished", "failed") if name in known]
    out: list[list[Cell]] = []
    for first, rows in _rows(part, "level", "method"):
        share = rows["accuracy"]
        line: list[Cell] = [first["method"], share["n"], *(count(rows[name]) for name in marks)]
        line += [percent(share), bounds(share), *_gain(rows), p_value(rows.get("gain"), "p_holm")]
        out.append(line if by is None else [first["level"], *line])
    columns = ["method", "rows", *marks, "accuracy %", "95 % Wilson", *GAIN, "p Holm"]
    spare = ("pairs", *marks, "fixed", "broken", "rows", "p McNemar", "95 % Wilson")
    return Table(part.title, columns if by is None else [by, *columns], out, part.notes, spare)


def random_tokens(part: Estimates) -> Table:
    """A line for each pair of methods at the same settings."""
    out = [[f"{first['method']} - {first['against']}", *_gain(rows)] for first, rows in _rows(part, "method")]
    return Table(part.title, ["methods", *GAIN], out, part.notes, ("pairs", "fixed", "broken"))


def compared(part: Estimates) -> Table:
    """A line for each comparison asked for."""
    answers = "gain" in part.frame["metric"]
    runs = part.frame["run"].n_unique() > 1 or part.frame["against"].str.contains(", ", literal=True).any()
    out: list[list[Cell]] = []
    if answers:
        for first, rows in _rows(part, "run", "method", "against"):
            name = f"{first['run']}: {first['method']}" if runs else first["method"]
            out.append([f"{name} - {first['against']}", *_gain(rows), p_value(rows["gain"], "p_holm")])
        return Table(part.title, ["compared", *GAIN, "p Holm"], out, part.notes, ("pairs", "fixed", "broken"))
    for row in part.frame.iter_rows(named=True):
        where = "all" if row["layer"] is None else row["layer"]
        line = [f"{row['run']} - {row['against']}", MEASURES[row["metric"]], where, row["n"]]
        out.append([*line, decimal_span(row, signed=True), *(p_value(row, p) for p in ("p", "p_image", "p_holm"))])
    columns = ["compared", "measure", "layer", "samples", "difference", "p paired t", "p by image", "p Holm"]
    return Table(part.title, columns, out, part.notes, ("samples",))


def open_answers(part: Estimates) -> Table:
    """A line a method, a column a metric."""
    metrics = part.frame["metric"].unique(maintain_order=True).to_list()
    lines = _rows(part, "method")
    out = [[first["method"], first["n"], *(percent_span(rows[m]) for m in metrics)] for first, rows in lines]
    return Table(part.title, ["method", "rows", *metrics], out, part.notes, ("rows", "exact"))


def counts(part: Estimates) -> Table:
    """A line for each method, question type and group."""
    kinds = part.frame["metric"].unique(maintain_order=True).to_list()
    out = [
        [first["method"], *first["level"].split(", ", 1), first["n"], *(count(rows[kind]) for kind in kinds)]
        for first, rows in _rows(part, "method", "level")
    ]
    return Table(part.title, ["method", "question_type", "group", "rows", *kinds], out, part.notes)


def failures(part: Estimates) -> Table:
    """A line a reason."""
    out: list[list[Cell]] = [[row["level"], count(row), row["n"]] for row in part.frame.iter_rows(named=True)]
    return Table(part.title, ["reason", "failed", "of samples"], out, part.notes)


def thirds(part: Estimates) -> Table:
    """A line a method: accuracy in each third of the samples, and the highest third's less the lowest's."""
    methods: dict[str, dict[str, Row]] = {}
    for row in part.frame.iter_rows(named=True):
        methods.setdefault(row["method"], {})[row["level"] if row["against"] is None else "difference"] = row
    out = []
    for method, rows in methods.items():
        total = sum(rows[third]["n"] for third in ("lowest", "middle", "highest"))
        line: list[Cell] = [method, total, *(percent_span(rows[third]) for third in ("lowest", "middle", "highest"))]
        out.append([*line, percent_span(rows.get("difference"), signed=True)])
    columns = ["method", "rows", "lowest third", "middle third", "highest third", "highest - lowest [95 %, by image]"]
    return Table(part.title, columns, out, part.notes)


def runs(part: Estimates) -> Table:
    """Models and methods down, benchmarks across."""
    lines: dict[tuple[str, str], dict[tuple[str | None, str], Row]] = {}
    for row in part.frame.iter_rows(named=True):
        key = (row["benchmark"], "published" if row["kind"] == "published" else row["metric"])
        lines.setdefault((row["model"], row["method"]), {})[key] = row
    ours = part.frame.filter(pl.col("benchmark").is_not_null())
    marks = ours["benchmark"].unique(maintain_order=True).to_list()
    known = set(ours.filter(pl.col("kind") == "published")["benchmark"])
    columns = ["model", "method"]
    for mark in marks:
        columns += [mark, f"{mark}, published"] if mark in known else [mark]
    out = []
    for (model, method), cells in lines.items():
        line: list[Cell] = [model, method]
        for mark in marks:
            cell = cells.get((mark, "accuracy"))
            shown = percent_span(cell)
            line.append(Number(f"{shown} of {cell['n']}", shown.value) if cell and isinstance(shown, Number) else None)
            line += [percent(cells.get((mark, "published")))] if mark in known else []
        means = (cells.get((None, name)) for name in ("mean accuracy", "weighted mean accuracy"))
        out.append([*line, *map(percent, means)])
    return Table(part.title, [*columns, "plain mean", "weighted mean"], out, part.notes)


# ---- grounding ---------------------------------------------------------------------------------------------------

MEASURES = {"attention_ratio": "attention ratio", "kl": "KL", "js": "JS"}


def _spans(rows: Mapping[str, Row]) -> list[Cell]:
    return [decimal_span(rows.get(metric)) for metric in MEASURES]


def grounding(part: Estimates) -> Table:
    """A line a layer, and their mean."""
    out: list[list[Cell]] = [
        ["mean" if first["layer"] is None else first["layer"], rows["kl"]["n"], *_spans(rows)]
        for first, rows in _rows(part, "layer")
    ]
    return Table(part.title, ["layer", "samples", *MEASURES.values()], out, part.notes)


def heads(part: Estimates) -> Table:
    """A line a head, best first."""
    out: list[list[Cell]] = [
        [place, first["layer"], first["head"], rows["kl"]["n"], *_spans(rows)]
        for place, (first, rows) in enumerate(_rows(part, "layer", "head"), 1)
    ]
    return Table(part.title, ["rank", "layer", "head", "samples", *MEASURES.values()], out, part.notes)


def groups(part: Estimates) -> Table:
    """A line a value of the field."""
    out: list[list[Cell]] = [[first["level"], rows["kl"]["n"], *_spans(rows)] for first, rows in _rows(part, "level")]
    return Table(part.title, [part.frame["field"][0], "samples", *MEASURES.values()], out, part.notes)


def probes(part: Estimates) -> Table:
    """A line a run: its best layer, and the attention ratio over all layers."""
    out: list[list[Cell]] = []
    for name in part.frame["run"].unique(maintain_order=True).to_list():
        mine = part.frame.filter(pl.col("run") == name)
        best = {row["metric"]: row for row in mine.filter(pl.col("layer").is_not_null()).iter_rows(named=True)}
        over = {row["metric"]: row for row in mine.filter(pl.col("layer").is_null()).iter_rows(named=True)}
        row = best["kl"]
        line: list[Cell] = [name, row["split"], row["level"], over["kl"]["n"], row["layer"], *_spans(best)]
        out.append([*line, decimal_span(over["attention_ratio"])])
    columns = ["run", "split", "domain", "samples", "best layer", *MEASURES.values()]
    return Table(part.title, [*columns, "attention ratio, all layers"], out, part.notes, ("split",))


VIEWS: Mapping[str, Callable[[Estimates], Table]] = {
    "accuracy": accuracy,
    "random-tokens": random_tokens,
    "open": open_answers,
    "counts": counts,
    "failures": failures,
    "grounding": grounding,
    "heads": heads,
    "groups": groups,
    "probes": probes,
    "witnesses": witness_view.view,
    "thirds": thirds,
    "runs": runs,
    "against": compared,
}
