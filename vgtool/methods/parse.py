"""`--method NAME:key=value,...` -> a method, its parameters checked by name and type.

Packages outside add methods through the entry point group `vgtool.methods`, each a dataclass as in vgtool.methods.base.
"""

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vgtool.errors import VgError, did_you_mean
from vgtool.methods import cai, pictures, rivals, var, vcd, vgrefine
from vgtool.methods.base import Method

BUILT_IN: Sequence[type[Any]] = (
    vgrefine.VGRefine,
    rivals.Pai,
    rivals.AdaptVis,
    rivals.ViCrop,
    vcd.Vcd,
    var.Var,
    cai.Cai,
    vgrefine.RandomKeep,
    vgrefine.RandomHeads,
    vgrefine.Centre,
    vgrefine.Oracle,
    vgrefine.Swap,
    vgrefine.Invert,
    pictures.Blank,
    pictures.Noise,
    pictures.NoImage,
)


def known() -> Mapping[str, type[Any]]:
    """Every method by name."""
    outside = [point.load() for point in entry_points(group="vgtool.methods")]
    return {kind.name: kind for kind in (*BUILT_IN, *outside)}


def parse(text: str) -> Method:
    """The method a string names. VgError quotes what is wrong in it."""
    name, _, rest = text.partition(":")
    kinds = known()
    if name == "baseline":
        raise VgError("The baseline is always answered.", "Leave --method baseline out.")
    if name not in kinds:
        raise VgError(f"No method '{name}'.", did_you_mean(name, kinds))
    kind = kinds[name]
    hints = get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        key = key.strip()
        if key not in fields:
            raise VgError(f"--method {name} has no parameter '{key}'.", did_you_mean(key, fields) or "It takes none.")
        if not equals or key in values:
            raise VgError(f"--method {text}: '{pair}' is not one key=value.", "Write NAME:key=value,key=value.")
        values[key] = _value(f"--method {name}: {key}", value.strip(), fields[key])
    return kind(**values)


def _value(where: str, text: str, kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(option for option in get_args(kind) if option is not type(None))
    try:
        if get_origin(kind) is Literal:
            if text not in get_args(kind):
                raise VgError(
                    f"{where}={text}: not one of {', '.join(get_args(kind))}.", did_you_mean(text, get_args(kind))
                )
            return text
        if get_origin(kind) is tuple:
            return tuple(int(part) for part in text.split("+"))
        value = kind(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
    except ValueError:
        wanted = (
            "layers as 16 or 34+35+36" if get_origin(kind) is tuple else {int: "a whole number"}.get(kind, "a number")
        )
        raise VgError(f"{where}={text} is not {wanted}.", "`vgtool methods` lists parameters and defaults.") from None
