"""The answer of a model that reasons first, read where its own format puts it.

A format says after which text the answer stands and which ends it (`thinking` in models.yaml, kept in run.json). What
was cut off before its answer was whole is unfinished: an outcome of its own, which counts as wrong. The raw text stays
in the answer column.
"""

from collections.abc import Mapping
from typing import Any


def final(answer: str, opens: str, closes: str | None, begins: str | None = None) -> str | None:
    """The last whole answer in a text, stripped; None when there is none.

    An opening that ends in a brace (`\\boxed{`) is closed by the brace that matches it. `begins`: what a reasoning
    opens with, where a model may also answer at once.
    """
    if begins is not None and begins not in answer:
        return answer.strip()
    at = answer.rfind(opens)
    while at >= 0:
        rest = answer[at + len(opens) :]
        if closes is None:
            return rest.strip()
        end = _matching(rest) if opens.endswith("{") else rest.find(closes)
        if end >= 0:
            return rest[:end].strip()
        at = answer.rfind(opens, 0, at)
    return None


def _matching(text: str) -> int:
    """Where the brace opened before `text` closes; -1 when it does not."""
    depth = 1
    for at, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if not depth:
            return at
    return -1


def of(identity: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The format of a run's model; None for one that answers at once, and for runs of before there were formats."""
    return (identity.get("decoding") or {}).get("thinking")


def note(identity: Mapping[str, Any]) -> list[str]:
    """What a reader of a table must know."""
    if (found := of(identity)) is None:
        return []
    budget, closes = identity["decoding"]["max_new_tokens"], found["closes"]
    where = f"between {found['opens']} and {closes}" if closes else f"after {found['opens']}"
    where += f" where there is a {begins}" if (begins := found.get("begins")) else ""
    return [f"Answers are read {where}. Unfinished: no whole answer within {budget} tokens; counts as wrong."]
