"""What other groups' published scorers make of the same answers, faults kept, so that their numbers can be made again.

Nothing is stripped, folded or normalised here that the original leaves alone. `perf/scorers.py` runs the
originals' own functions beside these.

    paper       the VQA-RAD notebook of "How Do Medical MLLMs Fail?"
    huatuo      match_choice3 and test_choice_llava of HuatuoGPT-Vision's scorer.py (f699d88)
    llava-med   evaluate, normalize_word and calculate_f1score of LLaVA-Med 1.0.0
"""

import re
from collections import Counter

_HUATUO = re.compile(r"(?:is |[是为]|\W|^)(?![aA] )([A-Na-n])(?=\W|$)")


def paper(answer: str, reference: str) -> bool:
    """Answer or reference, capitalised, is part of the other. An empty answer is right, "No" is part of "Normal"."""
    said, true = answer.replace("<|endoftext|>", "").capitalize(), reference.capitalize()
    return said in true or true in said


def huatuo(answer: str) -> int | None:
    """The index of the option that the first letter A to N standing alone means; "a " and "A " are articles. -1 for a
    small letter, which is beyond every option there; None where the original stops with an exception."""
    letter = _HUATUO.search(answer)
    if letter is None:
        return None
    return ord(letter[1]) - ord("A") if letter[1].isupper() else -1


def llava_med_closed(answer: str, reference: str) -> bool:
    """The letters "yes" or "no" appear anywhere, and so does the reference: "normal" holds "no"."""
    said, true = llava_med_normal(answer.lower()), llava_med_normal(reference.lower())
    return ("yes" in said or "no" in said) and true in said


def llava_med_recall(answer: str, reference: str) -> float:
    """The column `recall` of its table: hits / (hits + missing), hits being the answer's words that the reference has,
    missing the reference's words that the answer has not, repeats included in both."""
    said, true = (Counter(llava_med_normal(llava_med_normal(text.lower())).split()) for text in (answer, reference))
    hits = sum(count for word, count in said.items() if word in true)
    missing = sum(count for word, count in true.items() if word not in said)
    return hits / (hits + missing) if hits else 0.0


_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"} | {
    "seven": "7", "eight": "8", "nine": "9", "ten": "10"
}  # fmt: skip
_SHORT = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's 
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've 
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    long[:at] + long[at + 1 :]: long for long in _SHORT.split() for at, letter in enumerate(long) if letter == "'"
} | {"somebody'd": "somebodyd"}
_NUMBER_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32
"""re.UNICODE, which the original passes where the count of replacements belongs."""


def llava_med_normal(text: str) -> str:
    """normalize_word: signs go or become blanks, periods go (the first 32), number words become digits, articles go,
    contractions take their apostrophe."""
    out = text
    for sign in _PUNCTUATION:
        glued = f"{sign} " in text or f" {sign}" in text or _NUMBER_COMMA.search(text)
        out = out.replace(sign, "" if glued else " ")
    found = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", out, count=_PERIODS).lower().split()]
    kept = [_CONTRACTIONS.get(word, word) for word in found if word not in ("a", "an", "the")]
    return " ".join(kept).replace(",", "")
