"""Refine: the baseline's answer and every method's, of all questions on some images, over shared prefixes.

One pass asks all questions and the general prompts (reading.py); methods plan from what it read; answers.py runs the
plans.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from vgtool.attention.asks import Rows
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import BoxMapping
from vgtool.methods.answers import Answering, Variant, ending_of
from vgtool.methods.base import LEFT_OUT, Facts, Method, Plan, Scenes
from vgtool.methods.names import Role, role_of
from vgtool.methods.questions import COMMON, FLOATS, Question, common, failure, rounds
from vgtool.methods.reading import Reader, Reading
from vgtool.methods.settings import settings
from vgtool.methods.task import ImageGroup, Row
from vgtool.records import Decoding, Rejected, Sample

BASELINE = "baseline"


class Refine:
    """The task behind `vgtool refine`."""

    kind = "refine"
    schema = pa.schema(
        [
            *COMMON,
            ("choices", pa.list_(pa.string())),
            ("reference", pa.string()),
            ("method", pa.string()),
            ("answer", pa.string()),
            ("confidence", pa.float32()),
            ("kept", pa.list_(pa.int32())),
            ("triage", FLOATS),
            ("insertion", pa.float32()),
            ("deletion", pa.float32()),
        ]
    )

    def __init__(
        self,
        sessions: Sessions,
        methods: Mapping[str, Method],
        facts: Facts,
        decoding: Decoding,
        *,
        mapping: BoxMapping,
        partner: Callable[[Sample], Image.Image],
    ) -> None:
        """`methods`: label -> method, in the order they were given. `partner`: another image of the benchmark."""
        self.sessions, self.adapter, self.methods, self.facts = sessions, sessions.adapter, methods, facts
        self.decoding = decoding
        self.labels: tuple[str, ...] = (BASELINE, *methods)
        self.notes: Sequence[str] = facts.notes
        self.roles: Mapping[str, Role] = {
            label: getattr(method, "role", role_of(label)) for label, method in ((BASELINE, None), *methods.items())
        }
        reads: dict[Rows, frozenset[int]] = {"last": frozenset()}
        keep: frozenset[int] = frozenset()
        for method in methods.values():
            # A method of another package may not say; then it sees tokens alone.
            if self.adapter.ungridded and getattr(method, "needs_grid", False):
                raise VgError(
                    f"--method {method.name} needs to know where image tokens stand, and with "
                    f"'{self.adapter.spec.name}' {self.adapter.ungridded}.",
                    "vgtool methods says which need it.",
                )
            for row, layers in method.reads(facts).items():
                reads[row] = reads.get(row, frozenset()) | layers
            keep |= method.starts(facts)
        self.reader = Reader(sessions, facts, reads, keep, mapping, partner)
        self.thinking = self.adapter.spec.thinking
        self.ending = ending_of(self.adapter, decoding)

    def only(self, labels: Collection[str]) -> "Refine":
        methods = {label: method for label, method in self.methods.items() if label in labels}
        given: dict[str, Any] = {"mapping": self.reader.mapping, "partner": self.reader.partner}
        task = Refine(self.sessions, methods, self.facts, self.decoding, **given)
        task.labels = tuple(label for label in self.labels if label in labels)
        return task

    def identity(self) -> Mapping[str, Any]:
        return {
            "methods": [BASELINE, *self.methods],
            "settings": settings(self.methods, self.facts),
            "heads": [list(pair) for pair in self.facts.ranked],
            "knockout_layers": list(self.facts.knockout_layers),
            "box_mapping": self.reader.mapping,
            "attention": self.sessions.kernel,
            "prompts": {"general": GENERAL_PROMPT},
            "decoding": {
                "greedy": True,
                "max_new_tokens": self.ending.max_new_tokens,
                "repetition_penalty": self.ending.penalty,
                "min_new_tokens": self.ending.min_new_tokens,
                "thinking": self.thinking and self.thinking.model_dump(),
            },
            "seed": self.facts.seed,
        }

    def failed(self, sample: Sample | Rejected, reason: str) -> Sequence[Row]:
        return [failure(sample, reason) | {"method": label} for label in self.labels]

    def run(self, groups: Sequence[ImageGroup], max_questions: int | None) -> Sequence[Row]:
        passes, failed = rounds(groups, self.reader.prompt, max_questions)
        rows = [row for sample, error in failed for row in self.failed(sample, str(error))]
        with torch.inference_mode():
            reading = self.reader.open(groups)
            for questions in passes:
                rows += self._answered(reading, questions)
        return rows

    def _answered(self, reading: Reading, questions: Sequence[Question]) -> list[Row]:
        """All rows of the questions of one pass."""
        maps, base = reading.read(questions)
        scenes = reading.scenes(questions, maps, base)
        plans = {label: _planned(method, scenes) for label, method in self.methods.items()}
        variants = [
            Variant(at, label, plan)
            for label, some in plans.items()
            for at, plan in enumerate(some)
            if isinstance(plan, Plan)
        ]
        head, images = questions[0].prompt.head, len(reading.groups)
        work = Answering(
            reading.session,
            questions,
            base,
            self.ending,
            images,
            lambda scenes, beside: (self.sessions.beside if beside else self.sessions).open(scenes, head),
        )
        same = {variant.question for variant in variants if variant.plan.unchanged}
        plain = range(len(questions)) if BASELINE in self.labels else sorted(same)
        answers = work.run(variants, [Variant(at, BASELINE, Plan()) for at in plain])
        rows = []
        for at, (question, region) in enumerate(zip(questions, scenes.regions, strict=True)):
            sample = question.sample
            shared = common(question, reading.groups[question.image], region, self.adapter.sent(question.prompt))
            shared |= {"choices": list(sample.choices) if sample.choices else None, "reference": sample.reference}
            for label in self.labels:
                plan = plans[label][at] if label in plans else Plan()
                if isinstance(plan, SampleError) and plan.code == LEFT_OUT:
                    rows.append(shared | {"method": label})
                    continue
                if isinstance(plan, SampleError):
                    rows.append(failure(sample, str(plan)) | {"method": label})
                    continue
                answer = answers.get((at, label)) or answers[at, BASELINE]  # an empty plan is the baseline
                kept = None if plan.kept is None else np.asarray(plan.kept).tolist()
                triage = None if plan.triage is None else plan.triage.astype(np.float32)
                own = {"method": label, "answer": answer.text, "confidence": answer.confidence, "first": answer.first}
                rows.append(shared | own | {"kept": kept, "triage": triage} | work.faith.get((at, label), {}))
        return rows


def _planned(method: Method, scenes: Scenes) -> Sequence[Plan | SampleError]:
    try:
        return method.plan(scenes)
    except SampleError as error:
        return [error.with_traceback(None)] * len(scenes)
