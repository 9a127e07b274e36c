"""Tables on paper: how small their letters are, and whether their words can stay whole."""

from collections.abc import Sequence

from vgtool.scoring.cells import Cell, Table

PAGE = 690
"""CSS pixels between the margins of A4, the narrower paper, less a few."""
WORD = 16
"""Letters of the longest word that is kept whole; longer ones (names of methods, files) break where they must."""
SMALL = 12
"""Columns from which on letters are smaller."""
LETTER = {False: 6.0, True: 5.3}
"""CSS pixels of a letter, usual and small, at the width of bold ones."""
PADDING = 8


def text(cell: Cell) -> str:
    """A cell as the page shows it."""
    return "–" if cell is None else str(cell)


def word(shown: str) -> int:
    """Letters of the longest word that is kept whole, 0 for a cell that has a longer one."""
    longest = max(map(len, shown.split()), default=0)
    return longest if longest <= WORD else 0


def kinds(table: Table) -> str:
    """Classes of a table: `small`, and `whole` where its words fit the page unbroken."""
    small = len(table.columns) > SMALL
    columns: Sequence[Sequence[Cell]] = list(zip(table.columns, *table.rows, strict=True))
    letters = sum(max(word(text(cell)) for cell in column) for column in columns)
    fits = LETTER[small] * letters + PADDING * len(columns) <= PAGE
    return " ".join(name for name, holds in (("small", small), ("whole", fits)) if holds)


def kind(shown: str) -> str:
    """Classes of a cell: `short`, on one line of a window, and `whole`, on paper no word is broken."""
    return " ".join(name for name, holds in (("short", len(shown) < 48), ("whole", word(shown))) if holds)
