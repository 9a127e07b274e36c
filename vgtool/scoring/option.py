"""Which option an answer means, under `strict`: by its letter or by its text, and none by chance.

In this order; two different answers are none:
1. what stands in the last <answer> ... </answer> or \\boxed{...}, where there is one; else all of it, without emphasis;
2. the whole text of one option (exactly, else but for case, else in its words and values);
3. a letter meant as one, of an option that the row has: alone (`c`, `(c)`), first (`C. spleen`, `C` and a new line),
   after a word for answering (`answer is C`, `it is C`, `选C`), before a verdict (`C is correct`), in brackets or bold,
   or as the last sentence. "A" before a word is an article, and a letter inside a word, number or name (C5, C-spine)
   is none;
4. the one option named in whole words and not denied; the longest reading counts (left lung, not lung).
"""

from collections.abc import Iterator, Sequence

import regex

from vgtool.benchmarks.options import place
from vgtool.words import plain, words

_TAGS = regex.compile(r"<answer>\s*(.+?)\s*(?:</answer>|\Z)", regex.I | regex.S)
_BOXED = regex.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX = regex.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}|\$")
_BOLD = regex.compile(r"(?<![\w*])\*{1,3}\s*\(?([A-Z])\)?[.:]?\s*\*{1,3}(?![\w*])")
_MARKS = regex.compile(r"\*+|__|`|^#+\s*", regex.M)
_END = regex.compile(r"(?:\s*(?:<\|\w+\|>|</s>|<eos>|<end_of_turn>))+\s*\Z")
"""What a chat ends an answer with, left in by whoever decoded it."""
_OPENING, _CLOSING = "[{【「『", "]}】」』"

_FOLLOW = (
    r"because|since|as|for|which|that|is|was|would|seems|looks|due|based|given|so|but|while|where|here|it|this|these|"
    r"and\s+not"
)
_STANDS = rf"(?=\s*(?:$|\n)|[)\]\"'.,:;!?。，、；：！]|\s+(?:[-–—=(]|(?:{_FOLLOW})\b)|\p{{Han}})"
"""What may follow a letter that is one: an end, a sign, a word that goes on about it."""
_NOUNS = "answers?|option|choice|letter|selection|response|ans|correct one"
_IS = r"is|was|would\s+be|should\s+be|must\s+be"
_SAYS = (
    rf"(?i:(?:{_NOUNS})(?:\s+(?:{_IS}))?|(?:i\s+(?:would\s+|will\s+)?)?(?:choose|pick|select|go\s+with)|"
    rf"(?<!\w)(?:it|this|that)(?:['’]s|\s+(?:{_IS}))|(?<!\w)(?:so|thus|therefore|hence|correct|final))"
    r"\s*[,:=→]*\s*(?i:(?:option|choice|letter|answer|is)\s*:?\s*)*|"
    r"(?:答案|选择|选项|应选|故选|选)(?:是|为|选)?\s*[:：]?\s*"
)
_LETTER = r"[(\"'“]*\s*(?<![\p{Latin}\p{N}-])([A-Za-z])"
_MARKED = regex.compile(rf"(?:{_SAYS}){_LETTER}(?![\p{{L}}\p{{N}}]){_STANDS}", regex.M)
_ALONE = regex.compile(r"[(\"'“‘]*\s*([A-Za-z])\s*[)\"'”’]*\s*[.:!,;。]*[\"'”’]*")
_FIRST = regex.compile(r"\s*(?:\(([A-Z])\)|([A-Z])(?:[.:)]\)?(?=\s|$)|\s*[\n\t]|(?=,\s)|\s+[-–—=]\s|\s+(?=\()))")
_VERDICT = regex.compile(
    r"(?<![\p{Latin}\p{N}-])\(?([A-Z])\)?\s*(?i:(?:is|would\s+be|seems|looks|must\s+be)\s+(?:the\s+)?(?:most\s+|best\s+)?"
    r"(?:correct|right|best|likely|answer|true|appropriate|accurate)\b|(?:选项)?(?:是)?(?:正确|对的))"
)
_BRACKETED = regex.compile(r"(?<!\w)\(([A-Z])\)(?!\w)")
_FIGURE = regex.compile(
    r"(?:panels?|fig(?:ure)?s?\.?|images?|arrows?|labels?|labelled|labeled|marked|segments?|regions?|areas?|types?|parts?|"
    r"points?|structures?|zones?|grades?|stages?|class|group|level|vitamin|hepatitis)\s*$",
    regex.I,
)
_LAST = regex.compile(r"(?:^|[.!?。！？\n])\s*\(?([A-Z])\)?\s*[.!。]?\s*$")
_DENIED = regex.compile(r"(?:\bnot|n['’]t|\bneither|\bnor|不是|不选|并非)\s*(?:the\s+|option\s+)*\(?$", regex.I)
_MORE = regex.compile(
    r"\)?\s*(?:,|/|&|\+|\band\b(?!\s+not)|\bor\b)\s*(?:option\s+)?\(?([A-Z])\)?(?=\s*(?:$|\n|[.,;:!?)/&+]|and\b|or\b))"
)
_FILLERS = {"a", "an", "the", "in", "of", "at", "on", "be", "is", "likely", "to", "any", "是", "有", "见", "見"}
_NOT = {
    "not",
    "no",
    "t",
    "never",
    "without",
    "neither",
    "nor",
    "than",
    "cannot",
    "不",
    "非",
    "无",
    "無",
    "没",
    "沒",
    "未",
}


