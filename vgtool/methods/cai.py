"""CAI, context-aware attention intervention (Lei et al. 2026, arXiv 2606.29847, ECCV 2026): attention tilted to image
tokens that are like the text, only in deep layers that are not sure of the next token.

As in the released code (vgtool.attention.tilt), with its evaluation's defaults: layers after 25 of 32 (in proportion),
threshold 0.15, no guidance. The original's scripts choose layer, threshold and a guidance for each benchmark; none of
that is done here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from vgtool.attention.asks import Change, Rows
from vgtool.errors import VgError
from vgtool.methods.base import Facts, Plan, Scenes


@dataclass(frozen=True, kw_only=True)
class Cai:
    """Attention to image tokens like the text, where a deep layer is unsure."""

    name: ClassVar[str] = "cai"
    summary: ClassVar[str] = "rival: image attention follows the text where a layer is unsure (Lei et al. 2026)"

    threshold: float = field(default=0.15, metadata={"help": "entropy, in ln 10, above which a layer is unsure"})
    start: int | None = field(
        default=None, metadata={"help": "first layer looked at; the next may be tilted; 25 of 32 in proportion"}
    )

    def layers(self, facts: Facts) -> tuple[int, frozenset[int]]:
        """The first layer looked at, and those that may be tilted."""
        start = min(25 * facts.layers // 32, facts.layers - 2) if self.start is None else self.start
        layers = frozenset(layer for layer in facts.readable if start < layer)
        if start < 0 or not layers:
            raise VgError(f"cai: start={start} leaves no layer of {facts.layers} to tilt.", "Give a lower start.")
        return start, layers

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset({min(self.layers(facts)[1])})

    def plan(self, scenes: Scenes) -> list[Plan]:
        start, layers = self.layers(scenes.facts)
        from vgtool.attention.tilt import Tilt

        return [Plan(Change(layers=layers, tilt=Tilt(self.threshold, start), rows="last", decode=True))] * len(scenes)
