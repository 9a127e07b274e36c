"""Answers made up for perf/scorers.py: every form of stating an option, and pieces of such forms drawn at random."""

import random
from collections.abc import Iterator
from typing import NamedTuple

LETTERS = "ABCDEFGH"
OPTIONS: tuple[tuple[str, ...], ...] = (
    ("liver", "kidney", "left lung", "heart"),
    ("gold", "iron", "lead"),
    ("CT", "MRI", "X-ray", "Ultrasound"),
    ("ER+", "ER-"),
    ("< 5 mm", "5 to 10 mm", "> 10 mm"),
    ("E. coli", "C. difficile", "S. aureus", "A. baumannii", "B. cereus"),
    ("lung", "right lung", "left lung", "both lungs"),
    ("Adenocarcinoma", "Squamous cell carcinoma", "Small cell carcinoma", "Carcinoid"),
    ("yes", "no"),
    ("Option A: gold", "Option B: iron", "lead"),
    ("1", "5", "10", "1.5"),
)
STATED = (
    "{L}", "{l}", "{L}.", "{L})", "({L})", "[{L}]", "{L}:", '"{L}"', "{L}\n", "\n{L}\n", "**{L}**", "*{L}*",
    "`{L}`", "# {L}",
    "{L}. {T}", "{L}) {T}", "{L}: {T}", "({L}) {T}", "**{L}. {T}**", "{L} - {T}", "{L} ({T})",
    "{L}\nThe image shows it.",
    "{L}. The image shows it.", "{L}, because it is so", "{L}\tit is", "{L}\u00a0", "Ｘ", "The answer is {L}",
    "The answer is: {L}",
    "The answer is {L}.", "The answer is ({L}).", "The answer is **{L}**.", "the answer is {l}.",
    "Answer: {L}", "ANSWER: {L}",
    "**Answer:** {L}", "Answer: ({L}) {T}", "The correct answer is {L} because it is so",
    "The correct answer is option {L}.",
    "Final Answer: {L}", "Option {L}", "Choice: {L}", "It is {L}", "It's {L}.", "I choose {L}",
    "I would go with ({L}).",
    "Thus, {L}", "Therefore, the answer is {L}.", "{L} is correct", "{L} is the correct answer.",
    "Option {L} is the best answer.",
    "The image is large.\n\n{L}", "The image is large. {L}.", "<answer>{L}</answer>", "<answer> {L} </answer>",
    "<answer>{L}. {T}</answer>", "\\boxed{{{L}}}", "$\\boxed{{{L}}}$", "\\boxed{{\\text{{{L}}}}}",
    "{ALL}\nAnswer: {L}",
    "The answer is not {O}, it is {L}.", "答案是{L}", "答案：{L}", "选{L}", "{L}选项正确", "{T}", "{t}",
    "{T}.", "It is {T}.",
    "The answer is {T}", "<answer>{T}</answer>",
)  # fmt: skip
"""Ways of stating one option: letter {L}, small {l}, text {T}, another letter {O}, every option {ALL}."""
NOTHING = (
    "A lesion is seen", "The answer is a mass", "It is A mass", "I think so", "see panel ({L})",
    "as in Figure ({L})",
    "a finding in segment {L}", "The answer is {L}5.", "{L}-spine", "vitamin {L}", "The answer is {L} or {O}",
    "{L} and {O}",
    "{L}, {O}", "{L} is not correct", "The answer is not {L}", "answer is {O}. No, the answer is {L}", "{ALL}",
    "I cannot tell.",
    "Sorry, I can't help with that.", "", "Z", "The answer is Z", "<answer>{O}</answer><answer>{L}</answer>",
    "It is not {T}", "{T} or {U}",
)  # fmt: skip
"""Ways of stating none."""
YES_NO = (
    "Yes", "No", "yes.", "NO!", "Yes, it is", "No, it is not", "normal", "nodule", "unknown",
    "There is no mass", "not seen", "",
    "yes and no", "I do not know", "The answer is yes", "<answer>No</answer>", "**Yes**", "eyes", "None",
    "is it A", "B", "A. yes",
    "ｙｅｓ", "Yes\u00a0", " Yes", "\tno", "no.no.", "Y", "the answer isnt no", "one",
    "yes" + "." * 40, "noted", "No\nYes",
)  # fmt: skip
OPEN = (
    "left lung", "the left lung", "Left Lung.", "left-sided", "left sided", "two", "2", "none", "0",
    "a mass, a cyst", "mass cyst",
    "1,000 cells", "1000 cells", "isnt seen", "isn't seen", "x" + "." * 40, "lung lung lung", "the the",
    "A.P. view", "AP view",
    "dont know", "in the right/left lobe", "right left lobe", "3.5 cm", "35 cm", "", "somebody'd", "c_d",
    "CT + MRI", "e.g. T2",
)  # fmt: skip


