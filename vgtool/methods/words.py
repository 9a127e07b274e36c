"""Where a model says that the object is: it is asked for a box, and its words are read (vgtool.grounding.spoken)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from vgtool.attention.asks import Ask
from vgtool.attention.decode import Ending, decode
from vgtool.attention.sharing import Sessions
from vgtool.errors import SampleError, VgError
from vgtool.grounding.metrics import Array, grounding
from vgtool.grounding.spoken import centre_inside, overlap, read
from vgtool.methods.answers import filled, seen
from vgtool.methods.questions import FLOATS, PACK_TOKENS, Question
from vgtool.methods.reading import AnySession
from vgtool.methods.task import ImageGroup, Row
from vgtool.records import Sample

BOX_TOKENS = 256
"""What an answer with boxes may take: a model that lists objects with labels needs some thirty each."""
COLUMNS = [
    ("box_answer", pa.string()),
    ("box_outcome", pa.string()),
    ("box_said", pa.list_(pa.list_(pa.float64()))),
    ("box_iou", pa.float32()),
    ("box_centre_inside", pa.bool_()),
    ("box_attention_ratio", FLOATS),
]


class Words:
    """Asks for boxes. VgError for a model that was not trained to answer so."""

    def __init__(self, sessions: Sessions, ending: Ending) -> None:
        spec = sessions.adapter.spec
        if spec.boxes is None:
            raise VgError(
                f"'{spec.name}' was not trained to answer with boxes, as far as its entry in models.yaml says.",
                "Leave out --ask box, or give an entry of your own that says how it is asked: boxes.",
            )
        self.sessions, self.boxes = sessions, spec.boxes
        self.adapter = sessions.adapter.rephrased(spec.boxes.ask, spec.boxes.prompt)
        self.ending = replace(ending, max_new_tokens=BOX_TOKENS)
        self.prompt = lru_cache(4096)(self.adapter.prompt)

    def identity(self) -> Mapping[str, Any]:
        return self.boxes.model_dump(exclude={"source"})

    def rows(
        self,
        session: AnySession,
        questions: Mapping[int, Question],
        groups: Sequence[ImageGroup],
        relative: Mapping[int, Array],
    ) -> dict[int, Row]:
        """The columns of each question; one that cannot be put so has its reason alone. `relative`: of each question
        the relative attention of every layer [L, T], held against the tokens of the boxes that it says."""
        rows, asked = dict[int, Row](), list[tuple[int, Question]]()
        for at, question in questions.items():
            try:
                prompt = self.prompt(question.sample.question, len(groups[question.image].images))
                asked.append((at, Question(question.image, question.sample, prompt)))
            except SampleError as error:
                rows[at] = {"unmeasured": str(error)}
        if not asked:
            return rows
        head = asked[0][1].prompt.head
        if head != session.head:  # asked before the image, which then is another prefix
            session = self.sessions.open([group.visions for group in groups], head)
        for some in filled(asked, lambda one: len(one[1].prompt.tail), PACK_TOKENS * len(groups)):
            found = session.ask([Ask(question.prompt.tail, image=question.image) for _, question in some])
            ids = {row: seen(self.adapter, question.prompt, self.ending) for row, (_, question) in enumerate(some)}
            answers = decode(session.state([found]), self.ending, ids)
            for row, (at, question) in enumerate(some):
                rows[at] = self._row(answers[row].text, question.sample, groups[question.image], relative[at])
        return rows

    def _row(self, answer: str, sample: Sample, group: ImageGroup, relative: Array) -> Row:
        how, geometry = self.boxes, group.visions[0].geometry
        said = read(answer, geometry, how.scale, how.frame, how.order)
        row: Row = {"box_answer": answer, "box_outcome": said.outcome}
        row["box_said"] = [box.as_list() for box in said.boxes]
        if said.boxes and sample.boxes:
            row["box_iou"] = overlap(said.boxes, sample.boxes)
            row["box_centre_inside"] = centre_inside(said.boxes[0], sample.boxes)
        if tokens := geometry.region(said.boxes):
            ratio = grounding(relative, tokens).ratio
            row["box_attention_ratio"] = [float(one) if np.isfinite(one) else None for one in ratio]
        return row
