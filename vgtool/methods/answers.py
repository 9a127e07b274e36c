"""Answers of every method to every question on some images, and how much each answer rests on the tokens it kept.

Edited questions run again from their first edited layer, those without an image or on another one in passes of their
own; the answers of all of them decode together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TypeVar

from vgtool.attention.asked import Asked
from vgtool.attention.asks import Ask, Change
from vgtool.attention.beside import Beside
from vgtool.attention.decode import Answer, Ending, Guide, decode
from vgtool.methods.base import Plan
from vgtool.methods.questions import PACK_TOKENS, Question
from vgtool.methods.reading import AnySession
from vgtool.models.adapter import Adapter
from vgtool.models.inputs import Prompt, Vision
from vgtool.records import Decoding

T = TypeVar("T")
DECODE_TOKENS = 2 * PACK_TOKENS
"""Tokens of an image's prompts that decode together."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One question under one method."""

    question: int
    method: str
    plan: Plan


@dataclass(slots=True)
class Pass:
    """What has run, and whose row is whose; rows without an owner are partners, or not wanted."""

    asked: Asked
    owners: list[Variant | None]
    guides: dict[int, Guide] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(len(ask.tail) for ask in self.asked.asks)


@dataclass
class Answering:
    """The questions of one pass, asked, and everything that follows from their plans."""

    session: AnySession
    questions: Sequence[Question]
    base: Asked
    ending: Ending
    images: int
    """In the batch."""
    open: Callable[[Sequence[Sequence[Vision]], bool], AnySession]
    """Other images through the model; whether those of one prompt stand side by side."""
    passes: list[list[Pass]] = field(default_factory=list)
    """Those of one list decode together."""
    faith: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)
    """(question, method) -> insertion and deletion."""

    def run(self, variants: Sequence[Variant], plain: Sequence[Variant]) -> dict[tuple[int, str], Answer]:
        """Answers by (question, method), the baseline's of `plain`; an empty plan has none of its own."""
        owned = {variant.question: variant for variant in plain}
        self.passes.append([Pass(self.base, [owned.get(row) for row in range(len(self.base.asks))])])
        here = [variant for variant in variants if not (variant.plan.images or variant.plan.distort)]
        self._edited([v for v in here if not v.plan.blind])
        still = [v for v in here if v.plan.blind or _unchanged(v)]
        for some in self._packs(v for v in still if v.plan.blind):
            self.passes.append([Pass(self._blind(some), list(some))])
        for some in self._packs(v for v in still if _led(v) and not v.plan.blind):
            asked = self.session.ask([self._ask(v) for v in some])
            self.passes.append(self._guided(Pass(asked, list(some))))
        answers: dict[tuple[int, str], Answer] = {}
        for together in filled(self.passes, lambda bundle: sum(one.size for one in bundle), self._room(DECODE_TOKENS)):
            answers |= self._decoded(self.session, [one for bundle in together for one in bundle])
        self.passes.clear()
        answers |= self._contrasted([variant for variant in variants if variant.plan.distort])
        return answers | self._elsewhere([variant for variant in variants if variant.plan.images])

    # ---- passes ------------------------------------------------------------------------------------------------

    def _edited(self, variants: Sequence[Variant]) -> None:
        """Questions with changed attention; and, for faithfulness alone, with what the change keeps hidden instead."""
        runs: list[tuple[Change, Variant, str]] = []
        for variant in variants:
            if variant.plan.opposite is not None:
                self.faith[variant.question, variant.method] = {"insertion": 0.0, "deletion": 0.0}
            for change, name in ((variant.plan.change, "insertion"), (variant.plan.opposite, "deletion")):
                if change is not None and not change.empty:
                    runs.append((replace(change, index=variant.question), variant, name))
        starts = {change.start for change, _, _ in runs}
        for start in sorted(starts):
            same = [run for run in runs if run[0].start == start]
            for some in filled(same, lambda run: self._tokens(run[1]), self._room(PACK_TOKENS)):
                some.sort(key=lambda run: run[2] == "deletion")
                asked = self.session.rerun(self.base, [change for change, _, _ in some])
                self._note(asked, some)
                owners: list[Variant | None] = [variant for _, variant, name in some if name == "insertion"]
                if len(owners) < len(some):  # nobody answers from a deletion
                    asked = self.session.first(asked, len(owners))
                self.passes.extend([self._guided(Pass(asked, owners))] if owners else [])

    def _note(self, asked: Asked, runs: Sequence[tuple[Change, Variant, str]]) -> None:
        """How the probability of the baseline's first token changes when only kept tokens remain, and without them."""
        wanted = [(row, v, name) for row, (_, v, name) in enumerate(runs) if v.plan.opposite is not None]
        if not wanted:
            return
        rows, of = [row for row, _, _ in wanted], [v.question for _, v, _ in wanted]
        before = self.base.logits[of].softmax(-1).max(-1)
        now = asked.logits[rows].softmax(-1).gather(1, before.indices[:, None])[:, 0]
        for (_, variant, name), change in zip(wanted, (now - before.values).tolist(), strict=True):
            self.faith[variant.question, variant.method][name] = change

    def _guided(self, one: Pass) -> list[Pass]:
        """A pass with the partners of its guided rows."""
        led = [(row, v) for row, v in enumerate(one.owners) if v is not None and _led(v)]
        if not led:
            return [one]
        for partner, (row, variant) in enumerate(led):
            one.guides[row] = _guide(variant, len(one.owners) + partner)
        return [one, Pass(self._blind([v for _, v in led]), [None] * len(led))]

    def _blind(self, variants: Sequence[Variant]) -> Asked:
        return self.session.ask([replace(self._ask(v), blind=True) for v in variants])

    def _ask(self, variant: Variant) -> Ask:
        question = self.questions[variant.question]
        return Ask(question.prompt.tail, image=question.image)

    def _packs(self, variants: Iterable[Variant]) -> Iterator[list[Variant]]:
        return filled(variants, self._tokens, self._room(PACK_TOKENS))

    def _tokens(self, variant: Variant) -> int:
        return len(self.questions[variant.question].prompt.tail)

    def _room(self, tokens: int) -> int:
        return tokens * self.images

    # ---- answers -----------------------------------------------------------------------------------------------

    def _decoded(self, session: AnySession, passes: Sequence[Pass]) -> dict[tuple[int, str], Answer]:
        ids: dict[int, tuple[int, ...]] = {}
        guides: dict[int, Guide] = {}
        owners: dict[int, Variant] = {}
        at = 0
        for one in passes:
            for row, owner in enumerate(one.owners):
                if owner is not None:
                    ids[at + row] = self._seen(owner)
                    owners[at + row] = owner
            guides |= {at + r: replace(guide, partner=at + guide.partner) for r, guide in one.guides.items()}
            at += len(one.owners)
        if not ids:
            return {}
        answers = decode(session.state([one.asked for one in passes]), self.ending, ids, guides)
        return {(owners[row].question, owners[row].method): answer for row, answer in answers.items()}

    def _seen(self, variant: Variant) -> tuple[int, ...]:
        prompt = self.questions[variant.question].prompt
        return seen(self.session.adapter, prompt, self.ending, variant.plan.blind)

    def _contrasted(self, variants: Sequence[Variant]) -> dict[tuple[int, str], Answer]:
        """Answers of plans that are guided by what a distorted image says: two sessions decode side by side."""
        answers: dict[tuple[int, str], Answer] = {}
        by_key = sorted(variants, key=lambda variant: variant.plan.key)
        for _, same in groupby(by_key, key=lambda variant: variant.plan.key):
            some = list(same)
            shown = {self.questions[v.question].image: v for v in some}
            scenes = [
                [v.plan.distort(vision, place) for place, vision in enumerate(self.session.scenes[image])]
                for image, v in shown.items()
                if v.plan.distort
            ]
            other, places = self.open(scenes, False), {image: at for at, image in enumerate(shown)}
            for pack in self._packs(some):
                asks = [self._ask(v) for v in pack]
                own = self.session.ask(asks)
                theirs = other.ask([replace(ask, image=places[ask.image]) for ask in asks])
                steps = Beside(self.session.state([own]), other.state([theirs]))
                prompts = {row: self._seen(v) for row, v in enumerate(pack)}
                guides = {row: _guide(v, len(pack) + row) for row, v in enumerate(pack)}
                found = decode(steps, self.ending, prompts, guides)
                answers |= {(pack[row].question, pack[row].method): answer for row, answer in found.items()}
        return answers

    def _elsewhere(self, variants: Sequence[Variant]) -> dict[tuple[int, str], Answer]:
        """Answers of plans that ask about other images, as many images at a time as the batch has."""
        shown: dict[tuple[int, str], list[Variant]] = {}
        for variant in variants:
            shown.setdefault((self.questions[variant.question].image, variant.plan.key), []).append(variant)
        scenes = []
        for some in shown.values():
            visions = [self.session.adapter.prepare(image) for image in some[0].plan.images or ()]
            scenes.append(((some[0].plan.beside, *(vision.form for vision in visions)), visions, some))
        scenes.sort(key=lambda scene: scene[0])
        answers: dict[tuple[int, str], Answer] = {}
        for (beside, *_), same in groupby(scenes, key=lambda scene: scene[0]):
            for batch in filled(same, lambda scene: 1, self.images):
                session = self.open([visions for _, visions, _ in batch], bool(beside))
                asks = [(v, replace(self._ask(v), image=at)) for at, (_, _, some) in enumerate(batch) for v in some]
                for pack in filled(asks, lambda one: len(one[1].tail), self._room(PACK_TOKENS)):
                    asked = session.ask([ask for _, ask in pack])
                    answers |= self._decoded(session, [Pass(asked, [v for v, _ in pack])])
        return answers


