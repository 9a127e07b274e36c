"""A table as terminal text, markdown, or LaTeX (booktabs) that fits a page's width."""

import re
from collections.abc import Sequence
from pathlib import Path

import rich.table
from rich.console import Group, RenderableType
from rich.text import Text

from vgtool.console import clean
from vgtool.errors import VgError, did_you_mean
from vgtool.scoring.views import Cell, Number, Table

SHOWN = ("table", "markdown", "latex")
DATA = ("csv", "json", "parquet")
FORMATS = (*SHOWN, *DATA)
SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".md": "markdown", ".tex": "latex", ".txt": "table"}
MARKDOWN = {c: f"\\{c}" for c in "\\`|<>![]"} | {"\n": " "}
LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}"}
PAGE = 397.0
"""Points of a page's width: 5.5 inches, the narrowest common text block of one column."""
SMALL, GAP = 9.0, 12.0
"""Points of LaTeX's \\small in a 10 pt document, and between two columns."""
NARROW, WIDE = frozenset("iljtfrI.,:;'|!()[] -"), frozenset("mwMW%@+=<>~")
EXPONENT = re.compile(r"(-?[\d.]+)e([+-])0*(\d+)")
MINUS = re.compile(r"(?<![\w.$])-(?=\d)")


def check_format(form: str) -> str:
    """The format, or a VgError that suggests one."""
    if form not in FORMATS:
        raise VgError(f"No format '{form}'.", did_you_mean(form, FORMATS))
    return form


def format_of(form: str | None, out: Path | None) -> str:
    """The format asked for, else what the file's ending says; `table` where there is no ending. VgError for another
    ending: what opens it (.xlsx, .html) would not open a table's text."""
    if form is not None:
        return check_format(form)
    if out is None or not out.suffix:
        return "table"
    if found := SUFFIXES.get(out.suffix.lower()):
        return found
    raise VgError(f"'{out}' does not end in {', '.join(SUFFIXES)}.", "Name the file so, or say which --format it has.")


def chosen(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    """The tables with only the columns of these names, in their order, after the first, which says what a row is about.
    A table that has none of them, or only the first of several, is left out. A name is a column's, or its beginning up
    to a blank (`gain`). VgError for a name that no table has."""
    if not names:
        return list(tables)
    known = list(dict.fromkeys(column for table in tables for column in table.columns))
    for name in names:
        if not any(_means(name, column) for column in known):
            raise VgError(f"No column '{name}' in these tables.", did_you_mean(name, known))
    out = []
    for table in tables:
        places = [at for name in names for at, column in enumerate(table.columns) if _means(name, column)]
        if any(places) or (places and len(names) == 1):
            out.append(_only(table, list(dict.fromkeys(places if 0 in places else [0, *places]))))
    return out


def _means(name: str, column: str) -> bool:
    name, column = name.casefold(), column.casefold()
    return column == name or (column.startswith(f"{name} ") and not column[len(name) + 1].isalpha())


def _only(table: Table, places: Sequence[int]) -> Table:
    columns = [table.columns[at] for at in places]
    return Table(table.title, columns, [[row[at] for at in places] for row in table.rows], table.notes)


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
    """All tables as `table`, `markdown` or `latex`."""
    one = {"table": _plain, "markdown": _markdown, "latex": _latex}[form]
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


# ---- LaTeX -------------------------------------------------------------------------------------------------------


def _latex(table: Table) -> str:
    """booktabs at \\small, without the columns that a page has no room for, which a comment names."""
    kept, dropped = _fitting(table)
    numbers = [all(not isinstance(row[at], str) for row in kept.rows) for at in range(len(kept.columns))]
    spec = "".join("r" if number else "l" for number in numbers)
    head = [f"% {table.title}".replace("\n", " "), r"{\small", rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}", r"\toprule"]
    rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in kept.rows]
    body = [" & ".join(map(_latex_text, kept.columns)) + r" \\", r"\midrule", *rows, r"\bottomrule", r"\end{tabular}}"]
    notes = [f"Columns left out for width: {', '.join(dropped)}. --column chooses."] if dropped else []
    if _width(kept) > PAGE:
        notes.append(f"About {_width(kept) / 72.27:.1f} inches wide: fewer columns with --column.")
    return "\n".join([*head, *body, *(f"% {note}".replace("\n", " ") for note in (*notes, *table.notes)), ""])


def _latex_text(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in text.replace("\n", " "))


def _latex_cell(cell: Cell) -> str:
    text = _latex_text(_text(cell))
    if not isinstance(cell, Number):
        return text
    text = EXPONENT.sub(lambda m: rf"${m[1]}\times10^{{{m[2].strip('+')}{m[3]}}}$", text)
    return MINUS.sub("$-$", text)


def _fitting(table: Table) -> tuple[Table, list[str]]:
    """The table without its spare columns, the sparest first, until it fits; and their names."""
    kept, dropped = table, list[str]()
    for name in table.spare:
        if _width(kept) <= PAGE:
            break
        kept = _only(kept, [at for at, column in enumerate(kept.columns) if column != name])
        dropped.append(name)
    return kept, dropped


def _width(table: Table) -> float:
    """About how many points a table takes."""
    columns = [[name, *(_text(row[at]) for row in table.rows)] for at, name in enumerate(table.columns)]
    return sum(max(map(_points, column)) for column in columns) + GAP * (len(columns) - 1)


def _points(text: str) -> float:
    """About how many points a text takes in Computer Modern at \\small: never fewer than it does."""
    ems = sum(0.40 if c in NARROW else 0.95 if c in WIDE else 0.76 if c.isupper() else 0.53 for c in text)
    return SMALL * ems