def stated(answer: str) -> str:
    """What an answer states last between tags or in a box, or all of it; NFKC, without emphasis."""
    text = _END.sub("", plain(answer))
    for form in (_TAGS, _BOXED):
        if found := list(dict.fromkeys(one.strip() for one in form.findall(text) if one.strip())):
            text = "\n".join(found)  # two different ones stay two answers
    text = _BOLD.sub(r"(\1)", _LATEX.sub(r"\1", text))
    return _MARKS.sub("", text).strip()


def chosen(answer: str, options: Sequence[str]) -> int | None:
    """The index of the option that an answer means, or None."""
    text = stated(answer)
    if (whole := place(answer, options)) is not None or (whole := place(text, options)) is not None:
        return whole
    for signs, bracket in ((_OPENING, "("), (_CLOSING, ")")):
        text = text.translate(dict.fromkeys(map(ord, signs), bracket))
    if alone := _ALONE.fullmatch(text):
        return _index(alone[1], options)
    named, clash = _letters(text, options)
    if clash or len(named) > 1:
        return None
    return named.pop() if named else _by_text(text, options)


def _index(letter: str, options: Sequence[str]) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if 0 <= index < len(options) else None


def _letters(text: str, options: Sequence[str]) -> tuple[set[int], bool]:
    """The options named by letter, and whether that contradicts itself (a letter with another option's text)."""
    text = _without_list(text, options)
    hidden = _without_marked_options(text, options)
    named: set[int] = set()
    first = None if _starts_with_text(text, options) else _FIRST.match(text)
    if first and (index := _index(first[1] or first[2], options)) is not None:
        rest = text[first.end() :].strip()
        if (other := place(rest, options)) is not None and other != index:
            return set(), True
        after = text[first.end() :]
        gap = text[first.end(1) if first[1] else first.end(2) : len(text) - len(after.lstrip())]
        if "\n" not in gap and regex.fullmatch(r"\p{Ll}+[.!]?", rest) and not _holds(options[index], rest):
            return set(), False  # a name of two words (C. difficile)
        named.add(index)
        hidden = " " * first.end() + hidden[first.end() :]
        if more := _MORE.match(text, first.end(1) if first[1] else first.end(2)):
            named |= {at for at in [_index(more[1], options)] if at is not None}
    elif (own := _letter_and_text(text, options)) is not None:
        named.add(own)
    for found in _meant(hidden):
        index = _index(found[1], options)
        if index is None or _DENIED.search(hidden[: found.start(1)]) or not _sentence(hidden, found, options, index):
            continue
        named.add(index)
        if (more := _MORE.match(hidden, found.end(1))) and (other := _index(more[1], options)) is not None:
            named.add(other)
    return named, False


