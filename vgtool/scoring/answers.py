"""Is an answer right? Three outcomes under named rules.

    strict      the default. Letters only where the row has them and only where they are meant as an answer; then the
                option's text; yes or no by the first word, else the only one present. Two answers are no answer.
    paper       right when answer or reference, capitalised, is part of the other (the paper's VQA-RAD notebook). Its
                faults, kept: an empty answer is right, "No" is part of "Normal", and only a first word can match.
    huatuo      the first letter A to N that stands alone, as HuatuoGPT-Vision's scorer reads it. Its faults, kept:
                "I think" is option I, a lower-case letter is wrong. Where the original stops with an exception (no
                letter at all) the answer is undecided. Yes/no rows without options have the options yes, no.
    llava-med   closed rows: the letters "yes" or "no" appear anywhere, and so does the reference (LLaVA-Med 1.0). Its
                faults, kept: "normal" holds "no", and closed rows that are not yes/no nearly always fail.
Undecided counts as wrong in a headline and is printed beside it. Open answers are right on exact match after
normalising (containment under `paper`); graded metrics are in `open_ended`.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from vgtool.errors import VgError, did_you_mean
from vgtool.words import words

Outcome = Literal["right", "wrong", "undecided"]
RULES = ("strict", "paper", "huatuo", "llava-med")
YES, NO = {"yes"}, {"no"}
CHINESE_NO = re.compile(r"不是|不包含|不存在|不属于|没有|否|不|无")
CHINESE_YES = re.compile(r"是|包含|存在|属于|有|对")
MARKER = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*\(?([a-z])\)?(?![a-z])", re.I)
ALONE = re.compile(r"\(?([a-z])\)?[.:)]?", re.I)
LEADING = re.compile(r"\(?([A-Z])(?:[.:)]|\)\.?)\s")
HUATUO = re.compile(r"(?:^|is |[是为]|\W)(?![aA]\s)([A-Na-n])(?=\W|$)")


def check_rule(rule: str) -> str:
    """The rule, or a VgError that suggests one."""
    if rule not in RULES:
        raise VgError(f"No rule '{rule}'.", did_you_mean(rule, RULES))
    return rule


def judge(answer: str, reference: str, kind: str, choices: Sequence[str] | None, rule: str = "strict") -> Outcome:
    """The outcome of one answer. `kind`: closed, choice or open."""
    answer, reference = (unicodedata.normalize("NFKC", text).strip() for text in (answer, reference))
    if rule == "paper":
        said, true = answer.capitalize(), reference.capitalize()
        return "right" if said in true or true in said else "wrong"
    if not answer:
        return "undecided"
    if rule == "llava-med" and kind == "closed":
        said = answer.lower()
        return "right" if ("yes" in said or "no" in said) and reference.lower() in said else "wrong"
    options = [unicodedata.normalize("NFKC", choice).strip() for choice in choices or ()]
    yes_no = kind == "closed" and _polarity(reference) is not None and len(words(reference)) <= 4
    if rule == "huatuo" and (options or yes_no):
        return _same(_huatuo(answer, options or ["yes", "no"]), reference)
    if options and kind in ("choice", "closed"):
        option = _option(answer, options)
        if kind == "choice" or option is not None:
            return _same(option, reference)
    if yes_no:
        said_yes = _polarity(answer)
        return "undecided" if said_yes is None else "right" if said_yes == _polarity(reference) else "wrong"
    return "right" if words(answer) == words(reference) else "wrong"


def _same(said: str | None, reference: str) -> Outcome:
    if said is None:
        return "undecided"
    return "right" if said.casefold() == reference.casefold() else "wrong"


def _polarity(answer: str) -> bool | None:
    """Yes (True), no (False), or neither: the first word, else the only one of the two that is there."""
    found = words(answer)
    yes, no = bool(set(found) & YES), bool(set(found) & NO)
    if found and found[0] in YES | NO and not (yes and no):
        return found[0] in YES
    if not yes and not no and any("\u4e00" <= word <= "\u9fff" for word in found):
        text = "".join(found)
        no, yes = bool(CHINESE_NO.search(text)), bool(CHINESE_YES.search(CHINESE_NO.sub("", text)))
    return yes if yes != no else None


def _option(answer: str, choices: Sequence[str]) -> str | None:
    """The option an answer means: a letter meant as one, the exact text, or the only option named in whole words."""
    exact = [text for text in choices if text.casefold() == answer.casefold()]
    if len(exact) == 1:
        return exact[0]
    letters = {chr(ord("A") + i): text for i, text in enumerate(choices)}
    if (alone := ALONE.fullmatch(answer)) and alone[1].upper() in letters:
        return letters[alone[1].upper()]
    named = {m.upper() for m in MARKER.findall(answer) if m.upper() in letters}
    if not named and (leading := LEADING.match(answer + " ")) and leading[1] in letters:
        named = {leading[1]}
    if named:
        return letters[named.pop()] if len(named) == 1 else None
    folded = " ".join(words(answer))
    texts = {text: " ".join(words(text)) for text in choices}
    same = [text for text, normal in texts.items() if normal == folded]
    inside = [text for text, normal in texts.items() if normal and f" {normal} " in f" {folded} "]
    found = same or inside
    return found[0] if len(found) == 1 else None


def _huatuo(answer: str, options: Sequence[str]) -> str | None:
    letter = HUATUO.search(answer)
    if letter is None:
        return None
    at = ord(letter[1]) - ord("A")  # a lower-case letter lies beyond every option, as in the original
    return options[at] if at < len(options) else ""