class Case(NamedTuple):
    """One answer: what it was made of, and the option it states (None: none)."""

    form: str
    answer: str
    options: tuple[str, ...]
    stated: int | None


def cases(seed: int = 0) -> Iterator[Case]:
    """Every form for every option of every row."""
    rng = random.Random(seed)
    for options in OPTIONS:
        listed = "\n".join(f"{LETTERS[i]}. {one}" for i, one in enumerate(options))
        for at, text in enumerate(options):
            other = rng.choice([i for i in range(len(options)) if i != at])
            parts = {"L": LETTERS[at], "l": LETTERS[at].lower(), "T": text, "t": text.upper(), "O": LETTERS[other]}
            parts |= {"U": options[other], "ALL": listed}
            for form in STATED:
                answer = chr(ord(LETTERS[at]) + 0xFEE0) if form == "Ｘ" else form.format(**parts)
                yield Case(form, answer, options, at)
                for tail in (" ", "\n", "\nIt is seen in the image.", " <|endoftext|>") if form == "{L}" else ():
                    yield Case(form + tail, answer + tail, options, at)
            for form in NOTHING:
                yield Case(form, form.format(**parts), options, None)


PIECES = (
    *"ABCDEFGIJMN", *"abcdin", "A.", "B)", "(C)", "[D]", "**A**", "E:", "I", "Ｂ", "ｙｅｓ",
    "is", "is A", "is c", "the answer is", "The answer is:", "Answer:", "option", "Option", "choice", "correct", "因此",
    "答案是", "答案为", "选", "是", "是 ", "为", "为B", "不是", "有", "没有", "正常", "不正常", "。", "，",
    "yes", "Yes", "YES", "no", "No", "NO", "not", "none", "None", "normal", "Normal", "nodule", "unknown", "eyes",
    "a", "an", "the", "The", "A mass", "a mass", "lung", "left lung", "Left Lung", "liver", "heart", "kidney", "lead",
    "one", "two", "ten", "zero", "2", "3.5", "1,000", "10", "-2", ">5", "<5", "5 um", "5 m", "%", "ER+", "ER-", "T2",
    "isn't", "isnt", "dont", "couldn't've", "somebody'd", "o'clock", "'twas", "y'all", "we've", "Id",
    "x-ray", "A.P.", "e.g.", "right/left", "c_d", "C5", "C-spine", "Fig. A", "panel (B)", "left-sided", "CT + MRI",
    ".", "...", ",", ";", ":", "!", "?", "/", "-", "_", "(", ")", "[", "]", "{", "}", '"', "'", "=", "+", "@", "<", ">",
    "<answer>", "</answer>", "\\boxed{", "}", "<|endoftext|>", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x85",
    "\u200b", "é", "e\u0301", "ß", "İ", "ﬁ", "Да", "нет", "はい", "肺", "٣", "½", "²", "",
)  # fmt: skip
"""What an answer may be put together from."""
BETWEEN = (" ", " ", " ", "", "\n", "  ", ", ", ". ")


def drawn(count: int, seed: int = 0) -> list[str]:
    """`count` different answers of one to nine pieces each, whatever they mean."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        pieces = rng.choices(PIECES, k=rng.choice((1, 2, 2, 3, 3, 4, 5, 6, 9)))
        found["".join(piece + rng.choice(BETWEEN) for piece in pieces)[: rng.choice((5, 400, 400, 400))]] = None
    return list(found)