def _meant(text: str) -> Iterator[regex.Match[str]]:
    """Every letter that stands where an answer's letter does."""
    for found in _MARKED.finditer(text):
        # a lower-case letter is one only before a sign or an end ("(d).", "answer: d"), never before a word
        if found[1].isupper() or regex.match(r"\s*(?:$|\n|[)\]\"'.,:;!?])", text[found.end(1) :]):
            yield found
    yield from _VERDICT.finditer(text)
    yield from (found for found in _BRACKETED.finditer(text) if not _FIGURE.search(text[: found.start()]))
    if last := _LAST.search(text):
        yield last


def _sentence(text: str, found: regex.Match[str], options: Sequence[str], index: int) -> bool:
    """Whether a letter and a full stop end a sentence: with a small letter after them they are a name (C. difficile),
    unless the option's own text follows."""
    rest = text[found.end(1) :]
    if not regex.match(r"\.\s+\p{Ll}", rest):
        return True
    return _holds(rest, options[index])


def _holds(text: str, part: str) -> bool:
    own = words(part)
    return bool(own) and f" {' '.join(own)} " in f" {' '.join(words(text))} "


def _starts_with_text(text: str, options: Sequence[str]) -> bool:
    """Whether an answer begins with an option's own words, which a letter may be the first of (E. coli)."""
    said = words(text)
    return any((own := words(one)) and len(own) > 1 and said[: len(own)] == own for one in options)


def _letter_and_text(text: str, options: Sequence[str]) -> int | None:
    """`B kidney`: a letter, then its own option's text and nothing else."""
    found = regex.match(r"\(?([A-Za-z])\)?\s+", text)
    index = _index(found[1], options) if found else None
    return index if found and index is not None and place(text[found.end() :], options) == index else None


def _without_list(text: str, options: Sequence[str]) -> str:
    """A text without a repeated list of options, which chooses none."""
    listed = [
        found
        for index, one in enumerate(options)
        if (
            found := regex.search(
                rf"(?<!\w)\(?{chr(65 + index)}[.:)]\s*{regex.escape(one.strip())}(?!\w)[,;.]?", text, regex.I
            )
        )
    ]
    if len(listed) < 2 or len(listed) < len(options):
        return text
    for found in sorted(listed, key=lambda one: -one.start()):
        text = f"{text[: found.start()]} {text[found.end() :]}"
    return text.strip()


def _without_marked_options(text: str, options: Sequence[str]) -> str:
    """A text with those options hidden whose own text would read as a letter ("Option A: gold")."""
    for one in sorted(options, key=len, reverse=True):
        own = plain(one).strip()
        if len(own) > 3 and any(True for _ in _meant(own)):
            text = regex.sub(
                rf"(?<!\w){regex.escape(own)}(?!\w)", lambda found: "\0" * len(found[0]), text, flags=regex.I
            )
    return text


def _by_text(text: str, options: Sequence[str]) -> int | None:
    said = words(text)
    named = set()
    for index, own in sorted(((i, words(one)) for i, one in enumerate(options)), key=lambda pair: -len(pair[1])):
        size = len(own)
        for at in range(len(said) - size + 1 if size else 0):
            if said[at : at + size] == own:
                if not _denied(said, at):
                    named.add(index)
                said[at : at + size] = ["\0"] * size
    return named.pop() if len(named) == 1 else None


def _denied(said: Sequence[str], at: int) -> bool:
    while at and said[at - 1] in _FILLERS:
        at -= 1
    return bool(at) and said[at - 1] in _NOT
