"""Prompts as a checkpoint's own processor writes them, and the ids around an image told from them.

A processor puts into a prompt what it likes for an image: placeholders, tile, row and column marks, line breaks, and
its own first token. What of it belongs to the image is told by comparing prompts with and without one, and with two
texts; an image's ids run from special token to special token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image

from vgtool.errors import VgError
from vgtool.models.inputs import Vision
from vgtool.models.prompts import IMAGE, QUESTION
from vgtool.models.shapes import Shape

SAMPLE, OTHER = "Is there a mass?", "Which side?"
"""The user's text while a prompt's parts are told apart."""
SMALL, TALL = (96, 72), (72, 216)
"""Sides of the images meanwhile, px."""


@dataclass(frozen=True, slots=True)
class NativeVision(Vision):
    """An image as the model's own processor prepares it."""

    image: Image.Image | None = None
    """For prompts with several images, which the processor prepares together."""
    span: tuple[int, ...] = ()
    """Ids that stand in the prompt because of the image."""
    kinds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Per-token inputs (token types) of the span."""
    shape: Shape | None = None

    @property
    def form(self) -> tuple[int, ...]:
        """Images whose processor writes the same ids, with their tokens in the same places."""
        shape = self.shape
        return (*self.span, *((shape.rows, shape.cols, *shape.cells) if shape else ()))


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around an image."""

    lead: tuple[int, ...]
    """Ids before the image."""
    trail: tuple[int, ...]
    """Ids after it, with SAMPLE as the user's text."""
    anchor: str
    """The last special token of an image, behind which a text is tokenised as in the whole prompt."""
    before: str
    """What stands between the anchor and the user's text."""
    after: str
    """What follows the user's text."""
    special: frozenset[int]
    """Special tokens of an image, which no question may hold."""
    kinds: Mapping[str, int]
    """Per-token inputs of the processor (token types) -> what text has there."""
    grown: bool
    """Whether the number of tokens follows the image."""

    def inner(self, ids: Sequence[int]) -> list[int] | None:
        """The ids of a prompt's images; None when these are not the words around them."""
        stop = len(ids) - len(self.trail)
        whole = tuple(ids[: len(self.lead)]) == self.lead and tuple(ids[stop:]) == self.trail
        return list(ids[len(self.lead) : stop]) if whole else None


