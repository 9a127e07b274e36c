"""Options: those that a row has in any published spelling, those that a question offers, and which one is right.

Nothing is evaluated: a string is read as JSON, as a Python literal, or as numpy prints an array of texts.
"""

import ast
import io
import json
import math
import tokenize
from collections.abc import Mapping, Sequence
from itertools import pairwise

import regex

from vgtool.errors import SampleError
from vgtool.words import plain, words

MAX_TEXT = 20_000
_LETTER = regex.compile(r"\(?([A-Za-z])\)?[.:]?")
_LETTERED = regex.compile(r"\(?([A-Z])(?:\)|[.:])\)?\s*(.+)", regex.S)
_QUOTED = regex.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_PRINTED = regex.compile(rf"\[\s*((?:{_QUOTED.pattern})(?:\s+(?:{_QUOTED.pattern}))+)\s*\]")


# ---- as a row has them -----------------------------------------------------------------------------------------------


def letter(index: int) -> str:
    return chr(ord("A") + index)


def options_of(value: object) -> tuple[str, ...]:
    """Options as texts: a list, a letter -> text object, or either as JSON, Python literal or numpy print in a string.

    Blank ones at the end are no options; SampleError for one before them, without which every later letter would shift.
    """
    if isinstance(value, str):
        value = literal(value)
    if isinstance(value, Mapping):
        lettered = {str(key).strip().upper(): one for key, one in value.items()}
        while lettered and lettered.get(last := max(lettered)) in (None, ""):
            del lettered[last]  # Parquet gives every row of a struct column every letter
        letters = [letter(index) for index in range(len(lettered))]
        if set(lettered) != set(letters):
            raise SampleError("malformed_row", f"the options are lettered {', '.join(lettered)[:80]}, not from A on")
        value = [lettered[one] for one in letters]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if not isinstance(value, (list, tuple)) or any(isinstance(one, (list, tuple, dict)) for one in value):
        raise SampleError("malformed_row", f"the options are no list of texts: {str(value)[:80]}")
    found = ["" if one is None else str(one).strip() for one in value]
    while found and not found[-1]:
        found.pop()
    if "" in found:
        raise SampleError("malformed_row", f"option {letter(found.index(''))} of {len(found)} is blank")
    if len(found) > 26:
        raise SampleError("malformed_row", f"{len(found)} options, more than there are letters")
    return tuple(found)


def literal(value: str) -> object:
    """What a string spells as JSON, as a Python literal, or as numpy prints texts (without commas); nothing is
    evaluated."""
    if not value.strip():
        return None
    if len(value) > MAX_TEXT:
        raise SampleError("malformed_row", f"the options are {len(value):,} characters long")
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    if printed := _PRINTED.fullmatch(value.strip()):  # to Python this is one text, glued together
        return [ast.literal_eval(one) for one in _QUOTED.findall(printed[1])]
    try:
        tokens = tokenize.generate_tokens(io.StringIO(value.strip()).readline)
        kinds = [token.type for token in tokens if token.type != tokenize.NL]
        if (tokenize.STRING, tokenize.STRING) in pairwise(kinds):
            raise ValueError("two texts without a comma between them")
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
        raise SampleError("malformed_row", f"the options are no list: {value[:80]}") from None


# ---- which one is right ----------------------------------------------------------------------------------------------


def matching(text: str, options: Sequence[str]) -> list[int]:
    """The options that have this text: exactly, else but for case, else in their words and values, else these run
    together (x-ray, xray). 1.0 is 1 and never 10."""
    said = plain(text).strip()
    known = [plain(one).strip() for one in options]
    levels: list[tuple[object, list[object]]] = [
        (text.strip(), [one.strip() for one in options]),
        (said, [*known]),
        (said.casefold(), [one.casefold() for one in known]),
        (words(said), [words(one) for one in known]),
        ("".join(words(said)), ["".join(words(one)) for one in known]),
    ]
    for mine, theirs in levels:
        if mine and (found := [index for index, one in enumerate(theirs) if one == mine]):
            return found
    return []


def place(text: str, options: Sequence[str]) -> int | None:
    """The index of the one option that has this text; None for none or two."""
    found = matching(text, options)
    return found[0] if len(found) == 1 else None


def right_option(reference: str, options: Sequence[str]) -> int | None:
    """The index of the option that a reference is: the one with its text, else the only one that holds its words (Left
    among left, right lung)."""
    if (found := place(reference, options)) is not None:
        return found
    true = f" {' '.join(words(reference))} "
    holding = [index for index, one in enumerate(options) if true.strip() and true in f" {' '.join(words(one))} "]
    return holding[0] if len(holding) == 1 else None


