"""What tables for people are made of: a title, columns, and cells that are text or keep the number they stand for.

A cell that stands for a number keeps it, for sorting: `Number.value` is what the frame holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the frame as it is shown."""

    text: str
    value: float

    def __str__(self) -> str:
        return self.text


Cell = str | int | float | Number | None
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """One table: a title, named columns, rows, and what a reader must know."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=list)
    spare: Sequence[str] = ()
    """Columns that a narrow page can do without, the sparest first."""


def percent(row: Row | None, signed: bool = False) -> Cell:
    """A share in per cent."""
    if row is None or row["value"] is None:
        return None
    return Number(_pc(row["value"], signed), row["value"])


def percent_span(row: Row | None, signed: bool = False) -> Cell:
    """A share in per cent with its interval; alone where there is none."""
    if row is None or row["value"] is None:
        return None
    text = _pc(row["value"], signed)
    if row["low"] is not None:
        text += f" [{_pc(row['low'], signed)}, {_pc(row['high'], signed)}]"
    return Number(text, row["value"])


def bounds(row: Row) -> Cell:
    """An interval alone."""
    return None if row["low"] is None else f"{_pc(row['low'])} to {_pc(row['high'])}"


def decimal_span(row: Row | None, signed: bool = False) -> Cell:
    """A plain number with its interval."""
    if row is None or row["value"] is None:
        return None
    form = "+.3f" if signed else ".3f"
    text = format(row["value"], form)
    if row["low"] is not None:
        text += f" [{row['low']:{form}}, {row['high']:{form}}]"
    return Number(text, row["value"])


def p_value(row: Row | None, name: str) -> Cell:
    """A p value, three digits."""
    return None if row is None or row[name] is None else Number(f"{row[name]:.3g}", row[name])


def count(row: Row | None) -> Cell:
    """A count."""
    return None if row is None or row["value"] is None else round(row["value"])


def _pc(share: float, signed: bool = False) -> str:
    return f"{100 * share:+.1f}" if signed else f"{100 * share:.1f}"
