"""Is an answer right? Three outcomes under named rules.

    strict     the default. Letters only where the row has them and only where they are meant as an answer; then the
               option's text; yes or no by the first word, else the only one present. Two answers are no answer.
    paper      right when the reference text appears anywhere in the answer, lower case (containment); its
               fault: 'no' is found in 'normal' and 'nodule'.
Undecided counts as wrong in a headline and is printed beside it. Open answers are right on exact match after
normalising; graded metrics are in `open_ended`.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from vgtool.errors import VgError, did_you_mean

Outcome = Literal["right", "wrong", "undecided"]
RULES = ("strict", "paper")
WORDS = re.compile(r"[a-z0-9\u4e00-\u9fff]+")
YES, NO = {"yes", "是"}, {"no", "否", "不是"}
MARKER = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*\(?([a-z])\)?(?![a-z])", re.I)
ALONE = re.compile(r"\(?([a-z])\)?[.:)]?", re.I)
LEADING = re.compile(r"\(?([A-Z])(?:[.:)]|\)\.?)\s")


def check_rule(rule: str) -> str:
    """The rule, or a VgError that suggests one."""
    if rule not in RULES:
        raise VgError(f"No rule '{rule}'.", did_you_mean(rule, RULES))
    return rule


def judge(answer: str, reference: str, kind: str, choices: Sequence[str] | None, rule: str = "strict") -> Outcome:
    """The outcome of one answer. `kind`: closed, choice or open."""
    answer, reference = unicodedata.normalize("NFKC", answer).strip(), unicodedata.normalize("NFKC", reference).strip()
    if not answer:
        return "undecided"
    if rule == "paper":
        return "right" if reference.lower() in answer.lower() else "wrong"
    if kind == "choice" and choices:
        return _same(_option(answer, [unicodedata.normalize("NFKC", c) for c in choices]), reference)
    words = WORDS.findall(reference.lower())
    if kind == "closed" and len(words) == 1 and words[0] in YES | NO:
        said = _polarity(answer)
        return "undecided" if said is None else "right" if said == (words[0] in YES) else "wrong"
    return "right" if WORDS.findall(answer.lower()) == words else "wrong"


def _same(said: str | None, reference: str) -> Outcome:
    if said is None:
        return "undecided"
    return "right" if said.casefold() == reference.casefold() else "wrong"


def _polarity(answer: str) -> bool | None:
    words = WORDS.findall(answer.lower())
    if words and words[0] in YES | NO and not (set(words) & YES and set(words) & NO):
        return words[0] in YES
    yes, no = bool(set(words) & YES), bool(set(words) & NO)
    return yes if yes != no else None


def _option(answer: str, choices: Sequence[str]) -> str | None:
    """The option an answer means: a letter meant as one, the exact text, or the only option named in whole words."""
    letters = {chr(ord("A") + i): text for i, text in enumerate(choices)}
    if (alone := ALONE.fullmatch(answer)) and alone[1].upper() in letters:
        return letters[alone[1].upper()]
    named = {m.upper() for m in MARKER.findall(answer) if m.upper() in letters}
    if not named and (leading := LEADING.match(answer + " ")) and leading[1] in letters:
        named = {leading[1]}
    if named:
        return letters[named.pop()] if len(named) == 1 else None
    folded = " ".join(WORDS.findall(answer.lower()))
    texts = {text: " ".join(WORDS.findall(text.lower())) for text in choices}
    exact = [text for text, words in texts.items() if words == folded]
    inside = [text for text, words in texts.items() if words and f" {words} " in f" {folded} "]
    found = exact or inside
    return found[0] if len(found) == 1 else None