def _unchanged(variant: Variant) -> bool:
    return variant.plan.change is None or variant.plan.change.empty


def _led(variant: Variant) -> bool:
    """Whether the prompt without its image guides it."""
    return variant.plan.gamma is not None and variant.plan.distort is None


def _guide(variant: Variant, partner: int) -> Guide:
    assert variant.plan.gamma is not None
    return Guide(partner, variant.plan.gamma, variant.plan.floor)


def ending_of(adapter: Adapter, decoding: Decoding) -> Ending:
    """When this model's answers end under a protocol."""
    return Ending(
        adapter.tokenizer,
        adapter.eos,
        decoding.thinking_tokens if adapter.spec.thinking else decoding.max_new_tokens,
        (*adapter.stop, *decoding.stop),
        float(adapter.generation.get("repetition_penalty") or 1.0),
        adapter.min_new_tokens,
        adapter.held,
    )


def seen(adapter: Adapter, prompt: Prompt, ending: Ending, blind: bool = False) -> tuple[int, ...]:
    """The prompt's ids, as far as a repetition penalty sees them."""
    if ending.penalty == 1.0 or not adapter.penalises_prompt:
        return ()
    image = () if adapter.image_token is None or blind else (adapter.image_token,)
    return (*prompt.head, *image, *prompt.tail)


def filled(items: Iterable[T], size: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Items in order, in lists whose sizes add up to `most` at most, or that hold one."""
    some: list[T] = []
    used = 0
    for item in items:
        if some and used + size(item) > most:
            yield some
            some, used = [], 0
        some.append(item)
        used += size(item)
    if some:
        yield some
