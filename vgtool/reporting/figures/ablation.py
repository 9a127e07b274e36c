"""Ablations: methods of a run that differ in one parameter alone, by their paired gain over the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from vgtool.reporting.figures.accuracy import GAIN, LEVEL, estimates
from vgtool.reporting.figures.style import (
    COLUMN,
    PAGE,
    Drawn,
    called,
    chosen,
    explain,
    label,
    panels,
    rows_of,
    series,
    shift,
    wrapped,
)
from vgtool.reporting.inputs import Source

Sweep = tuple[str, str, str]
"""Method, the parameter that varies, and the others as they were given."""
PANELS = 9
"""Parameters on one page."""


def parameters(text: str) -> tuple[str, dict[str, str]]:
    """`name:key=value,...` taken apart."""
    name, _, rest = text.partition(":")
    pairs = (pair.partition("=") for pair in rest.split(",") if "=" in pair)
    return name, {key.strip(): value.strip() for key, _, value in pairs}


def sweeps(one: Source) -> dict[Sweep, dict[str, str]]:
    """Methods of a run that differ in one parameter alone: its values, each with the method."""
    found: dict[Sweep, dict[str, str]] = {}
    for method in one.methods:
        name, given = parameters(method)
        for key, value in given.items():
            rest = ",".join(f"{k}={v}" for k, v in sorted(given.items()) if k != key)
            found.setdefault((name, key, rest), {}).setdefault(value, method)
    return {sweep: values for sweep, values in found.items() if len(values) > 1}


def ablation(refines: Sequence[Source], frame: pl.DataFrame) -> Drawn | None:
    """A panel for each method and parameter, a line for each run and setting of the others; None without any."""
    found = {(one.name, sweep): (one, values) for one in refines for sweep, values in sweeps(one).items()}
    if not found:
        return None
    swept, fewer = chosen(list(dict.fromkeys(sweep[:2] for _, sweep in found)), PANELS, "parameters")
    found = {at: own for at, own in found.items() if at[1][:2] in swept}
    runs = [one for one in refines if any(one.name == name for name, _ in found)]
    names, shared = called(runs) if len(runs) > 1 else ([""], "")
    first = {one.name: f"{name}; " if name else "" for one, name in zip(runs, names, strict=True)}
    texts = {at: first[at[0]] + label(at[1][2] or "others at their defaults") for at in found}
    legend = list(dict.fromkeys(texts.values()))
    across = min(len(swept), 3)
    width = COLUMN if across == 1 else PAGE
    down = -(-len(swept) // across)
    figure, axes = panels(width, 2.0 * down + 0.2, down, across, legend, shared)
    paired = all("baseline" in one.methods for one, _ in found.values())
    metric, said = ("gain", GAIN) if paired else ("accuracy", LEVEL)
    handles: dict[str, Any] = {}
    before = ""
    for number, (axis, (name, key)) in enumerate(zip(axes.ravel(), swept, strict=False)):
        mine = {at: found[at] for at in found if at[1][:2] == (name, key)}
        values = list(dict.fromkeys(value for _, those in mine.values() for value in those))
        numeric = all(_number(value) is not None for value in values)
        for place, (at, (one, methods)) in enumerate(mine.items()):
            style = series(legend.index(texts[at]))
            beside = 0 if numeric else shift(place, len(mine), 0.5)
            places = {v: (_number(v) or 0.0) if numeric else values.index(v) + beside for v in methods}
            rows = {value: estimates(frame, one, method).get(metric) for value, method in methods.items()}
            line = _drawn(axis, places, rows, style, numeric)
            if numeric or texts[at] not in handles:
                handles[texts[at]] = line
            plain = estimates(frame, one, name + (f":{at[1][2]}" if at[1][2] else "")).get(metric)
            if plain is not None:
                _level(axis, 100 * plain["value"], numeric, color=style["color"], lw=0.8, ls="--", zorder=0)
        if paired:
            _level(axis, 0, numeric, color="#888888", lw=0.7, ls=":", zorder=0)
        axis.set_title(wrapped(name, width / across - 0.5))
        if numeric:
            axis.set_xlabel(label(key, 30))
            if number % across == 0 or before != "numeric":
                axis.set_ylabel(said.replace("the ", "the\n"))
        else:  # names are read in lines, and stand for no place on an axis
            rows_of((axis,), [label(value, 20) for value in values])
            axis.set(xlabel=said.replace(" over the baseline", ""), ylabel=label(key, 30))
        before = "numeric" if numeric else "named"
    for axis in axes.ravel()[len(swept) :]:
        axis.set_visible(False)
    explain(figure, [handles[text] for text in legend], legend, shared)
    what = "gain over the baseline on the same rows, 95 % by image; dotted: the baseline"
    what = what if paired else "95 % Wilson"
    caption = f"Ablations: methods that differ in one parameter, {what}; dashed: its default.{fewer}"
    return Drawn("ablation", caption, figure)


def _drawn(
    axis: Any,
    places: Mapping[str, float],
    rows: Mapping[str, Mapping[str, Any] | None],
    style: Mapping[str, Any],
    numeric: bool,
) -> Any:
    """Points in their order with their intervals; a line joins numbers only, and names run down the axis."""
    known = sorted(((places[value], row) for value, row in rows.items() if row is not None), key=lambda one: one[0])
    for at, row in known:
        if row["low"] is not None:
            ends, twice = [100 * row["low"], 100 * row["high"]], [at, at]
            axis.plot(*((twice, ends) if numeric else (ends, twice)), color=style["color"], lw=0.9, alpha=0.7)
    found, values = [at for at, _ in known], [100 * row["value"] for _, row in known]
    return axis.plot(*((found, values) if numeric else (values, found)), **style, ls="-" if numeric else "none")[0]


def _level(axis: Any, value: float, numeric: bool, **style: Any) -> None:
    """A line through a panel at a value."""
    (axis.axhline if numeric else axis.axvline)(value, **style)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
