"""What a caller in Python may hand over in more than one form."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from vgtool.errors import VgError

T = TypeVar("T", str, str | Path)


def several(given: T | Iterable[T]) -> tuple[T, ...]:
    """A list of texts or paths; one alone is a list of one, for Python walks through a text letter by letter."""
    return (given,) if isinstance(given, (str, Path)) else tuple(given)


def natural(seed: int) -> int:
    """A seed, which generators of chance take from 0 up. VgError for another."""
    if seed < 0:
        raise VgError(f"seed={seed} is below 0.", "Give a whole number from 0 up.")
    return seed
