"""The summary of a report: a line for each run, its main number as the tables have it."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from vgtool.reporting.inputs import Source
from vgtool.scoring.views import Cell, Table


def summary(read: Sequence[Source], frame: pl.DataFrame) -> Table:
    """A line for each run: what it holds, and its main number out of the frame."""
    lines: list[list[Cell]] = []
    for one in read:
        rows, i = one.run.rows, one.run.identity
        failed = rows.filter(pl.col("error").is_not_null())["sample_id"].n_unique()
        main = _refined if one.run.kind == "refine" else _probed
        said = main(one, frame) if one.samples else "no rows"
        lines.append([one.number, one.run.kind, one.name, i.get("split"), one.samples, failed, said])
    columns = ["no.", "kind", "run", "split", "samples", "failed", "in short"]
    notes = [f"{one.name}: {note}" for one in read for note in one.run.notes]
    return Table("Summary", columns, lines, list(dict.fromkeys(notes)))


def _refined(one: Source, frame: pl.DataFrame) -> str:
    """The baseline, the claim of greatest gain beside random tokens, and the ceiling, each named as what it is."""
    mine = (pl.col("table") == "accuracy") & pl.col("field").is_null() & (pl.col("run") == one.name)
    rows = frame.filter(mine & pl.col("value").is_not_null())
    levels = {row["method"]: row["value"] for row in rows.filter(pl.col("metric") == "accuracy").iter_rows(named=True)}
    if not levels:
        return "no answer to score"
    gains = rows.filter(pl.col("metric") == "gain").sort("value", descending=True, maintain_order=True)
    claim = gains.filter(pl.col("kind") == "claim").head(1)
    random = gains.filter(pl.col("method").str.starts_with("random-keep")).head(1)
    ceiling = gains.filter(pl.col("kind") == "ceiling").head(1)
    said = [f"baseline {100 * levels['baseline']:.1f} %"] if "baseline" in levels else []
    for word, few in (("best claim", claim), ("control", random), ("ceiling", ceiling)):
        said += [f"{word} {_gained(row)}" for row in few.iter_rows(named=True)]
    if not gains.height:
        said += [f"{method} {100 * level:.1f} %" for method, level in levels.items() if method != "baseline"]
    return "; ".join(said)


def _gained(row: Mapping[str, Any]) -> str:
    """A method's paired gain in points, its interval (from two images on) and the larger p, with Holm's for a claim."""
    ends = "" if row["low"] is None else f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    holm = "" if row["p_holm"] is None else f", Holm {row['p_holm']:.3g}"
    return f"{row['method']} {100 * row['value']:+.1f}{ends}, p {max(row['p'], row['p_image']):.3g}{holm}"


def _probed(one: Source, frame: pl.DataFrame) -> str:
    """How many samples were measured, and the attention ratio at the best layer."""
    if not one.measured.height:
        return "no grounding metric: no boxes, or none that the model sees"
    if one.best is None:
        return f"{one.measured.height} measured, no finite metric"
    mine = (pl.col("table") == "grounding") & (pl.col("run") == one.name) & (pl.col("layer") == one.best)
    (row,) = frame.filter(mine & (pl.col("metric") == "attention_ratio")).iter_rows(named=True)
    ends = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
    ratio = "no attention ratio" if row["value"] is None else f"attention ratio {row['value']:.2f}{ends}"
    return f"{one.measured.height} measured, {ratio} at layer {one.best}"
