"""What a probe asks beside where the model looks: what its answer depends on, and where it says that the object is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask
from vgtool.attention.decode import decode
from vgtool.attention.sharing import Sessions
from vgtool.attention.sinks import Kind, of_image
from vgtool.errors import VgError
from vgtool.grounding.metrics import Array, relative_attention
from vgtool.methods import relevance, reliance, words
from vgtool.methods.answers import ending_of, seen
from vgtool.methods.questions import FLOATS, Question
from vgtool.methods.reading import AnySession
from vgtool.methods.reliance import Windows
from vgtool.methods.task import ImageGroup, Row
from vgtool.methods.words import Words
from vgtool.records import Decoding

Maps = Literal["layers", "heads", "none"]
WINDOWS = 8
"""Of a curve, where a user names no other number."""
SINKS: Kind = (20.0, None)
"""tau, and the sink dimensions: the model's own."""
COLUMNS = [*reliance.COLUMNS, *words.COLUMNS, *relevance.COLUMNS, ("sink_share", FLOATS)]
NOTHING: Mapping[str, Any] = {"reliance": None, "ask": None, "relevance": False, "sinks": None}
"""The identity of a probe that asks nothing more."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is asked, as a user says it."""

    reliance: bool = False
    window: int | None = None
    windows: int = WINDOWS
    draws: int = 1
    ask: Literal["box"] | None = None
    relevance: bool = False
    sinks: bool = False
    seed: int = 0


class Witnesses:
    """The further columns of a probe's rows."""

    def __init__(self, sessions: Sessions, asking: Asking, decoding: Decoding, maps: Maps = "layers") -> None:
        """`maps`: which maps are kept."""
        adapter = sessions.adapter
        self.maps = maps
        self.adapter, self.ending = adapter, ending_of(adapter, decoding)
        self.windows: Windows | None = None
        self.words = Words(sessions, self.ending) if asking.ask == "box" else None
        self.relevance, self.sinks = asking.relevance, asking.sinks
        if adapter.spec.thinking and (asking.reliance or asking.relevance):
            raise VgError(
                f"'{adapter.spec.name}' reasons before it answers, and its answer rests on that as well.",
                "Measure --reliance and --relevance on a model that answers at once.",
            )
        if asking.reliance:
            self.windows = Windows.of(
                adapter.layers, adapter.readable, asking.window, asking.windows, asking.draws, asking.seed
            )

    def identity(self) -> Mapping[str, Any]:
        return {
            "reliance": self.windows and self.windows.settings(),
            "ask": None if self.words is None else {"box": self.words.identity()},
            "relevance": self.relevance,
            "sinks": {"tau": SINKS[0]} if self.sinks else None,
        }

    @property
    def notes(self) -> list[str]:
        return [] if self.windows is None else self.windows.notes

    @property
    def answers(self) -> bool:
        """Whether the questions' own answers are wanted."""
        return self.windows is not None or self.relevance

    @property
    def keep(self) -> frozenset[int]:
        """Layers whose input knocked-out passes start from."""
        return frozenset() if self.windows is None else self.windows.keep

    def testify(
        self,
        rows: Sequence[Row],
        session: AnySession,
        asked: Asked | None,
        questions: Sequence[Question],
        groups: Sequence[ImageGroup],
        maps: tuple[Array, Array],
    ) -> None:
        """Add the columns to the rows of these questions, whose pass is `asked` where answers are wanted; failed rows
        stay as they are. `maps`: the questions' [Q, L, H, T] and the images' general ones [B, L, H, T]."""
        of = {row["sample_id"]: row for row in rows if row["error"] is None}
        mine = {at: of[question.sample.id] for at, question in enumerate(questions) if question.sample.id in of}
        if not mine:
            return
        if asked is not None:
            self._of_answers(mine, session, asked, questions, groups)
        if self.sinks:
            self._of_sinks(mine, session, questions, maps[0], groups[0].visions[0].geometry.tokens)
        if self.words is not None:
            tokens = groups[0].visions[0].geometry.tokens
            relative = {at: self._relative(maps, at, questions[at].image, tokens) for at in mine}
            found_words = self.words.rows(session, {at: questions[at] for at in mine}, groups, relative)
            for at, columns in found_words.items():
                reasons = [one["unmeasured"] for one in (mine[at], columns) if one.get("unmeasured")]
                mine[at].update(columns | {"unmeasured": "; ".join(reasons) or None})

    def _of_sinks(
        self, mine: Mapping[int, Row], session: AnySession, questions: Sequence[Question], maps: Array, tokens: int
    ) -> None:
        """Add the share of each layer's image attention (head mean, first image) that is on sink tokens."""
        asks = [Ask(questions[at].prompt.tail, image=questions[at].image) for at in mine]
        sinks = of_image(session, asks, SINKS).numpy()[..., :tokens]
        for at, flags in zip(mine, sinks, strict=True):
            attention = maps[at].mean(1)[:, :tokens].astype(np.float64)
            total = attention.sum(-1)
            share = np.divide((attention * flags).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)
            mine[at]["sink_share"] = [float(one) if np.isfinite(one) else None for one in share]

    def _of_answers(
        self,
        mine: Mapping[int, Row],
        session: AnySession,
        asked: Asked,
        questions: Sequence[Question],
        groups: Sequence[ImageGroup],
    ) -> None:
        """Add what is measured on the questions' own answers."""
        prompts = {at: seen(self.adapter, questions[at].prompt, self.ending) for at in mine}
        state = session.state([asked], self.keep)
        found = decode(state, self.ending, prompts, likely=True)
        answers = {at: (answer.text, answer.tokens) for at, answer in found.items()}
        visions, regions = groups[0].visions, {at: row["region"] for at, row in mine.items()}
        tokens = visions[0].geometry.tokens, sum(vision.geometry.tokens for vision in visions)
        if self.windows is not None:
            spoken = {at: answer for at, answer in found.items() if answer.tokens}
            given = state.answered(spoken) if spoken else None
            own = dict(zip(spoken, range(len(spoken)), strict=True))
            columns_by = reliance.rows_of(
                session, questions, regions, answers, self.windows, tokens, reliance.Given(given, own)
            )
            for at, columns in columns_by.items():
                mine[at].update(columns)
        if self.relevance:
            asks = {at: asked.asks[at].answered(own) for at, (_, own) in answers.items() if own}
            levels = {"layers": ("layer",), "heads": ("layer", "head"), "none": ()}[self.maps]
            columns_of = relevance.rows_of(session, self.adapter, asks, regions, tokens[0], levels, len(groups))
            for at, row in mine.items():
                row.update(columns_of.get(at) or {"unmeasured": reliance.NO_ANSWER})

    @staticmethod
    def _relative(maps: tuple[Array, Array], question: int, image: int, tokens: int) -> Array:
        """Relative attention of each layer's head means [L, T], of the first image."""
        above, below = maps[0][question], maps[1][image]
        return relative_attention(above.mean(1)[:, :tokens], below.mean(1)[:, :tokens])