@dataclass(frozen=True, slots=True)
class Writer:
    """A checkpoint's processor with its chat template."""

    name: str
    processor: Any
    tokenizer: Any
    template: str
    """With `<image>` and `{question}`."""
    mark: str
    """What the chat template writes for an image."""
    separator: str
    """Text between two images."""

    def __call__(self, text: str, images: Sequence[Image.Image]) -> dict[str, Any]:
        """The processor's output for a prompt with images."""
        head, _, rest = self.template.partition(IMAGE)
        marks = self.separator.join([self.mark] * len(images))
        words = head + marks + rest.replace(QUESTION, text)
        spelled = {"add_special_tokens": False} if self._spelled(words) else {}
        out = self.processor(text=[words], images=list(images), return_tensors="pt", **spelled)
        return {name: value for name, value in out.items() if name != "labels"}

    def around(self) -> Around:
        """Tell the ids of an image from those of the text, on two image shapes and two texts."""
        small = self(SAMPLE, [Image.new("RGB", SMALL)])
        tall = self(SAMPLE, [Image.new("RGB", TALL)])
        ids = small["input_ids"][0].tolist()
        start, stop = self._cut(ids, self(OTHER, [Image.new("RGB", SMALL)])["input_ids"][0].tolist())
        grown = len(tall["input_ids"][0]) != len(ids) or any(
            one.shape != small[name].shape for name, one in tall.items() if torch.is_tensor(one)
        )
        anchor, trail = ids[stop - 1], tuple(ids[stop:])
        before, after = self._beside(anchor, trail)
        return Around(
            lead=tuple(ids[:start]),
            trail=trail,
            anchor=self.tokenizer.convert_ids_to_tokens(anchor),
            before=before,
            after=after,
            special=frozenset(ids[start:stop]) & self._added,
            kinds=self._kinds(small, start, stop),
            grown=grown,
        )

    def _beside(self, anchor: int, trail: Sequence[int]) -> tuple[str, str]:
        """What stands before and after the user's text: as the ids read, with what the processor itself writes there;
        as the template has it, where a tokenizer does not give back what it was given."""
        read = self.tokenizer.decode(trail, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        sides = [read.partition(SAMPLE)[::2], self.template.partition(IMAGE)[2].partition(QUESTION)[::2]]
        token = self.tokenizer.convert_ids_to_tokens(anchor)
        for before, after in sides:
            ids = self.tokenizer(token + before + SAMPLE + after, add_special_tokens=False).input_ids
            if tuple(ids) == (anchor, *trail):
                return before, after
        return sides[0]

    @property
    def _added(self) -> frozenset[int]:
        return frozenset(self.tokenizer.get_added_vocab().values())

    def _kinds(self, out: Mapping[str, Any], start: int, stop: int) -> dict[str, int]:
        kinds = {}
        for name, values in per_token(out).items():
            outside = set(values[:start]) | set(values[stop:])
            if len(outside) > 1:
                raise VgError(
                    f"The processor of '{self.name}' marks the words of a prompt by several {name}.",
                    "vgtool cannot rebuild them for another question; use another model.",
                )
            kinds[name] = outside.pop() if outside else 0
        return kinds

    def _cut(self, ids: list[int], other: list[int]) -> tuple[int, int]:
        """[start, stop) of the image's ids: from where the prompt without an image differs to before where another
        question does, from special token to special token."""
        bare = self._bare(ids)
        question = _common(ids, other)
        inside = [at for at in range(min(_common(ids, bare), question), question) if ids[at] in self._added]
        if not inside or len(ids) <= len(bare):
            raise VgError(
                f"The processor of '{self.name}' writes no image tokens into its prompt.",
                "It is another model's, or this model takes its image beside the text, where no map can be read.",
            )
        # What stands between the image and the question in a prompt without one is text, as in any prompt.
        text = len(bare) - _common(ids, bare) - (len(ids) - question)
        return inside[0], max(at for at in inside if at < question - max(text, 0)) + 1

    def _bare(self, ids: list[int]) -> list[int]:
        """The prompt without an image, with the first token that a processor may put in front itself (Molmo 2)."""
        text = self.template.replace(IMAGE, "").replace(QUESTION, SAMPLE)
        bare = list(self.tokenizer(text, add_special_tokens=not self._spelled(text)).input_ids)
        first = ids[:1] if ids[:1] in ([self.tokenizer.bos_token_id], [self.tokenizer.eos_token_id]) else []
        return first + bare if first != bare[:1] else bare

    def _spelled(self, text: str) -> bool:
        """Whether a text begins with the BOS that the tokenizer would add."""
        return bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)


def per_token(out: Mapping[str, Any]) -> dict[str, list[int]]:
    """Inputs beside the ids that have one number a token."""
    shape = out["input_ids"].shape
    return {
        name: value[0].tolist()
        for name, value in out.items()
        if torch.is_tensor(value) and value.shape == shape and name not in ("input_ids", "attention_mask")
    }


def separating(inner: Sequence[int], spans: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    """The ids between two images of a prompt, whose images have the ids `spans` alone; None when they do not stand so,
    each whole and all apart alike."""
    size, rest = divmod(len(inner) - sum(map(len, spans)), len(spans) - 1)
    between = tuple(inner[len(spans[0]) : len(spans[0]) + max(size, 0)])
    wanted = [*spans[0], *(token for span in spans[1:] for token in (*between, *span))]
    return between if not rest and list(inner) == wanted else None


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common start."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
