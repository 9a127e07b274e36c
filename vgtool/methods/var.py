"""VAR, visual attention redistribution (Kang et al. 2025, arXiv 2503.03321): attention that visual heads waste on sink
tokens goes to the other image tokens.

In the layers from 2 to the last but one, for every token after the image and every generated one: a head is visual
where the image takes at least `least` of its attention, and sinks at most `rho` of that. There every sink, of image and
text, keeps `p` of its attention, and the rest goes to the image tokens that are no sinks, in proportion; as in the
released code. Sinks are tokens that stand out by `tau` in the model's sink dimensions (vgtool.attention.sinks); the
original lists those of LLaMA-2 7B (dims=1415+2533) and 13B (dims=2100+4743).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from vgtool.attention.asks import Change, Rows
from vgtool.errors import VgError
from vgtool.methods.base import Facts, Plan, Scenes

FIRST = 2
"""The original looks for sinks from here on."""


@dataclass(frozen=True, kw_only=True)
class Var:
    """Attention of visual heads moved from sink tokens to the other image tokens."""

    name: ClassVar[str] = "var"
    summary: ClassVar[str] = "rival: attention moved from sinks to the rest of the image (Kang et al. 2025)"

    tau: float = field(default=20.0, metadata={"help": "how far a sink stands out of its root mean square"})
    rho: float = field(default=0.5, metadata={"help": "largest share of a visual head's image attention on sinks"})
    least: float = field(default=0.2, metadata={"help": "least attention of a visual head to the image"})
    p: float = field(default=0.6, metadata={"help": "what sinks keep of their attention"})
    dims: tuple[int, ...] | None = field(
        default=None, metadata={"help": "sink dimensions, as 1415+2533; else those of the prompt's first token"}
    )

    def layers(self, facts: Facts) -> frozenset[int]:
        layers = frozenset(layer for layer in facts.readable if FIRST <= layer < facts.layers - 1)
        if not layers:
            said = f"var: a model of {facts.layers} layers has none between the second and the last to edit."
            raise VgError(said, "Leave var out for this model.")
        return layers

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        return {}

    def starts(self, facts: Facts) -> frozenset[int]:
        return frozenset({min(self.layers(facts))})

    def plan(self, scenes: Scenes) -> list[Plan]:
        from vgtool.attention.sinks import Redistribute

        reweigh = Redistribute(self.tau, self.dims, self.rho, self.least, self.p)
        change = Change(layers=self.layers(scenes.facts), reweigh=reweigh, rows="text", decode=True)
        return [Plan(change)] * len(scenes)
