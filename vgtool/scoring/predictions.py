"""Any tool's answers: a plain file with question_type, reference and answer, and where there are any sample_id,
image_id, choices, method, group and question. A row that cannot be scored counts as failed and says why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from vgtool.benchmarks.options import by_either, options_of
from vgtool.benchmarks.references import accepted, reference_of
from vgtool.benchmarks.tables import Malformed, read_rows, refuse_half
from vgtool.errors import SampleError, VgError
from vgtool.records import QUESTION_TYPES

NEEDED = ("question_type", "reference", "answer")
COLUMNS = [
    *("sample_id", "image_id", "group", "question_type", "question"),
    *("choices", "reference", "method", "answer", "error"),
]
NO_IMAGES = "No image_id: every row counts as an image of its own, so 'by image' means by row here."


def read_predictions(path: Path) -> tuple[dict[str, Any], pl.DataFrame, tuple[str, ...]]:
    """Identity, rows and notes. VgError for a file without a row, or without what a row needs."""
    raw = list(read_rows(path))
    known = list(dict.fromkeys(key for row in raw if isinstance(row, dict) for key in row))
    if lacking := [name for name in NEEDED if name not in known]:
        broken = [row.problem for row in raw if isinstance(row, Malformed)]
        has = f"its columns are {', '.join(known)[:200]}" if known else f"its rows are {(*broken, 'none')[0]}"
        raise VgError(
            f"'{path}' has no column {', '.join(lacking)}: {has}.",
            f"Call its columns {', '.join(NEEDED)}, and so on; question_type is closed, choice or open.",
        )
    methods = list(dict.fromkeys(_method(row) for row in raw if not isinstance(row, Malformed)))
    made = []
    for at, row in enumerate(raw, 1):
        made += [_failed(row, at, one) for one in methods] if isinstance(row, Malformed) else [_prediction(row, at)]
    schema = {name: pl.List(pl.String) if name == "choices" else pl.String for name in COLUMNS}
    table = pl.DataFrame(made, schema=schema, orient="row")
    twice = table.filter(table.select("sample_id", "method").is_duplicated())["sample_id"]
    if twice.len():
        raise VgError(f"'{path}' has sample '{twice[0]}' twice for one method.", "Give each row its own sample_id.")
    methods.sort(key=lambda name: name != "baseline")
    identity: dict[str, Any] = {"model": path.stem, "benchmark": "predictions", "split": "file", "protocol": "none"}
    identity |= {"rule": "strict", "methods": methods, "rows": len(raw)}
    return identity, table, () if "image_id" in known else (NO_IMAGES,)


def _failed(row: Malformed, number: int, method: str) -> dict[str, Any]:
    """A line that cannot be read may be any method's: it is a failure of each."""
    blank = dict.fromkeys(COLUMNS, "") | {"choices": None, "method": method}
    return blank | {"sample_id": f"row-{number}", "image_id": f"row-{number}", "error": f"malformed_row: {row.problem}"}


def _prediction(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    error: str | None = None
    choices: tuple[str, ...] = ()
    reference = ""
    kind = _text(row, "question_type").strip().lower()
    try:
        if kind not in QUESTION_TYPES:
            found = _text(row, "question_type")
            raise SampleError("malformed_row", f"question_type '{found}' is none of {', '.join(QUESTION_TYPES)}")
        choices = options_of(row.get("choices"))
        if kind == "choice" and not choices:
            raise SampleError("malformed_row", "a choice question without choices")
        reference = reference_of(row.get("reference"))
        if kind == "choice" and reference:
            reference = reference_of([by_either(choices, one) for one in accepted(reference)])
        refuse_half(reference, *choices)
    except SampleError as fault:
        error, choices, reference = str(fault), (), ""
    sample = _text(row, "sample_id") or f"row-{number}"
    return {
        "sample_id": sample,
        "image_id": _text(row, "image_id") or sample,
        "group": _text(row, "group"),
        "question_type": kind,
        "question": _text(row, "question"),
        "choices": list(choices) or None,
        "reference": reference,
        "method": _method(row),
        "answer": _text(row, "answer"),
        "error": error,
    }


def _method(row: Mapping[str, Any]) -> str:
    return _text(row, "method") or "answers"


def _text(row: Mapping[str, Any], name: str) -> str:
    """A field as text; nothing for nothing, a truth value as yes or no, 3.0 as 3. Text stays as it is written."""
    value = row.get(name)
    if isinstance(value, str):
        return value
    return reference_of(value) if isinstance(value, (bool, int, float)) or value is None else str(value)
