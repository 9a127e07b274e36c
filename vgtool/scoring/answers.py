"""Is an answer right? Three outcomes under named rules.

    strict      the default. A choice by a letter that is meant as one, else by the option's text (`option`); yes or no,
                in English and Chinese (`yes_no`); an either-or question by the options it offers. Two answers are none.
    paper       right when answer or reference, capitalised, is part of the other (the paper's VQA-RAD notebook). Its
                faults, kept: an empty answer is right, "No" is part of "Normal", and only a first word can match.
    huatuo      the first letter A to N that stands alone, as HuatuoGPT-Vision's scorer reads it. Its faults, kept:
                "I think" is option I, a small letter is wrong. Where the original stops with an exception (no letter at
                all) the answer is undecided. Yes/no rows without options have the options yes, no.
    llava-med   closed rows: the letters "yes" or "no" appear anywhere, and so does the reference (LLaVA-Med 1.0). Its
                faults, kept: "normal" holds "no", and closed rows that are not yes/no nearly always fail.
Undecided counts as wrong in a headline and is printed beside it. Other answers are right when their words and values
are the reference's (`vgtool.words`); graded metrics are in `open_ended`. Where several answers are accepted
(`accepted`), any of them is right.
"""

from collections.abc import Sequence
from typing import Literal

from vgtool.benchmarks.options import right_option
from vgtool.benchmarks.references import accepted
from vgtool.errors import VgError, did_you_mean
from vgtool.scoring import originals, yes_no
from vgtool.scoring.option import chosen, stated
from vgtool.words import words

Outcome = Literal["right", "wrong", "undecided"]
RULES = ("strict", "paper", "huatuo", "llava-med")
LONGEST_YES_NO = 4
"""Words of a reference that is a yes or no."""


def check_rule(rule: str) -> str:
    """The rule, or a VgError that suggests one."""
    if rule not in RULES:
        raise VgError(f"No rule '{rule}'.", did_you_mean(rule, RULES))
    return rule


def judge(answer: str, reference: str, kind: str, choices: Sequence[str] | None, rule: str = "strict") -> Outcome:
    """The outcome of one answer. `kind`: closed, choice or open."""
    found: list[Outcome] = [_judge(answer, true, kind, choices or (), rule) for true in accepted(reference)]
    return "right" if "right" in found else "undecided" if "undecided" in found else "wrong"


def _judge(answer: str, reference: str, kind: str, options: Sequence[str], rule: str) -> Outcome:
    if rule == "paper":
        return _known(originals.paper(answer, reference))
    if not answer.strip():
        return "undecided"
    if rule == "llava-med" and kind == "closed":
        return _known(originals.llava_med_closed(answer, reference))
    true = yes_no.read(reference)
    is_yes_no = kind == "closed" and bool(true) and len(words(reference)) <= LONGEST_YES_NO
    if rule == "huatuo" and (options or is_yes_no):
        options = options or ("yes", "no")
        said = originals.huatuo(answer)
        return "undecided" if said is None else _known(said == right_option(reference, options))
    if options and kind in ("choice", "closed"):
        said = chosen(answer, options)
        if said is not None or not is_yes_no:
            return "undecided" if said is None else _known(said == right_option(reference, options))
    if is_yes_no:
        agrees = yes_no.agree(yes_no.read(stated(answer)), true)
        return "undecided" if agrees is None else _known(agrees)
    return _known(words(answer) == words(reference) or words(stated(answer)) == words(reference))


def _known(right: bool) -> Outcome:
    return "right" if right else "wrong"
