"""What `vgtool methods` shows: each method, its role, and every parameter with its type, default and help."""

import dataclasses
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vgtool.methods.names import role_of
from vgtool.methods.parse import known

NAMES = {int: "whole number", float: "number", str: "text"}


def rows() -> list[dict[str, Any]]:
    """One mapping per method, built in or from an installed package; defaults as JSON values."""
    found = []
    for name, kind in known().items():
        role = getattr(kind, "role", role_of(name))
        found.append({"method": name, "what": kind.summary, "role": role, "parameters": _parameters(kind)})
    return found


def _parameters(kind: type[Any]) -> list[dict[str, Any]]:
    hints = get_type_hints(kind)
    return [
        {
            "name": field.name,
            "type": said(hints[field.name]),
            "default": None if field.default is dataclasses.MISSING else field.default,
            "help": field.metadata.get("help", ""),
        }
        for field in dataclasses.fields(kind)
    ]


def said(kind: Any) -> str:
    """A parameter's type, as one would write its value."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(said(one) for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "whole numbers, as 16 or 34+35+36"
    return NAMES.get(kind, str(kind))
