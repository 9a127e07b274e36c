"""The words around an image as token ids: of the chat, of a question, and of what stands between two images."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from vgtool.errors import SampleError
from vgtool.models.inputs import Prompt
from vgtool.models.wording import Wording, refused
from vgtool.registry import ModelSpec

IMAGE = "<image>"
"""Stands for the image in a chat template of models.yaml; never a token of the user's text."""
QUESTION = "{question}"
"""Stands for the user's text in a chat template."""


@dataclass(kw_only=True)
class Prompts:
    """What a model is asked, token by token."""

    tokenizer: Any
    spec: ModelSpec
    template: str
    """Chat template with `<image>` and `{question}`: the checkpoint's own, rendered, or the registry's."""
    separator: str = "\n"
    """Text between two images of one prompt."""
    several: str = ""
    """The template of a prompt with more than one image, where it is another."""
    numbered: str = ""
    """Under `several`: the text between two images, `{number}` the place of the second of them."""
    longest: int | None = None
    """Tokens of a prompt, images and all, behind which the model's own code cuts it off."""
    bos: bool = True
    """False: the prompt goes in without the tokens that the tokenizer would add by itself (HuatuoGPT-Vision)."""
    wording: Wording = field(default_factory=Wording)
    """What becomes of a question's text."""
    marks: frozenset[int] = frozenset()
    """Ids that no question's text may become."""

    placeholder: ClassVar[bool] = True
    """True: the tokenizer knows an image token, and the prompt is tokenised in one pass around it, as the model's
    processor does. False: text is tokenised in pieces around the image, as repositories with a sentinel do."""

    @property
    def image_token(self) -> int | None:
        """The id that stands for an image token in this model's prompts, where it has one."""
        raise NotImplementedError

    @property
    def image_length(self) -> int:
        """Tokens of an image, where `longest` asks for them."""
        raise NotImplementedError

    def prompt(self, text: str, images: int = 1) -> Prompt:
        """The chat prompt around some images. SampleError when the text holds the image placeholder or a mark of the
        chat, and when the model's own code would cut the prompt off."""
        text = self.wording(text)
        if IMAGE in text or self.image_token in self.tokenizer(text, add_special_tokens=False).input_ids:
            raise SampleError("placeholder_in_question", "the question holds the model's image placeholder")
        head, _, rest = self._template(images).partition(IMAGE)
        lead, _, trail = rest.partition(QUESTION)
        read = self._one_pass if self.placeholder else self._pieces
        prompt = read(head, lead, text, trail)
        for token in prompt.tail[slice(*prompt.question)]:
            if token in self.marks:
                raise refused(self.tokenizer.convert_ids_to_tokens(token))
        self._fits(prompt, images)
        return prompt

    def _template(self, images: int) -> str:
        return self.several if images > 1 and self.several else self.template

    def _fits(self, prompt: Prompt, images: int) -> None:
        if self.longest is None:
            return
        between = sum(len(self.between(number)) for number in range(2, images + 1))
        length = len(prompt.head) + len(prompt.tail) + between + images * self.image_length
        if length > self.longest:
            detail = f"{length} tokens, and the model's own code cuts a prompt off behind {self.longest}"
            raise SampleError("prompt_too_long", detail)

    def _one_pass(self, head: str, lead: str, text: str, trail: str) -> Prompt:
        assert self.image_token is not None
        before = head + self.tokenizer.convert_ids_to_tokens(self.image_token) + lead
        ids, spans = self._tokens(before + text + trail)
        at = ids.index(self.image_token)
        start, stop = covered(spans, len(before), len(before) + len(text))
        return Prompt(tuple(ids[:at]), tuple(ids[at + 1 :]), (max(start - at - 1, 0), max(stop - at - 1, 0)))

    def _pieces(self, head: str, lead: str, text: str, trail: str) -> Prompt:
        """Every piece carries the tokenizer's own BOS, which only the first keeps."""
        first, _ = self._tokens(head)
        ids, spans = self._tokens(lead + text + trail)
        if self.bos and ids[:1] == [self.tokenizer.bos_token_id]:
            ids, spans = ids[1:], spans[1:]
        return Prompt(tuple(first), tuple(ids), covered(spans, len(lead), len(lead) + len(text)))

    def _tokens(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of a text, and the characters each one covers. A leading BOS is added unless the text spells it out
        and the model is fed through a processor (processors drop the second BOS, the sentinel repositories keep it).
        """
        spelled = self.placeholder and bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        encoded = self.tokenizer(text, add_special_tokens=self.bos and not spelled, return_offsets_mapping=True)
        return list(encoded.input_ids), [tuple(span) for span in encoded.offset_mapping]

    def between(self, number: int = 2) -> tuple[int, ...]:
        """Ids between two images of one prompt, before the image of this number."""
        separator = self.numbered.replace("{number}", str(number)) if self.several else self.separator
        head, _, rest = self._template(number).partition(IMAGE)
        if not self.placeholder:
            ids, _ = self._tokens(separator)
            return tuple(ids[1:] if self.bos and ids[:1] == [self.tokenizer.bos_token_id] else ids)
        assert self.image_token is not None
        token = self.tokenizer.convert_ids_to_tokens(self.image_token)
        ids, _ = self._tokens(head + token + separator + token + rest)
        first = ids.index(self.image_token)
        return tuple(ids[first + 1 : ids.index(self.image_token, first + 1)])

    def sent(self, prompt: Prompt) -> str:
        """A prompt's text as the model gets it, IMAGE in place of the image tokens."""
        head, tail = (self.tokenizer.decode(list(ids)) for ids in (prompt.head, prompt.tail))
        return f"{head}{IMAGE}{tail}"

    def rephrased(self, ask: str, prompt: str | None = None) -> Self:
        """The same model, asked in other words: `ask` around {question}, or a chat template of another make."""
        made = copy(self)
        made.template = self.template.replace(QUESTION, ask) if prompt is None else prompt
        made.several = self.several.replace(QUESTION, ask) if prompt is None else ""
        return made

    def beside(self) -> Self:
        """The same model, whose images stand side by side: without the line breaks that its chat puts between two."""
        made = copy(self)
        made.separator, made.several = self.separator.replace("\n", ""), ""
        return made


def covered(spans: Sequence[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """[first, last + 1) of the tokens that cover any character of [start, stop)."""
    inside = [index for index, (a, b) in enumerate(spans) if a < stop and b > start]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
