"""What is asked of a build, and how the command line says it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vgtool.build.picture import Options
from vgtool.build.questions import KINDS
from vgtool.errors import VgError, did_you_mean

TAKEN = ("all", "skipped")
"""What no split is called: all of them, and the file of what was skipped."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of a build, beside how the masks are read."""

    name: str
    domain: Literal["medical", "natural"] = "medical"
    kinds: Sequence[str] = KINDS
    splits: Mapping[str, float] = field(default_factory=lambda: {"test": 1.0})
    group: Literal["modality", "class", "kind"] = "modality"
    negatives: Literal["balanced", "none"] = "balanced"
    max_share: float = 0.4
    """A class whose boxes touch more of the grid is not asked about (the paper's 0.4)."""
    min_pixels: int = 16
    """An instance with fewer pixels gives no box."""
    grid: int = 24
    seed: int = 0
    workers: int = 2

    def check(self) -> None:
        """VgError for a value that means nothing."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise VgError(
                f"'{self.name}' is no plain name for a benchmark.",
                "Give a --name of letters, digits, dots, dashes and underscores, the first a letter or digit.",
            )
        if unknown := sorted(set(self.kinds) - set(KINDS)):
            raise VgError(f"No question kind '{unknown[0]}'.", did_you_mean(unknown[0], KINDS))
        for name in self.splits:
            if not re.fullmatch(r"[a-z0-9_-]+", name) or name in TAKEN:
                raise VgError(
                    f"--splits cannot call a split '{name}'.",
                    f"Use small letters, digits, dashes and underscores, and neither {' nor '.join(TAKEN)}.",
                )


def read_options(
    names: Path | None, modality: str | None, patient: str | None, axis: int, slices: str, window: str | None
) -> Options:
    """How masks are read, from what the command line says."""
    if names is not None and not names.is_file():
        raise VgError(f"--names '{names}' is no file.", "Name the file that says what the values stand for.")
    try:
        pattern = re.compile(patient) if patient else None
    except re.error as error:
        raise VgError(f"--patient '{patient}' is no regular expression: {error}.", "Correct it.") from None
    if slices not in ("largest", "all") and not (slices.isdecimal() and int(slices)):
        raise VgError(f"--slices '{slices}' is not known.", "Give largest, all, or a number.")
    low_high = None
    if window is not None:
        try:
            low, high = map(float, window.split(","))
        except ValueError:
            low = high = 0.0
        if not float("-inf") < low < high < float("inf"):
            raise VgError(f"--window '{window}' is not two rising numbers.", "Write for example --window=-160,240.")
        low_high = (low, high)
    return Options(names, modality, pattern, axis, slices, low_high)


def shares(text: str) -> dict[str, float]:
    """train=0.8,test=0.2 as numbers."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            number = float(share)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf") or name.strip() in found:
            raise VgError(f"--splits has '{part}'.", "Write for example train=0.8,test=0.2.")
        found[name.strip()] = number
    if (total := sum(found.values())) > 1 + 1e-9:
        raise VgError(f"--splits '{text}' add up to {total:g}, more than the whole.", "Make them add up to 1.")
    return found
