"""What the baseline reads of all questions on some images, and the same questions on other images of the benchmark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask, Rows
from vgtool.attention.session import Session
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.attention.whole import WholeSession
from vgtool.errors import SampleError
from vgtool.grounding.geometry import BoxMapping
from vgtool.methods.base import Array, Facts, Ints, Maps, Scenes
from vgtool.methods.questions import Question
from vgtool.methods.task import ImageGroup
from vgtool.models.adapter import vision_of
from vgtool.models.inputs import Prompt
from vgtool.records import Sample

AnySession = Session | WholeSession
T = TypeVar("T")


@dataclass(frozen=True)
class Reader:
    """What is read of every image, and how."""

    sessions: Sessions
    facts: Facts
    reads: Mapping[Rows, frozenset[int]]
    """Layers to read, by row; `last` among them, from whose pass the baseline is answered."""
    keep: frozenset[int]
    """Layers whose input reruns start from."""
    mapping: BoxMapping
    partner: Callable[[Sample], Image.Image]
    """Another image of the benchmark."""
    prompt: Callable[[str, int], Prompt] = field(init=False)
    """Remembered: benchmarks ask the same of many images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", lru_cache(4096)(self.sessions.adapter.prompt))

    def open(self, groups: Sequence[ImageGroup]) -> "Reading":
        """Images of one form through the model."""
        head = self.prompt(GENERAL_PROMPT, len(groups[0].images)).head
        return Reading(self, groups, self.sessions.open([group.visions for group in groups], head))

    def elsewhere(self, questions: Sequence[Question]) -> tuple[list[tuple[Scenes, Ints]], dict[int, SampleError]]:
        """Each question on another image: scenes of one form each with the places of their questions, and failures."""
        lacking: dict[int, SampleError] = {}
        by_form: dict[object, list[tuple[int, ImageGroup]]] = {}
        for at, question in enumerate(questions):
            try:
                image = self.partner(question.sample)
                group = ImageGroup((question.sample,), (image,), (vision_of(self.sessions.adapter, image),))
                by_form.setdefault(group.form, []).append((at, group))
            except SampleError as error:
                lacking[at] = error.with_traceback(None)
        found = []
        most = 1 + max((question.image for question in questions), default=0)  # as many images as the batch itself has
        for some in by_form.values():
            for first in range(0, len(some), most):
                here = some[first : first + most]
                reading = self.open([group for _, group in here])
                asked = [Question(i, questions[at].sample, questions[at].prompt) for i, (at, _) in enumerate(here)]
                scenes = reading.scenes(asked, *reading.read(asked))
                found.append((scenes, np.array([at for at, _ in here])))
        return found, lacking


@dataclass
class Reading:
    """Images of one form that are through the model, with what was read of their general prompts."""

    reader: Reader
    groups: Sequence[ImageGroup]
    session: AnySession
    general: dict[Rows, dict[int, Array]] = field(default_factory=dict)
    """Per row and layer [B, H, T]."""

    def read(self, questions: Sequence[Question]) -> tuple[dict[Rows, dict[int, Array]], Asked]:
        """Per row and layer the questions' maps [Q, H, T], and the pass that the baseline decodes from; its first Q
        rows are the questions'. SampleError when it is not finite."""
        maps: dict[Rows, dict[int, Array]] = {}
        base: Asked | None = None
        general = self.reader.prompt(GENERAL_PROMPT, len(self.groups[0].images))
        for row, layers in self.reader.reads.items():
            asks = [Ask(q.prompt.tail, q.prompt.question, row, image=q.image) for q in questions]
            fresh = row not in self.general and bool(layers)
            if fresh:
                asks += [Ask(general.tail, general.question, row, image=at) for at in range(len(self.groups))]
            if row == "last":
                base = self.session.ask(asks, layers, self.reader.keep)
                found = base.maps
            else:
                found = self.session.look(asks, layers)
            each = {layer: one.double().numpy() for layer, one in found.items()}
            if fresh:
                self.general[row] = {layer: one[len(questions) :] for layer, one in each.items()}
            maps[row] = {layer: one[: len(questions)] for layer, one in each.items()}
        assert base is not None
        if not bool(torch.isfinite(base.logits).all()):
            raise SampleError("not_finite", "the model's logits hold NaN or infinity")
        return maps, base

    def scenes(self, questions: Sequence[Question], maps: Mapping[Rows, Maps], base: Asked) -> Scenes:
        """What methods plan from. It does not hold this reading, whose session is large."""
        reader = self.reader
        regions = [
            self.groups[q.image].visions[0].geometry.region(q.sample.boxes, self.reader.mapping) for q in questions
        ]
        return Scenes(
            tuple(question.sample for question in questions),
            np.array([question.image for question in questions]),
            self.groups,
            maps.__getitem__,
            self.general.__getitem__,
            base.logits[: len(questions)].softmax(-1).double().cpu().numpy(),
            regions,
            self.reader.facts,
            _once(lambda: reader.elsewhere(questions)),
        )


def _once(make: Callable[[], T]) -> Callable[[], T]:
    """Makes it when it is first asked for, for all who ask."""
    return lru_cache(1)(make)
