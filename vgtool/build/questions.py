"""What is asked, in whose words, and which of it: templates, balance, splits. Everything by seed and content.

Localization asks for a class that the masks show and, as often, for one of the same data set that they do not show, so
that neither `yes` nor the class's name gives the answer away. Attributes are asked where they were measured.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from vgtool.records import Box

LOCALIZATION = "localization"
TEMPLATES: Mapping[str, Sequence[str]] = {
    LOCALIZATION: (
        "Does this picture show {a}?",
        "Is {a} visible here?",
        "Looking at this picture, is there any {a}?",
        "Is any part of it {a}?",
        "Would you mark {a} somewhere in this picture?",
    ),
    "side": (
        "In which half of the picture is the {a}, left or right?",
        "Seen as displayed, does the {a} lie in the left or the right half?",
        "Which half of the picture holds the {a}?",
    ),
    "quadrant": (
        "Which quarter of the picture holds the {a}?",
        "In which corner region of the picture is the {a} found?",
        "Where in the picture is the {a}: which of the four quarters?",
    ),
    "larger": (
        "Which of the two covers more of the picture, the {a} or the {b}?",
        "Comparing the {a} and the {b}, which takes up more area?",
        "Between {a} and {b}, which one is larger in this picture?",
    ),
    "smaller": (
        "Which of the two covers less of the picture, the {a} or the {b}?",
        "Comparing the {a} and the {b}, which takes up less area?",
        "Between {a} and {b}, which one is smaller in this picture?",
    ),
    "tone": (
        "Next to what directly surrounds it, is the {a} brighter or darker?",
        "Is the {a} brighter or darker than the tissue or background right around it?",
        "How does the {a} differ in brightness from its immediate surroundings?",
    ),
    "count": (
        "How many separate regions of {a} does the picture show?",
        "Count the separate areas of {a}: how many are there?",
        "In how many distinct places is {a} seen?",
    ),
    "border": (
        "Does the {a} reach the edge of the picture?",
        "Is the {a} cut by the border of the picture?",
        "Does any part of the {a} touch the picture's border?",
    ),
    "shape": (
        "Is the outline of the {a} rather round or elongated?",
        "Which describes the {a} better, round or elongated?",
        "Does the {a} look round or elongated here?",
    ),
}
KINDS = (LOCALIZATION, "side", "quadrant", "size", "tone", "count", "border", "shape")
"""What can be asked; `size` asks larger or smaller."""
OPTIONS: Mapping[str, Sequence[str]] = {
    "side": ("left", "right"),
    "quadrant": ("upper left", "upper right", "lower left", "lower right"),
    "tone": ("brighter", "darker"),
    "count": ("1", "2", "3", "4"),
    "shape": ("round", "elongated"),
}
CLOSED = (LOCALIZATION, "border")
PLACE_WORDS = frozenset(["left", "right", "upper", "lower", "top", "bottom", "superior", "inferior"])
"""A class so named is not asked for its side or quadrant: its name would answer, or contradict the display."""
SIZE_WORDS = frozenset(["large", "larger", "small", "smaller", "big", "tiny"])


@dataclass(frozen=True, slots=True)
class Question:
    """One row to be."""

    image_id: str
    kind: str
    labels: tuple[str, ...]
    answer: str
    boxes: tuple[Box, ...] = ()
    mask: str | None = None
    """Path of the mask image, below the benchmark's folder."""

    @property
    def key(self) -> str:
        return "\n".join((self.image_id, self.kind, *self.labels))

    @property
    def id(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()[:16]


def chance(seed: int, *parts: str) -> int:
    """A number of 64 bits that depends on the seed and the parts alone."""
    return int.from_bytes(hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()[:8], "big")


def worded(question: Question, seed: int) -> str:
    """The question in one of its templates."""
    a, b = (*question.labels, "")[:2]
    kind = question.kind
    templates = TEMPLATES[kind]
    if question.kind in ("larger", "smaller") and chance(seed, "order", question.key) % 2:
        a, b = b, a
    return templates[chance(seed, "words", question.key) % len(templates)].replace("{a}", a).replace("{b}", b)


def options(question: Question, seed: int) -> list[str] | None:
    """The choices in seeded order; None for yes or no."""
    if question.kind in CLOSED:
        return None
    listed = OPTIONS.get(question.kind, question.labels)
    return sorted(listed, key=lambda one: chance(seed, "options", question.key, one))


def tells(label: str, kind: str) -> bool:
    """Whether a class's own name would give the answer away."""
    said = set(label.lower().replace("-", " ").replace("_", " ").split())
    return bool(said & (PLACE_WORDS if kind in ("side", "quadrant") else SIZE_WORDS if kind == "size" else frozenset()))


@dataclass(frozen=True, slots=True)
class Shown:
    """What one picture shows, for localization."""

    image_id: str
    stratum: tuple[str, ...]
    """Split and data set: negatives come from the same."""
    asked: Mapping[str, Question]
    """Class -> the positive question."""
    present: frozenset[str]
    """Every class with a mask, filtered out or not: never a negative."""


def balanced(shown: Iterable[Shown], seed: int) -> tuple[list[Question], int]:
    """As many yes as no of every class in every split and data set, and how many positives that left out."""
    strata: dict[tuple[str, ...], list[Shown]] = defaultdict(list)
    for one in shown:
        strata[one.stratum].append(one)
    found: list[Question] = []
    dropped = 0
    for stratum in sorted(strata):
        pictures = strata[stratum]
        for label in sorted({name for one in pictures for name in one.asked}):

            def order(one: Shown, label: str = label) -> tuple[int, str]:
                return chance(seed, "balance", label, one.image_id), one.image_id

            yes = sorted((one for one in pictures if label in one.asked), key=order)
            no = sorted((one for one in pictures if label not in one.present), key=order)
            kept = min(len(yes), len(no))
            dropped += len(yes) - kept
            found += [one.asked[label] for one in yes[:kept]]
            found += [Question(one.image_id, LOCALIZATION, (label,), "no") for one in no[:kept]]
    return found, dropped


def assign(units: Mapping[str, Sequence[str]], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Picture -> split. `units`: picture -> what must not be torn apart (its patient, its content); pictures that share
    any of it go together. A group's split depends on the seed and its own least name alone."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for picture, names in units.items():
        for name in (f"picture {picture}", *names):
            ends = sorted((root(f"picture {picture}"), root(name)))
            parent[ends[1]] = ends[0]
    total = sum(shares.values())
    found = {}
    for picture in units:
        at = chance(seed, "split", root(f"picture {picture}")) / 2**64 * total
        edges = zip(shares, accumulate(shares.values()), strict=True)
        found[picture] = next((name for name, edge in edges if at < edge), list(shares)[-1])
    return found
