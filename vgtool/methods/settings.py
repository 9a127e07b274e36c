"""Every parameter of every method of a run, for run.json: what must be the same for a run to go on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vgtool.errors import VgError
from vgtool.methods.base import UNKNOWN, Facts, Method
from vgtool.methods.names import NAMES

RANDOM = ("random-keep", "random-heads", "noise", "swap", "vcd")
"""Built-in methods that draw random numbers: for them the seed counts."""


def settings(methods: Mapping[str, Method], facts: Facts) -> dict[str, dict[str, Any]]:
    """Label -> its parameters, defaults included, and of the heads, knockout layers and seed those that it uses;
    without methods that cannot be told before the model's sizes are."""
    found = {}
    for label, method in methods.items():
        values = dataclasses.asdict(method)  # type: ignore[call-overload]
        outside = method.name not in NAMES  # what a package adds may use anything
        if outside or (hasattr(method, "heads") and method.name != "random-heads"):
            heads = method.heads(facts) if hasattr(method, "heads") else facts.ranked
            values["heads"] = [list(pair) for pair in heads]
        if outside or hasattr(method, "edited"):
            try:
                layers = method.edited(facts) if hasattr(method, "edited") else facts.knockout_layers
            except VgError:
                if facts.layers < UNKNOWN:
                    raise
                continue  # told in full when the model is loaded, and its layers are counted
            values["knockout_layers"] = sorted(layers)
        if outside or method.name in RANDOM:
            values["seed"] = facts.seed
        found[label] = values
    return found
