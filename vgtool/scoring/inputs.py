"""What is scored: run folders of probe and refine, or a plain file of predictions; only the columns asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from vgtool.benchmarks.options import either_or, right_option
from vgtool.benchmarks.tables import is_data
from vgtool.errors import VgError
from vgtool.runs.parts import told_damaged
from vgtool.runs.store import Store
from vgtool.scoring import thinking
from vgtool.scoring.answers import check_rule, judge
from vgtool.scoring.predictions import COLUMNS, read_predictions

ANSWERS = COLUMNS


@dataclass(frozen=True)
class Run:
    """A run's identity and rows, one per (sample, method)."""

    path: Path
    kind: str
    identity: dict[str, Any]
    rows: pl.DataFrame
    notes: tuple[str, ...] = ()
    """What a reader of its numbers must know: unfinished, parts left out."""
    recorded: Mapping[str, Any] = field(default_factory=dict)
    """What run.json keeps for a reader and a resume may change: roles of methods, the checkpoint's folder."""


def kind_of(path: Path) -> str:
    """`probe` or `refine` (a predictions file counts as one)."""
    return "refine" if _is_file(path) else Store(path).read()["kind"]


def _is_file(path: Path) -> bool:
    """A file of predictions, or meant as one; a run folder may end like a file."""
    return path.is_file() or (is_data(path.name) and not path.is_dir())


def read_run(path: Path, columns: Sequence[str], partial: bool = False) -> Run:
    """Rows of a run folder or predictions file. VgError, unless `partial`, when parts are damaged or samples missing;
    always when two parts disagree on a sample."""
    if _is_file(path):
        return Run(path, "refine", *read_predictions(path))
    store = Store(path)
    record = store.read()
    kind, identity = record["kind"], record["identity"]
    keys = ["sample_id", "method"] if kind == "refine" else ["sample_id"]
    frames, bad = store.frames(list(dict.fromkeys([*keys, *columns])))
    notes = []
    if bad:
        what = told_damaged(path, bad)
        if not partial:
            raise VgError(f"{what}.", "Run the same command again to recompute them, or give --partial.")
        notes.append(f"{what}; their rows are left out.")
    if not frames:
        raise VgError(f"'{path}' holds no rows yet.", "Let the run finish.")
    rows = _once(frames, keys, path)
    missing = identity.get("rows", 0) - rows["sample_id"].n_unique()
    if missing > 0:
        what = f"'{path}' lacks {missing} of {identity['rows']} samples"
        if not partial:
            marks = sorted(mark.name for mark in (path / "done").glob("*"))
            done = f"finished shards: {', '.join(marks)}" if marks else "no shard has finished"
            raise VgError(f"{what} ({done}).", "Finish it with the same command, or give --partial.")
        notes.append(f"Partial: {what}.")
    elif lacking := _lacking(rows, identity):
        method, count = lacking
        what = f"'{path}' lacks '{method}' on {count} of {identity['rows']} samples"
        if not partial:
            raise VgError(f"{what}.", f"Run it again with --method {method}, or give --partial.")
        notes.append(f"Partial: {what}.")
    return Run(path, kind, identity, rows, (*record["notes"], *notes), record["recorded"])


def _lacking(rows: pl.DataFrame, identity: dict[str, Any]) -> tuple[str, int] | None:
    """The first method of a run that has not answered every sample, and how many it lacks."""
    if "settings" not in identity:
        return None
    counted = dict(rows.group_by("method").len().iter_rows())
    short = ((method, identity["rows"] - counted.get(method, 0)) for method in identity["methods"])
    return next(((method, count) for method, count in short if count > 0), None)


def _once(frames: Sequence[pl.DataFrame], keys: list[str], path: Path) -> pl.DataFrame:
    """The rows, each (sample, method) once. Two processes on one shard leave equal rows; unequal ones are refused."""
    try:
        rows = pl.concat(frames)
    except pl.exceptions.PolarsError as error:
        raise VgError(
            f"Parts of '{path}' differ in their columns' types: {error}.", "They are not of one run."
        ) from None
    if not rows.select(keys).is_duplicated().any():  # most runs: no copy of their numbers is made
        return rows
    compared = [name for name in ("answer", "error", "layer_kl") if name in rows.columns]
    uneven = rows.filter(pl.struct(keys).is_duplicated()).unique([*keys, *compared]).group_by(keys).len()
    uneven = uneven.filter(pl.col("len") > 1).sort(keys)
    if uneven.height:
        raise VgError(
            f"Parts of '{path}' disagree on {uneven.height} rows, sample '{uneven['sample_id'][0]}' among them.",
            "Parts of two different runs were mixed; keep one run's.",
        )
    return rows.unique(keys, keep="first", maintain_order=True)


def judged(run: Run, rule: str | None) -> pl.DataFrame:
    """The rows of a refine run with `outcome`: right, wrong, undecided, unfinished or failed. Rows without a reference
    (hidden test answers, VGMED) are left out; `unanswered` counts them. So are those that a method leaves out by design
    (the oracle's without boxes), which have neither an answer nor an error."""
    name = check_rule(rule or run.identity.get("rule", "strict"))
    known: dict[Any, str] = {}
    outcomes = []
    form = thinking.of(run.identity)
    columns = ["answer", "reference", "question_type", "choices", "question", "error"]
    rows = run.rows.filter(~_no_reference() & (pl.col("answer").is_not_null() | pl.col("error").is_not_null()))
    for answer, reference, kind, choices, question, error in rows.select(columns).iter_rows():
        if error is not None:
            outcomes.append("failed")
            continue
        if form is not None:
            answer = thinking.final(answer or "", **form)
            if answer is None:
                outcomes.append("unfinished")
                continue
        if kind == "closed" and not choices:
            choices = either_or(question or "")
            if choices and right_option(reference or "", choices) is None:
                choices = None
        key = (answer, reference, kind, None if choices is None else tuple(choices))
        if key not in known:
            known[key] = judge(answer or "", reference or "", kind, choices, name)
        outcomes.append(known[key])
    return rows.with_columns(pl.Series("outcome", outcomes, pl.String))


def unanswered(run: Run) -> int:
    """Samples that ran but have no reference to be judged by."""
    return run.rows.filter(_no_reference())["sample_id"].n_unique()


def _no_reference() -> pl.Expr:
    return pl.col("error").is_null() & (pl.col("reference").fill_null("").str.strip_chars() == "")