def by_letter(choices: Sequence[str], answer: str) -> str:
    """The option a letter stands for. SampleError when there is no such option."""
    match = _LETTER.fullmatch(answer.strip())
    index = ord(match[1].upper()) - ord("A") if match else -1
    if not 0 <= index < len(choices):
        raise SampleError("answer_not_an_option", f"'{answer[:80]}' is no letter of {len(choices)} options")
    return choices[index]


def by_text(choices: Sequence[str], answer: str) -> str:
    """The option with this text (see `matching`). SampleError for none, or for two."""
    found = matching(answer, choices)
    if len(found) != 1:
        said = "is none of the options" if not found else f"is {len(found)} of the options"
        raise SampleError("answer_not_an_option" if not found else "answer_ambiguous", f"'{answer[:80]}' {said}")
    return choices[found[0]]


def by_either(choices: Sequence[str], answer: str) -> str:
    """The option with this text, else the one this letter stands for, else the one of both ("B. spleen")."""
    try:
        return by_text(choices, answer)
    except SampleError as error:
        if error.code == "answer_not_an_option" and _LETTER.fullmatch(answer):
            return by_letter(choices, answer)
        both = _LETTERED.fullmatch(answer)
        if error.code != "answer_not_an_option" or both is None:
            raise
    index, said = ord(both[1]) - ord("A"), matching(both[2], choices)
    if index in said:
        return choices[index]
    if said:
        raise SampleError("answer_ambiguous", f"'{answer[:80]}' is the letter of one option and the text of another")
    raise SampleError("answer_not_an_option", f"'{answer[:80]}' is none of the options")


# ---- as a question offers them ---------------------------------------------------------------------------------------

_OR = regex.compile(r"\s*,?\s+or\s+|\s*,\s*", regex.I)
_ALONE = regex.compile(r"\bor\b", regex.I)
_WHICH = regex.compile(r"(?:(?:in|on|at|to|from|of)\s+)?(?:which|what|where|who|how)\b", regex.I)
_IS_IT = regex.compile(r"(?:is|are|was|were)\s+(it|this|that|these|they)\s+", regex.I)
_VERB = regex.compile(r"(?:is|are|was|were|do|does|did|can|could|has|have|which|what|where|who|how|if)\b", regex.I)
_PLACE = regex.compile(r"(?:in|on|at|of|from|for|with|by|to|between|among)\b", regex.I)
_ARTICLE = regex.compile(r"^(?:an?|the)\s+", regex.I)


def either_or(question: str) -> tuple[str, ...] | None:
    """The options that a question offers ("Which is bigger, liver or left lung?"), all of them and as it spells them;
    None where it does not say where the first one begins. The answer is not looked at: nothing tells which is right.

    Read are lists after a colon, after the comma of a question for which, what or where, the whole of "PA or AP?", and
    what follows "Is it" or "Is this a".
    """
    asked = question.strip().rstrip("?.！？ \t\n")
    if not _ALONE.search(asked):
        return None
    if ":" in asked:
        return _listed(asked.rpartition(":")[2])
    head, comma, rest = asked.partition(",")
    if comma and _WHICH.match(head) and not _ALONE.search(head):
        return _listed(rest)
    if found := _IS_IT.match(asked):
        return _pair(asked[found.end() :], bare=found[1].lower() in ("it", "they"))
    if not _VERB.match(asked) and not _WHICH.match(asked):
        found = _listed(asked)
        return found if found and max(len(one.split()) for one in found) <= 3 else None
    return None


def _listed(text: str) -> tuple[str, ...] | None:
    options = tuple(_ARTICLE.sub("", one.strip()) for one in _OR.split(text.strip()))
    clause = any(not one or _VERB.match(one) or len(one.split()) > 6 for one in options)
    places = sum(bool(_PLACE.match(one)) for one in options)
    if len(options) < 2 or clause or 0 < places < len(options) or len({*map(str.casefold, options)}) < len(options):
        return None
    return options


def _pair(text: str, bare: bool) -> tuple[str, ...] | None:
    """The options of "Is it [a] X or [a] Y": an article shows where X begins. Y must not be longer, or a noun that both
    share ("a solid or cystic lesion") would count as its own; where X's last word stands in Y too, Y ends there."""
    options = _listed(text)
    if options is None or len(options) != 2 or "," in text:
        return None
    first, second = (one.split() for one in options)
    if len(second) > len(first) > 1 and second[len(first) - 1].casefold() == first[-1].casefold():
        second = second[: len(first)]
    clear = bare or _ARTICLE.match(text) or len(first) == 1
    return (" ".join(first), " ".join(second)) if clear and len(second) <= len(first) else None
