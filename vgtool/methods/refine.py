"""Refine: the baseline's answer and every method's, of all questions on an image, over one shared prefix.

One pass asks all questions and the general prompt; methods plan from what it read; edited questions run again from
their first edited layer, those without an image or on another one in their own passes; everything decodes in packs.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from vgtool.attention.decode import Answer, Ending, Guide, decode
from vgtool.attention.session import Ask, Asked, Rows, Session
from vgtool.attention.sharing import GENERAL_PROMPT, Sessions
from vgtool.attention.whole import WholeSession
from vgtool.errors import SampleError, VgError
from vgtool.grounding.geometry import BoxMapping
from vgtool.methods.base import Facts, Method, Plan, Scene
from vgtool.methods.names import Role, role_of
from vgtool.methods.probe import COMMON, FLOATS, PACK_TOKENS, chunks, common, failure
from vgtool.methods.settings import settings
from vgtool.methods.task import ImageGroup, Row
from vgtool.models.adapter import Prompt, Vision
from vgtool.records import Decoding, Rejected, Sample

DECODE_TOKENS = 2 * PACK_TOKENS
BASELINE = "baseline"
AnySession = Session | WholeSession


@dataclass(frozen=True, slots=True)
class Variant:
    """One question under one method."""

    sample: int
    method: str
    plan: Plan


@dataclass(slots=True)
class Pass:
    """A pack that has run, and whose row is whose; rows without an owner are partners or the general prompt's."""

    asked: Asked
    owners: list[Variant | None]
    guides: dict[int, Guide] = field(default_factory=dict)


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
        self.mapping, self.partner, self.decoding = mapping, partner, decoding
        self.labels: tuple[str, ...] = (BASELINE, *methods)
        self.notes: Sequence[str] = facts.notes
        self.roles: Mapping[str, Role] = {
            label: getattr(method, "role", role_of(label)) for label, method in ((BASELINE, None), *methods.items())
        }
        self.reads: dict[Rows, frozenset[int]] = {"last": frozenset()}
        self.keep: frozenset[int] = frozenset()
        for method in methods.values():
            # A method of another package may not say; then it sees tokens alone.
            if self.adapter.ungridded and getattr(method, "needs_grid", False):
                raise VgError(
                    f"--method {method.name} needs to know where image tokens stand, and with "
                    f"'{self.adapter.spec.name}' {self.adapter.ungridded}.",
                    "vgtool methods says which need it.",
                )
            for row, layers in method.reads(facts).items():
                self.reads[row] = self.reads.get(row, frozenset()) | layers
            self.keep |= method.starts(facts)
        stop = (*self.adapter.stop, *decoding.stop)
        self.penalty = float(self.adapter.generation.get("repetition_penalty") or 1.0)
        self.thinking = self.adapter.spec.thinking
        most = decoding.thinking_tokens if self.thinking else decoding.max_new_tokens
        least, held = self.adapter.min_new_tokens, self.adapter.held
        self.ending = Ending(self.adapter.tokenizer, self.adapter.eos, most, stop, self.penalty, least, held)

    def only(self, labels: Collection[str]) -> "Refine":
        methods = {label: method for label, method in self.methods.items() if label in labels}
        settings: dict[str, Any] = {"mapping": self.mapping, "partner": self.partner}
        task = Refine(self.sessions, methods, self.facts, self.decoding, **settings)
        task.labels = tuple(label for label in self.labels if label in labels)
        return task

    def identity(self) -> Mapping[str, Any]:
        return {
            "methods": [BASELINE, *self.methods],
            "settings": settings(self.methods, self.facts),
            "heads": [list(pair) for pair in self.facts.ranked],
            "knockout_layers": list(self.facts.knockout_layers),
            "box_mapping": self.mapping,
            "attention": self.sessions.kernel,
            "prompts": {"general": GENERAL_PROMPT},
            "decoding": {
                "greedy": True,
                "max_new_tokens": self.ending.max_new_tokens,
                "repetition_penalty": self.penalty,
                "min_new_tokens": self.ending.min_new_tokens,
                "thinking": self.thinking and self.thinking.model_dump(),
            },
            "seed": self.facts.seed,
        }

    def failed(self, sample: Sample | Rejected, reason: str) -> Sequence[Row]:
        return [failure(sample, reason) | {"method": label} for label in self.labels]

    def run(self, group: ImageGroup, max_questions: int | None) -> Sequence[Row]:
        rows: list[Row] = []
        with torch.inference_mode():
            head = self.adapter.prompt(GENERAL_PROMPT).head
            work = _Image(self, group, self.sessions.open(group.visions, head))
            for ready, failed in chunks(self.adapter, group.samples, max_questions):
                for sample, error in failed:
                    rows += self.failed(sample, str(error))
                if ready:
                    rows += work.answer(ready)
        return rows


