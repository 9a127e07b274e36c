"""Tables of run folders: accuracy by method with paired tests, grounding by layer. Reads only the columns it needs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vgtool.errors import VgError, did_you_mean
from vgtool.scoring.answers import check_rule, judge
from vgtool.scoring.statistics import clustered_mean, holm, mcnemar, wilson

ANSWERS = ["sample_id", "image_id", "group", "question_type", "choices", "reference", "method", "answer", "error"]
METRICS = ("layer_ratio", "layer_kl", "layer_js")
Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """One table: a title, named columns, rows, and what a reader must know."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A run folder's identity and rows."""

    path: Path
    kind: str
    identity: dict[str, Any]
    rows: pl.DataFrame


def read_run(path: Path, columns: Sequence[str], partial: bool = False) -> Run:
    """Rows of a run folder, one per (sample, method). VgError when it is unfinished and `partial` is off."""
    try:
        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        kind, identity = record["kind"], record["identity"]
    except OSError:
        raise VgError(f"'{path}' is no run folder: it has no run.json.", "Name the --out of a run.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise VgError(f"'{path / 'run.json'}' is damaged: {error}.", "Restore it, or run again.") from None
    parts = sorted((path / "parts").glob("*.parquet"))
    keys = ["sample_id", "method"] if kind == "refine" else ["sample_id"]
    try:
        frames = [pl.read_parquet(part, columns=list(dict.fromkeys([*keys, *columns]))) for part in parts]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise VgError(f"A part of '{path}' cannot be read: {error}.", "Delete that part and run again.") from None
    if not frames:
        raise VgError(f"'{path}' holds no rows yet.", "Let the run finish.")
    rows = pl.concat(frames).unique(keys, keep="first", maintain_order=True)
    missing = identity.get("rows", 0) - rows["sample_id"].n_unique()
    if missing > 0 and not partial:
        raise VgError(f"'{path}' lacks {missing} of {identity['rows']} samples.", "Finish it, or give --partial.")
    return Run(path, kind, identity, rows)


def kind_of(path: Path) -> str:
    """`probe` or `refine`."""
    return read_run(path, ["sample_id"], partial=True).kind


def judged(run: Run, rule: str | None) -> pl.DataFrame:
    """The rows of a refine run with `outcome`; failed rows are `failed`."""
    name = check_rule(rule or run.identity.get("rule", "strict"))
    outcomes = [
        "failed"
        if row["error"] is not None
        else judge(row["answer"], row["reference"], row["question_type"], row["choices"], name)
        for row in run.rows.select(ANSWERS).iter_rows(named=True)
    ]
    return run.rows.with_columns(pl.Series("outcome", outcomes, pl.String))


def accuracy(run: Run, rule: str | None = None, by: str | None = None, seed: int = 0) -> Table:
    """Accuracy per method (and value of `by`) with a Wilson interval, and against the baseline on the same rows."""
    rows = judged(run, rule)
    if by is not None and by not in rows.columns:
        raise VgError(f"No field '{by}' to split by.", did_you_mean(by, ["group", "question_type"]))
    out: list[list[Cell]] = []
    tests: list[tuple[int, float]] = []
    splits = [None] if by is None else sorted(rows[by].drop_nulls().unique().to_list())
    for value in splits:
        some = rows if by is None else rows.filter(pl.col(by) == value)
        base = some.filter(pl.col("method") == "baseline")
        for method in run.identity["methods"]:
            mine = some.filter(pl.col("method") == method)
            counted = mine.filter(pl.col("outcome") != "failed")
            right = int((counted["outcome"] == "right").sum())
            low, high = wilson(right, counted.height)
            line: list[Cell] = [] if value is None else [value]
            line += [method, counted.height, right, int((counted["outcome"] == "undecided").sum())]
            line += [mine.height - counted.height, _pc(right / max(counted.height, 1)), f"{_pc(low)} to {_pc(high)}"]
            if method == "baseline":
                out.append([*line, None, None, None, None, None])
                continue
            pairs = base.filter(pl.col("outcome") != "failed").join(counted, on="sample_id", suffix="_b")
            was, now = (pairs[c].to_numpy() == "right" for c in ("outcome", "outcome_b"))
            fixed, broken = int((now & ~was).sum()), int((was & ~now).sum())
            change = (
                clustered_mean(now.astype(float) - was, pairs["image_id"].to_list(), seed=seed) if len(was) else None
            )
            span = (
                None if change is None else f"{_pc(change[0], True)} [{_pc(change[1], True)}, {_pc(change[2], True)}]"
            )
            tests.append((len(out), mcnemar(fixed, broken)))
            out.append([*line, span, fixed, broken, tests[-1][1], None])
    for (at, p), adjusted in zip(tests, holm([p for _, p in tests]), strict=True):
        out[at][-2:] = [f"{p:.3g}", f"{adjusted:.3g}"]
    columns = ["method", "rows", "right", "undecided", "failed", "accuracy %", "95 % Wilson"]
    columns += ["gain [95 %, by image]", "fixed", "broken", "p McNemar", "p Holm"]
    notes = [
        f"Rule: {rule or run.identity.get('rule', 'strict')}. Undecided counts as wrong; failed rows are left out.",
        "Gain against the baseline on the same rows; its interval draws whole images. McNemar is exact and takes rows "
        "as independent; Holm corrects over this table.",
    ]
    title = f"Accuracy, {run.identity['model']} on {run.identity['benchmark']} ({run.identity['split']})"
    return Table(title, [*([] if by is None else [by]), *columns], out, notes)


def grounding(run: Run, seed: int = 0) -> Table:
    """Mean AR, KL and JS per layer with intervals over images."""
    good = run.rows.filter(pl.col("error").is_null() & pl.col("layer_ratio").is_not_null())
    if not good.height:
        raise VgError(f"'{run.path}' has no sample with a grounding metric.", "Probe a benchmark with boxes.")
    images = good["image_id"].to_numpy()
    values = {m: np.array(good[m].to_list(), dtype=np.float64) for m in METRICS}
    out: list[list[Cell]] = []
    for layer in range(values[METRICS[0]].shape[1]):
        line: list[Cell] = [layer]
        for metric in METRICS:
            column = values[metric][:, layer]
            known = np.isfinite(column)
            if not known.any():
                line.append(None)
                continue
            mean, low, high = clustered_mean(column[known], images[known].tolist(), seed=seed)
            line.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        out.append(line)
    failed = run.rows.filter(pl.col("error").is_not_null())
    notes = [
        f"{good.height} samples; {failed.height} failed; {run.rows.height - good.height - failed.height} without boxes."
    ]
    notes.append(
        "Attention ratio 1 is uniform, higher is better; KL and JS lower is better. 95 % bootstrap over images."
    )
    title = f"Grounding, {run.identity['model']} on {run.identity['benchmark']} ({run.identity['split']})"
    return Table(title, ["layer", "attention ratio", "KL", "JS"], out, notes)


def score(inputs: Sequence[Path], *, rule: str | None, by: str | None, partial: bool, seed: int) -> list[Table]:
    """Tables of run folders, in the order given."""
    if rule is not None:
        check_rule(rule)
    tables = []
    for path in inputs:
        if kind_of(path) == "refine":
            run = read_run(path, ANSWERS, partial)
            tables += [accuracy(run, rule, None, seed), *([accuracy(run, rule, by, seed)] if by else [])]
        else:
            tables.append(grounding(read_run(path, ["image_id", "error", *METRICS], partial), seed))
    return tables


def _pc(share: float, signed: bool = False) -> str:
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
