"""A table as terminal text, markdown, LaTeX (booktabs), CSV or JSON."""

import csv
import io
import json
import re
from collections.abc import Sequence

import rich.table
from rich.console import Group, RenderableType
from rich.text import Text

from vgtool.console import clean
from vgtool.errors import VgError, did_you_mean
from vgtool.scoring.tables import Cell, Table

FORMATS = ("table", "markdown", "latex", "csv", "json")
MARKDOWN = {c: f"\\{c}" for c in "\\`|<>![]"} | {"\n": " "}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run as a formula when a csv cell starts with it."""
SIGNED = re.compile(r"[+-][0-9]")
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}


def check_format(form: str) -> str:
    """The format, or a VgError that suggests one."""
    if form not in FORMATS:
        raise VgError(f"No format '{form}'.", did_you_mean(form, FORMATS))
    return form


def for_terminal(table: Table, width: int) -> RenderableType:
    """Drawn where it fits the terminal; else plain lines, which wrap but lose nothing."""
    plain = _plain(table)
    rule = next(line for line in plain.splitlines() if line.startswith("--"))
    drawn = len(rule) + len(table.columns) + 1
    return rich_table(table) if drawn <= width else Text(clean(plain))


def rich_table(table: Table) -> RenderableType:
    """A table with lines around its cells."""
    drawn = rich.table.Table(title=Text(clean(table.title)), title_justify="left", title_style="bold", expand=False)
    for column in table.columns:
        drawn.add_column(Text(column), overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(clean(_text(cell))) for cell in row))
    return Group(drawn, *(Text(clean(note), style="dim") for note in table.notes), Text(""))


def render(tables: Sequence[Table], form: str) -> str:
    """All tables in one form. VgError for an unknown one."""
    check_format(form)
    if form == "json":
        return json.dumps(
            [
                {
                    "title": t.title,
                    "rows": [dict(zip(t.columns, r, strict=True)) for r in t.rows],
                    "notes": list(t.notes),
                }
                for t in tables
            ],
            indent=1,
        )
    one = {"table": _plain, "markdown": _markdown, "latex": _latex, "csv": _csv}[form]
    return "\n".join(one(table) for table in tables)


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell)


def _plain(table: Table) -> str:
    lines = [list(table.columns), *[[_text(cell) for cell in row] for row in table.rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([table.title, "", body[0], "-" * sum(w + 2 for w in widths), *body[1:], "", *table.notes, ""])


def _markdown(table: Table) -> str:
    def line(cells: Sequence[Cell]) -> str:
        return "| " + " | ".join("".join(MARKDOWN.get(x, x) for x in _text(c)) for c in cells) + " |"

    head = [f"**{table.title}**", "", line(table.columns), line(["---"] * len(table.columns))]
    return "\n".join([*head, *map(line, table.rows), "", *table.notes, ""])


def _latex(table: Table) -> str:
    def line(cells: Sequence[Cell]) -> str:
        return " & ".join("".join(LATEX.get(c, c) for c in _text(cell)) for cell in cells) + r" \\"

    head = [f"% {table.title}".replace("\n", " "), rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule"]
    body = [line(table.columns), r"\midrule", *map(line, table.rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*head, *body, *(f"% {note}" for note in table.notes), ""])


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_cell(cell) for cell in row] for row in table.rows)
    return buffer.getvalue()


def _cell(cell: Cell) -> str:
    """Text that a spreadsheet shows and never runs; a signed number stays one."""
    text = _text(cell)
    return f"'{text}" if text.startswith(FORMULA) and not SIGNED.match(text) else text
