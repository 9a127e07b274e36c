"""The frame as csv, JSON or Parquet: every estimate with full precision, nothing rounded, no number as text."""

import io
import json
import re

import polars as pl

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would run as a formula when a csv cell starts with it."""
SIGNED = re.compile(r"[+-][0-9]")


def exported(frame: pl.DataFrame, form: str) -> bytes:
    """A frame as bytes of `csv` (empty: null), `json` (an array of objects) or `parquet`."""
    buffer = io.BytesIO()
    if form == "parquet":
        frame.write_parquet(buffer)
    elif form == "json":
        rows = frame.iter_rows(named=True)
        buffer.write(("[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n").encode())
    else:
        texts = [name for name, kind in frame.schema.items() if kind == pl.String]
        guarded = pl.col(texts).map_elements(guard, return_dtype=pl.String, skip_nulls=True)
        frame.with_columns(guarded).write_csv(buffer)
    return buffer.getvalue()


def guard(text: str) -> str:
    """Text that a spreadsheet shows and never runs; a signed number stays one."""
    return f"'{text}" if text.startswith(FORMULA) and not SIGNED.match(text) else text
