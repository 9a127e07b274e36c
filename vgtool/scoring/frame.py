"""The frame of results: one row an estimate, the same columns and types whatever was estimated.

Every table, of the terminal, of markdown and LaTeX and of the report's page, is a view of such rows
(`vgtool.scoring.views`); csv, JSON and Parquet carry them as they are (`vgtool.scoring.export`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from vgtool.errors import VgError, did_you_mean
from vgtool.scoring.tables import TABLES

SCHEMA: Mapping[str, pl.DataType] = {
    "table": pl.String(),
    "run": pl.String(),
    "model": pl.String(),
    "benchmark": pl.String(),
    "split": pl.String(),
    "protocol": pl.String(),
    "row": pl.String(),
    "rule": pl.String(),
    "method": pl.String(),
    "kind": pl.String(),
    "against": pl.String(),
    "field": pl.String(),
    "level": pl.String(),
    "layer": pl.Int32(),
    "head": pl.Int32(),
    "metric": pl.String(),
    "n": pl.Int64(),
    "images": pl.Int64(),
    "value": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "p": pl.Float64(),
    "p_image": pl.Float64(),
    "p_holm": pl.Float64(),
}
"""Columns of the frame, described in docs/files.md."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Estimates:
    """One table: its rows of the frame, its title, and what a reader must know."""

    title: str
    frame: pl.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> str:
        """Its name among TABLES."""
        return str(self.frame["table"][0])


def framed(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a frame of SCHEMA; columns that a row lacks, and numbers that are not finite, are null."""
    found = pl.DataFrame(list(rows), schema=dict(SCHEMA), orient="row")
    floats = [name for name, kind in SCHEMA.items() if kind == pl.Float64()]
    return found.with_columns(pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats)


def joined(parts: Sequence[Estimates]) -> pl.DataFrame:
    """All rows of several tables in one frame."""
    return pl.concat([framed([]), *(part.frame for part in parts)])


def check_tables(names: Sequence[str]) -> frozenset[str]:
    """The names, or a VgError that suggests one."""
    for name in names:
        if name not in TABLES:
            raise VgError(f"No table '{name}'.", did_you_mean(name, TABLES))
    return frozenset(names)


def span(values: Sequence[float]) -> Row:
    """value, low and high of a row, from (mean, low, high)."""
    return dict(zip(("value", "low", "high"), map(float, values), strict=True))
