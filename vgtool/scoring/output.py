"""Where results go: to the terminal, to a pipe, or into a file."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vgtool import console
from vgtool.errors import VgError
from vgtool.scoring import render
from vgtool.scoring.export import exported
from vgtool.scoring.score import Results
from vgtool.scoring.views import view


def deliver(results: Results, form: str, out: Path | None, columns: Sequence[str]) -> None:
    """Print results in a form, or write them as `out`. What a reader must know of the runs is under each table, and is
    said on stderr beside data."""
    if form in render.DATA:
        if columns:
            raise VgError(f"--column chooses columns of tables, not of {form}.", "Leave --column or --format out.")
        _data(exported(results.frame, form), form, out)
        for note in dict.fromkeys(results.notes):  # runs of one name may have the same to say
            console.warn(note)
        return
    tables = render.chosen([view(part) for part in results.tables], columns)
    if out is not None:
        _write(out, render.render(tables, form).encode())
    elif form == "table" and console.out.is_terminal:
        for table in tables:
            console.out.print(render.for_terminal(table, console.out.width), soft_wrap=True)
    else:
        console.show(render.render(tables, form))


def _data(data: bytes, form: str, out: Path | None) -> None:
    if out is not None:
        _write(out, data)
    elif form != "parquet":
        console.show(data.decode().rstrip("\n"))
    elif console.out.is_terminal:
        raise VgError("Parquet is no text for a terminal.", "Give --out FILE.parquet, or pipe it on.")
    else:
        sys.stdout.buffer.write(data)


def _write(out: Path, data: bytes) -> None:
    try:
        out.write_bytes(data)
    except OSError as error:
        raise VgError(f"Cannot write '{out}': {error.strerror}.", "Choose another --out.") from None
    console.say(f"Written to {out}.")
