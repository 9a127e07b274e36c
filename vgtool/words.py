"""What readers and scorers see in a text: its words and values.

Letters and digits of every script count, by their Unicode categories; so do the signs that change a value: the sign
of a number, `+` and `-` after a word (ER+, ER-), `<`, `>`, `%`, a decimal point. A hyphen inside a word (x-ray), a dash
between words and other punctuation do not.
"""

import unicodedata

import regex

_SAME = str.maketrans({"−": "-", "–": "-", "‐": "-", "≥": ">=", "≤": "<="})
_SUPERSCRIPT = regex.compile(r"(?<=\p{N})(?=[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻])")
_DIGIT = regex.compile(r"(?![0-9])\p{Nd}")
_THOUSANDS = regex.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?![\d,])")
_GAP = regex.compile(r"(?<=\d)\s+(?=[%‰])|(?<=[<>]=?)\s+(?=\d)")
_TOKEN = regex.compile(
    r"""(?V1x) \p{Han}
    | (?:[<>]=?|±)? (?:(?<![\p{L}\p{M}\p{N})%])[-+])? (?:\d+(?:\.\d+)?|(?<![\p{L}\p{N}.])\.\d+) (?:[%‰]|\++)?
    | [\p{L}--\p{Han}][[\p{L}\p{M}\p{N}]--\p{Han}]* (?:\++|-(?![\p{L}\p{N}]))?
    | [<>]= | [-+±<>%‰×÷≠↑↓^](?<!-) | [\p{N}\p{M}]+
    """
)


def plain(text: str) -> str:
    """NFKC, except that a superscript after a digit stays one (10^2 is not 102)."""
    return text if text.isascii() else unicodedata.normalize("NFKC", _SUPERSCRIPT.sub("^", text))


def words(text: str) -> list[str]:
    """Words and values, case folded; every Chinese character is one. A text of signs alone is one."""
    if not text.isascii():
        text = plain(text).translate(_SAME)
        text = _DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    text = _GAP.sub("", _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text.casefold()))
    found = [_value(token) for token in _TOKEN.findall(text)]
    return found or text.split()


def _value(token: str) -> str:
    """A number as it is shortest: 3.0 is 3, .5 is 0.5."""
    if "." not in token:
        return token
    whole, _, rest = token.partition(".")
    digits = rest.rstrip("%‰+")
    short = digits.rstrip("0")
    return f"{whole if whole[-1:].isdigit() else whole + '0'}{'.' if short else ''}{short}{rest[len(digits) :]}"
