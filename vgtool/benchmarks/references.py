"""Right answers as files write them: text, number, truth value, or a list of accepted ones."""

import ast
import json
import math

from vgtool.errors import SampleError

NOTHING = ("", "nan")
"""Texts, in small letters, that stand for no reference at all in tables written by pandas and others."""


def reference_of(value: object) -> str:
    """A reference as text: several accepted ones as a JSON list, none as nothing. 3.0 is 3, true is yes, NaN is none.
    SampleError for what cannot be a reference."""
    if isinstance(value, str) and (listed := _listed(value)) is not None:
        value = listed
    if not isinstance(value, (list, tuple)):
        return _one(value)
    found = list(dict.fromkeys(one for each in value if (one := _one(each))))
    return found[0] if len(found) == 1 else json.dumps(found, ensure_ascii=False) if found else ""


def accepted(reference: str) -> tuple[str, ...]:
    """The answers that a reference accepts: those of a JSON list of texts, else itself."""
    if reference.startswith('["') and reference.endswith('"]'):
        try:
            found = json.loads(reference)
        except ValueError:
            return (reference,)
        if all(isinstance(one, str) for one in found):
            return tuple(found)
    return (reference,)


def _one(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, str):
        return "" if value.strip().lower() in NOTHING else value.strip()
    raise SampleError("malformed_row", f"the reference {str(value)[:60]} is no text, number or list of these")


def _listed(text: str) -> list[str] | None:
    """The texts of a list that a string spells as JSON or Python; None for any other string."""
    text = text.strip()
    if text[:2] not in ('["', "['") or text[-2:] not in ('"]', "']"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return found
    return None