@dataclass
class _Image:
    """The work on one image."""

    task: Refine
    group: ImageGroup
    session: AnySession
    general: dict[Rows, dict[int, np.ndarray]] = field(default_factory=dict)
    others: dict[str, AnySession] = field(default_factory=dict)

    def answer(self, ready: Sequence[tuple[Sample, Prompt]]) -> list[Row]:
        """All rows of one chunk of questions."""
        samples, prompts = [s for s, _ in ready], [p for _, p in ready]
        maps, base = self._read(prompts)
        if not bool(torch.isfinite(base.logits).all()):
            raise SampleError("not_finite", "the model's logits hold NaN or infinity")
        first = base.logits.softmax(-1).double().cpu().numpy()
        results: dict[tuple[int, str], Answer] = {}
        plans: dict[tuple[int, str], Plan | SampleError] = {}
        for i, sample in enumerate(samples):
            scene = self._scene(sample, prompts[i], {row: maps[row][i] for row in maps}, first[i])
            for label, method in self.task.methods.items():
                try:
                    plans[i, label] = method.plan(scene)
                except SampleError as error:
                    # Its traceback would hold this image's caches until the garbage collector comes by.
                    plans[i, label] = error.with_traceback(None)
        variants = [Variant(i, label, p) for (i, label), p in plans.items() if isinstance(p, Plan)]
        same = {i for (i, _), plan in plans.items() if isinstance(plan, Plan) and plan.unchanged}
        wanted = same if BASELINE not in self.task.labels else range(len(samples))
        baseline = [Variant(i, BASELINE, Plan()) if i in wanted else None for i in range(len(samples))]
        bundles = self._passes(prompts, base, baseline, variants, len(base.asks) - len(samples))
        faith = self._faithfulness(base, bundles, variants, first)
        for answers in self._decoded(self.session, bundles, prompts):
            results |= answers
        results |= self._elsewhere(prompts, variants)
        rows = []
        for i, sample in enumerate(samples):
            region = self.group.visions[0].geometry.region(sample.boxes, self.task.mapping)
            shared = common(sample, self.group, region)
            shared |= {"choices": list(sample.choices) if sample.choices else None, "reference": sample.reference}
            for label in self.task.labels:
                plan = plans.get((i, label), Plan())
                if isinstance(plan, SampleError):
                    rows.append(failure(sample, str(plan)) | {"method": label})
                    continue
                answer = results.get((i, label)) or results[i, BASELINE]  # an empty plan is the baseline
                kept = None if plan.kept is None else list(plan.kept)
                triage = None if plan.triage is None else plan.triage.astype(np.float32)
                own = {"method": label, "answer": answer.text, "confidence": answer.confidence, "first": answer.first}
                rows.append(shared | own | {"kept": kept, "triage": triage} | faith.get((i, label), {}))
        return rows

    # ---- reading -----------------------------------------------------------------------------------------------

    def _read(self, prompts: Sequence[Prompt]) -> tuple[dict[Rows, list[dict[int, np.ndarray]]], Asked]:
        """Per row kind and question its maps, and the pass that the baseline decodes from."""
        maps: dict[Rows, list[dict[int, np.ndarray]]] = {}
        base: Asked | None = None
        general = self.task.adapter.prompt(GENERAL_PROMPT)
        for row, layers in self.task.reads.items():
            fresh = row not in self.general and bool(layers)
            asks = [Ask(p.tail, p.question, row) for p in [*prompts, *([general] if fresh else [])]]
            asked = self.session.ask(asks, layers, self.task.keep if row == "last" else frozenset())
            each = [{la: m[q].double().numpy() for la, m in asked.maps.items()} for q in range(len(asks))]
            if fresh:
                self.general[row] = each.pop()
            maps[row] = each
            base = asked if row == "last" else base
        assert base is not None
        return maps, base

    def _scene(
        self, sample: Sample, prompt: Prompt, maps: Mapping[Rows, Mapping[int, np.ndarray]], first: np.ndarray
    ) -> Scene:
        geometry = self.group.visions[0].geometry
        return Scene(
            sample,
            self.group.images,
            tuple(vision.geometry for vision in self.group.visions),
            maps.__getitem__,
            self.general.__getitem__,
            first,
            geometry.region(sample.boxes, self.task.mapping),
            self.task.facts,
            lambda: self._partner(sample, prompt),
        )

    def _partner(self, sample: Sample, prompt: Prompt) -> Scene:
        image = self.task.partner(sample)
        vision = self.task.adapter.prepare(image)
        group = ImageGroup((sample,), (image,), (vision,))
        other = _Image(self.task, group, self.task.sessions.open((vision,), prompt.head))
        maps, base = other._read([prompt])
        first = base.logits[0].softmax(-1).double().cpu().numpy()
        return other._scene(sample, prompt, {row: maps[row][0] for row in maps}, first)

    # ---- passes ------------------------------------------------------------------------------------------------

    def _passes(
        self,
        prompts: Sequence[Prompt],
        base: Asked,
        baseline: list[Variant | None],
        variants: list[Variant],
        extra: int,
    ) -> list[list[Pass]]:
        """Every pass over this session, in bundles that decode together."""
        owners: list[Variant | None] = [*baseline, *([None] * extra)]
        bundles = [[Pass(base, owners)]]
        edited = [v for v in variants if v.plan.change is not None and not v.plan.change.empty and not v.plan.images]
        for changes in _packs(edited, prompts):
            asked = self.session.rerun(base, [replace(v.plan.change, index=v.sample) for v in changes if v.plan.change])
            bundles.append(self._guided([Pass(asked, list(changes))], changes, prompts))
        plain = [v for v in variants if v not in edited and not v.plan.images]
        for some in _packs([v for v in plain if v.plan.blind], prompts):
            bundles.append([Pass(self._blind(some, prompts), list(some))])
        for some in _packs([v for v in plain if v.plan.gamma is not None and not v.plan.blind], prompts):
            asked = self.session.ask([Ask(prompts[v.sample].tail) for v in some])
            bundles.append(self._guided([Pass(asked, list(some))], some, prompts))
        return bundles

    def _blind(self, variants: Sequence[Variant], prompts: Sequence[Prompt]) -> Asked:
        return self.session.ask([Ask(prompts[v.sample].tail, blind=True) for v in variants])

    def _guided(self, passes: list[Pass], variants: Sequence[Variant], prompts: Sequence[Prompt]) -> list[Pass]:
        """Add the partners of guided rows."""
        led = [(row, v) for row, v in enumerate(variants) if v.plan.gamma is not None]
        if led:
            rows = len(variants)
            for partner, (row, v) in enumerate(led):
                assert v.plan.gamma is not None
                passes[0].guides[row] = Guide(rows + partner, v.plan.gamma)
            passes.append(Pass(self._blind([v for _, v in led], prompts), [None] * len(led)))
        return passes

    def _decoded(
        self, session: AnySession, bundles: list[list[Pass]], prompts: Sequence[Prompt]
    ) -> list[dict[tuple[int, str], Answer]]:
        """Answers of bundles, several of them in one decoding while they fit."""
        out, batch, used = [], list[Pass](), 0
        for bundle in bundles:
            size = sum(len(ask.tail) for one in bundle for ask in one.asked.asks)
            if batch and used + size > DECODE_TOKENS:
                out.append(self._decode(session, batch, prompts))
                batch, used = [], 0
            batch, used = [*batch, *bundle], used + size
        if batch:
            out.append(self._decode(session, batch, prompts))
        return out

    def _decode(
        self, session: AnySession, passes: Sequence[Pass], prompts: Sequence[Prompt]
    ) -> dict[tuple[int, str], Answer]:
        ids: dict[int, tuple[int, ...]] = {}
        guides: dict[int, Guide] = {}
        owners: dict[int, Variant] = {}
        at = 0
        mark, penalised = self.task.adapter.image_token, self.task.adapter.penalises_prompt
        for one in passes:
            for row, owner in enumerate(one.owners):
                if owner is not None:
                    prompt = prompts[owner.sample]
                    image = () if mark is None or owner.plan.blind else (mark,)
                    ids[at + row] = (*prompt.head, *image, *prompt.tail) if penalised else ()
                    owners[at + row] = owner
            guides |= {at + r: replace(guide, partner=at + guide.partner) for r, guide in one.guides.items()}
            at += len(one.owners)
        if not ids:
            return {}
        answers = decode(session.state([one.asked for one in passes]), self.task.ending, ids, guides)
        return {(owners[row].sample, owners[row].method): answer for row, answer in answers.items()}

    def _elsewhere(self, prompts: Sequence[Prompt], variants: Sequence[Variant]) -> dict[tuple[int, str], Answer]:
        """Answers of plans that ask about other images."""
        results: dict[tuple[int, str], Answer] = {}
        looking = sorted((v for v in variants if v.plan.images), key=lambda v: v.plan.key)
        for key, group in groupby(looking, key=lambda v: v.plan.key):
            some = list(group)
            if key not in self.others:
                visions: list[Vision] = [self.task.adapter.prepare(image) for image in some[0].plan.images or ()]
                self.others = {key: self.task.sessions.open(visions, prompts[0].head)}  # one at a time: they are big
            session = self.others[key]
            for pack in _packs(some, prompts):
                asked = session.ask([Ask(prompts[v.sample].tail) for v in pack])
                for answers in self._decoded(session, [[Pass(asked, list(pack))]], prompts):
                    results |= answers
        return results

    def _faithfulness(
        self, base: Asked, bundles: Sequence[Sequence[Pass]], variants: Sequence[Variant], first: np.ndarray
    ) -> dict[tuple[int, str], dict[str, float]]:
        """Change of the probability of the baseline's first token when only kept tokens remain (the answer's own pass),
        and when they are cut (a pass of its own)."""
        some = [v for v in variants if v.plan.opposite is not None]
        out = {(v.sample, v.method): {"insertion": 0.0, "deletion": 0.0} for v in some}

        def note(name: str, asked: Asked, owners: Sequence[Variant | None]) -> None:
            rows = [(row, v) for row, v in enumerate(owners) if v is not None and v.plan.opposite is not None]
            if rows:
                tokens = [int(first[v.sample].argmax()) for _, v in rows]
                now = asked.logits.softmax(-1)[[row for row, _ in rows], tokens].tolist()
                for (_, v), token, share in zip(rows, tokens, now, strict=True):
                    out[v.sample, v.method][name] = share - float(first[v.sample, token])

        for one in (one for bundle in bundles for one in bundle):
            note("insertion", one.asked, one.owners)
        cut = [v for v in some if v.plan.opposite is not None and not v.plan.opposite.empty]
        for pack in _packs(cut, [Prompt((), ask.tail) for ask in base.asks], "opposite"):
            changes = [replace(v.plan.opposite, index=v.sample) for v in pack if v.plan.opposite is not None]
            note("deletion", self.session.rerun(base, changes), pack)
        return out


def _packs(variants: Sequence[Variant], prompts: Sequence[Prompt], pick: str = "change") -> list[list[Variant]]:
    """Variants of the same first edited layer, in packs of at most PACK_TOKENS."""

    def start(variant: Variant) -> int:
        change = getattr(variant.plan, pick)
        return -1 if change is None else change.start

    packs: list[list[Variant]] = []
    for _, same in groupby(sorted(variants, key=start), key=start):
        pack, used = list[Variant](), 0
        for variant in same:
            size = len(prompts[variant.sample].tail)
            if pack and used + size > PACK_TOKENS:
                packs.append(pack)
                pack, used = [], 0
            pack, used = [*pack, variant], used + size
        packs.append(pack)
    return packs
