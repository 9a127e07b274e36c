"""What becomes of a user's question before it is put into the chat template, family by family.

The repositories of the original layouts each clean a question in their own way, and some not at all. None of them keeps
a question from holding the marks that their chat is made of; vgtool refuses such a question, so that a user's text
never opens a turn of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vgtool.errors import SampleError, VgError

STRIPS = ("both", "left", "right", "none")


@dataclass(frozen=True, slots=True)
class Wording:
    """How a family words a question."""

    strip: str = "none"
    """Which ends lose their blanks: both, left, right or none."""
    delete: tuple[str, ...] = ()
    """Texts that the original deletes from a question, one after the other."""
    opens: str = ""
    """What opens the answer in the chat template, where it is more than blanks."""
    reserved: tuple[str, ...] = ()
    """Texts that the original's loader makes tokens of, beside those of the tokenizer's files."""

    def __call__(self, text: str) -> str:
        """The question as the model sees it. SampleError when it holds what opens an answer, or a token."""
        for mark in self.delete:
            text = text.replace(mark, "")
        text = {"both": text.strip(), "left": text.lstrip(), "right": text.rstrip()}.get(self.strip, text)
        for mark in (self.opens, *self.reserved):
            if mark and mark in text:
                raise refused(mark)
        return text


def wording(options: Mapping[str, Any], strip: str, template: str) -> Wording:
    """The wording of a registry entry. `strip`: the family's own, where the entry says none."""
    asked = options.get("strip", strip)
    if asked not in STRIPS:
        raise VgError(f"Option strip is '{asked}'.", f"It is {', '.join(STRIPS)}.")
    opens = template.partition("{question}")[2].strip()
    return Wording(asked, tuple(options.get("delete", ())), opens, tuple(options.get("reserved", ())))


def marks(tokenizer: Any) -> frozenset[int]:
    """Ids of special tokens, which no user's text may become: those that open and close turns are among them."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    ids = {index for index, token in added.items() if token.special} | set(tokenizer.all_special_ids)
    return frozenset(ids - {getattr(tokenizer, "unk_token_id", None)})


def refused(mark: str) -> SampleError:
    return SampleError("chat_mark_in_question", f"the question holds '{mark}', which the model's chat is made of")
