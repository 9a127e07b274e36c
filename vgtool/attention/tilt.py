"""Attention tilted to image tokens that are like the text, where a layer is not sure of the next token (CAI).

For the row of a question's last token, or of a generated one, with t the mean of its text's input embeddings and v
those of the image tokens (Lei et al. 2026, arXiv 2606.29847, as released): w = sigmoid(100 (cos(v, t) - min cos)).
Where the logit lens of the state that enters a layer has an entropy above the threshold (in units of ln 10), scaled
scores s of the row to the image become s + |s| w in that layer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vgtool.attention.sinks import watching
from vgtool.attention.tap import Tap, stopping, tapped
from vgtool.errors import SampleError
from vgtool.models.adapter import Adapter

if TYPE_CHECKING:
    from vgtool.attention.asks import Ask
    from vgtool.attention.session import Session

SHARPNESS = 100.0


@dataclass(frozen=True, slots=True)
class Tilt:
    """Who is tilted: what a change asks for."""

    threshold: float
    start: int
    """The first layer whose output is looked at; the next one is the first that may be tilted."""


@dataclass(slots=True)
class Tilting:
    """One edit of one pass, told as it goes: R rows."""

    tilt: Tilt
    rows: Sequence[int]
    """Of the pass [R]."""
    spans: Sequence[tuple[int, int]]
    """Rows of each one's text."""
    image: Sequence[Tensor]
    """Input embeddings of each one's image tokens [M, hidden], the overview's behind the grid's."""
    lens: Callable[[Tensor], Tensor]
    weights: Tensor = field(default_factory=lambda: torch.empty(0))
    """w [R, M]"""
    open: dict[int, Tensor] = field(default_factory=dict)
    """Layer -> which rows are tilted in it, bool [R]."""

    def see(self, layer: int, hidden: Tensor) -> None:
        """The input of a layer, [.., rows, hidden]."""
        states = hidden.reshape(-1, hidden.shape[-1])
        if layer == 0:
            texts = torch.stack([states[first:stop].mean(0) for first, stop in self.spans]).float()
            images = torch.stack(list(self.image)).float().to(texts.device)
            likeness = (normalize(images, dim=-1) @ normalize(texts, dim=-1)[:, :, None])[..., 0]
            self.weights = torch.sigmoid(SHARPNESS * (likeness - likeness.amin(-1, keepdim=True)))
        if layer > self.tilt.start:
            chances = self.lens(states[list(self.rows)]).float().softmax(-1)
            entropy = -(chances * (chances + 1e-9).log()).sum(-1) / math.log(10)
            self.open[layer] = entropy > self.tilt.threshold

    def __call__(self, scores: Tensor, layer: int) -> Tensor:
        """New scores of the rows' image tokens [R, H, M]."""
        weights = self.weights * self.open[layer].to(self.weights.device)[:, None]
        return scores + scores.abs() * weights.to(scores.device)[:, None]


def lens_of(adapter: Adapter) -> Callable[[Tensor], Tensor]:
    """The model's head behind its last norm. SampleError where that is not known by its usual name."""
    norm, head = getattr(adapter.text, "norm", None), adapter.model.get_output_embeddings()
    if norm is None or head is None:
        raise SampleError("no_lens", "the text model has no norm and head by their usual names")
    return lambda states: head(norm(states))


def tilted(session: "Session", asks: Sequence["Ask"], tap: Tap, spans: Sequence[tuple[int, int]]) -> list[Any]:
    """What each tilted edit of a pass must see; noted in the tap. `spans`: rows of each question."""
    made = []
    for edit in tap.edits:
        if edit.tilt is None:
            continue
        of = [next(i for i, (first, stop) in enumerate(spans) if first <= row < stop) for row in edit.rows.tolist()]
        embedded = embeddings(session)
        image = [embedded[asks[i].image] for i in of]
        tilting = Tilting(edit.tilt, edit.rows.tolist(), [spans[i] for i in of], image, lens_of(session.adapter))
        tap.tilts[id(edit)] = tilting
        made.append(tilting)
    return made


def embeddings(session: "Session") -> Tensor:
    """Input embeddings of every image's tokens, the overview's behind the grid's [images, M, hidden]; by one more pass
    that ends in the first layer, once."""
    prefix = session.prefix
    if "embeddings" not in prefix.sinks:
        states: list[Tensor] = []

        def see(layer: int, hidden: Tensor) -> None:
            if layer == 0:
                states.append(hidden)

        with watching(session.adapter.text.layers, [see]):  # type: ignore[arg-type]
            inputs = session.adapter.together(session.scenes, session.head)
            with tapped(Tap(torch.empty(0), stop=0)), stopping():
                session.adapter.forward(inputs.kwargs, [inputs.length - 1], session.adapter.cache())
        hidden = states[0].reshape(prefix.images, prefix.length, -1)
        prefix.sinks["embeddings"] = hidden[:, torch.cat([prefix.columns, prefix.overview]).to(hidden.device)]
    return prefix.sinks["embeddings"]
