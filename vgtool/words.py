"""What readers and scorers see in a text: its words, and the two options of an either-or question."""

import re
import unicodedata

WORDS = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")


def words(text: str) -> list[str]:
    """Lower-case words; every Chinese character is one."""
    return WORDS.findall(unicodedata.normalize("NFKC", text).lower())


def either_or(question: str, reference: str) -> tuple[str, str] | None:
    """The two options of "... X or Y?", when the reference is one of them: an answer that names both is none."""
    before, middle, after = question.rpartition(" or ")
    if not middle:
        return None
    true = words(reference)
    right = [word for word in words(after) if word not in ("a", "an", "the")]
    left = words(before)
    if not true or not right or not left:
        return None
    if true == right:
        return " ".join(left[-len(right) :]), reference
    return (reference, " ".join(right)) if left[-len(true) :] == true else None
