"""Accuracy of every method, whole and split, against the baseline on the same rows; and every count."""

from collections.abc import Sequence

import polars as pl

from vgtool.methods.names import role_of
from vgtool.scoring import paired
from vgtool.scoring.frame import Estimates, Row, framed
from vgtool.scoring.runs import Scored
from vgtool.scoring.statistics import LEAST_CHANGED, wilson


def accuracy(one: Scored, by: str | None = None, seed: int = 0) -> Estimates:
    """Accuracy per method (and value of `by`) with a Wilson interval, and its gain over the baseline."""
    rows, out = one.rows, list[Row]()
    for value in [None] if by is None else sorted(rows[by].drop_nulls().unique().to_list()):
        some = rows if by is None else rows.filter(pl.col(by) == value)
        base = some.filter((pl.col("method") == "baseline") & (pl.col("outcome") != "failed"))
        for method in one.methods:
            mine = some.filter(pl.col("method") == method)
            own = one.columns("accuracy") | {"method": method, "kind": one.role(method), "field": by, "level": value}
            out += [own | row for row in levels(mine, one.outcomes)]
            counted = mine.filter(pl.col("outcome") != "failed")
            pairs = base.join(counted, on="sample_id", suffix="_b") if method != "baseline" else base.clear()
            if pairs.height:
                out += [own | row for row in paired.answers(pairs, "baseline", seed)]
    frame = framed(paired.corrected(out))
    split = "" if by is None else f" by {by.replace('_', ' ')}"
    return Estimates(f"Accuracy{split}, {one.title}", frame, (*_notes(one), *_gain_notes(one, frame)))


def levels(rows: pl.DataFrame, outcomes: Sequence[str]) -> list[Row]:
    """Accuracy of rows of one method, and the counts of its outcomes but wrong: of the rows that have an answer, failed
    of all rows."""
    counted = rows.filter(pl.col("outcome") != "failed")
    n, images, apart = counted.height, counted["image_id"].n_unique(), ("wrong", "failed")
    of = {outcome: int((rows["outcome"] == outcome).sum()) for outcome in outcomes}
    low, high = wilson(of["right"], n) if n else (None, None)
    share = {"value": of["right"] / n if n else None, "low": low, "high": high}
    return [
        {"metric": "accuracy", "n": n, "images": images, **share},
        *({"metric": name, "n": n, "images": images, "value": of[name]} for name in outcomes if name not in apart),
        {"metric": "failed", "n": rows.height, "images": rows["image_id"].n_unique(), "value": of["failed"]},
    ]


def counts(one: Scored) -> Estimates:
    """Every count: by method, question type and group."""
    fields = ["method", "question_type", "group"]
    rows = one.rows.with_columns(pl.col(name).fill_null("") for name in fields)
    each = ((pl.col("outcome") == name).sum().alias(name) for name in one.outcomes)
    found = rows.group_by(fields).agg(pl.len().alias("n"), *each)
    out = [
        one.columns("counts")
        | {"method": row["method"], "kind": one.role(row["method"]), "field": "question_type, group"}
        | {"level": f"{row['question_type']}, {row['group']}", "metric": name, "n": row["n"], "value": row[name]}
        for row in found.sort(fields).iter_rows(named=True)
        for name in one.outcomes
    ]
    return Estimates(f"Counts, {one.title}", framed(out), tuple(one.judging()))


def _notes(one: Scored) -> list[str]:
    notes = [*one.judging(), *one.run.notes, *failures(one)]
    if one.unanswered:
        notes.append(f"{one.unanswered} samples have no reference and are not scored.")
    for method in one.methods:
        if one.role(method) == "ceiling" and (lacking := _lacking(one, method)):
            notes.append(f"{method} leaves out {lacking} samples, which have no box.")
    if "baseline" not in one.methods and len(one.methods) > 1:
        notes.append(
            "No method is called baseline, so no gain is shown: --against NAME compares every method with one of "
            f"{', '.join(one.methods)}."
        )
    return notes


def _lacking(one: Scored, method: str) -> int:
    """Samples that other methods have rows of, and this one has not."""
    mine = one.rows.filter(method=method)["sample_id"].n_unique()
    return one.rows["sample_id"].n_unique() - mine if mine else 0


def _gain_notes(one: Scored, frame: pl.DataFrame) -> list[str]:
    least = frame.filter(pl.col("metric") == "smallest_gain").sort("value", maintain_order=True)
    if not least.height:
        return []
    first = least.row(0, named=True)
    where = first["method"] if first["level"] is None else f"{first['method']}, {first['level']}"
    few = first["n"] is not None and first["n"] < LEAST_CHANGED
    told = f"{100 * first['value']:.1f} points ({where})" if not few else f"none, in {first['n']} rows ({where})"
    return [
        f"Gain: against the baseline on the same rows. {paired.PAIRED_NOTE} Holm corrects the larger p of each method "
        "over this table; controls and the oracle are no claims and stay out. Smallest gain that could be told from "
        f"chance, uncorrected: {told}.",
        *_declared(one),
    ]


def _declared(one: Scored) -> list[str]:
    """Controls and ceilings by what their packages say, which their names do not tell."""
    said = one.run.recorded.get("roles", {})
    own = [f"{m} is a {role}" for m, role in said.items() if role in ("control", "ceiling") and role != role_of(m)]
    return [f"By their packages {' and '.join(own)}: no claims."] if own else []


def reasons(one: Scored) -> Estimates | None:
    """How many samples failed, under any method, for each reason, the most frequent first, an example of each as a
    note; None without any."""
    errors = _errors(one)
    if not errors.len():
        return None
    codes = errors.str.split(":").list.first()
    samples = one.rows["sample_id"].n_unique()
    out: list[Row] = []
    notes = []
    for code, count in codes.value_counts(sort=True).sort("count", "error", descending=[True, False]).iter_rows():
        own = {"field": "error", "level": code, "metric": "failed", "n": samples, "value": count}
        out.append(one.columns("failures") | own)
        notes.append(f"For example: {errors.filter(codes == code)[0][:200]}")
    return Estimates(f"Failed samples of the {one.run.kind} run, {one.title}", framed(out), tuple(notes))


def _errors(one: Scored) -> pl.Series:
    """Why samples failed, each reason of a sample once."""
    failed = one.rows.filter(pl.col("error").is_not_null())
    return failed.unique(["sample_id", "error"], maintain_order=True)["error"]


def failures(one: Scored) -> list[str]:
    """Why samples failed, under any method, the most frequent reason first; what a malformed row holds is quoted."""
    errors = _errors(one)
    if not errors.len():
        return []
    codes = errors.str.split(":").list.first().value_counts(sort=True).rows()
    told = "Failed samples: " + ", ".join(f"{count} {code}" for code, count in codes) + "."
    bad = errors.filter(errors.str.starts_with("malformed_row: ")).str.strip_prefix("malformed_row: ")
    common = bad.value_counts(sort=True).head(3).rows()
    return [told, *(f"{count} samples: {text}." for text, count in common)]
