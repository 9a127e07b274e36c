"""The words of vgtool: what a sample is, what a box is, what an answer is. Frozen, standard library only.

Everything else is an implementation of these: a benchmark yields `Sample`s, a model answers them, a method changes
how, the run store keeps the rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

Domain = Literal["medical", "natural"]
QuestionType = Literal["closed", "choice", "open"]
QUESTION_TYPES: tuple[QuestionType, ...] = get_args(QuestionType)

QUESTION_SUFFIX = "Answer the question using a single word or phrase."
"""Follows a question after one space (question prompt; paper section 3)."""
GENERAL_QUESTION = "Write a general description of the image."
"""The question of the general prompt, whose attention rows are the yardstick for a question's."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box in stored-image pixels, continuous edges: a one-pixel box at the origin is (0, 0, 1, 1)."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        finite = math.isfinite
        if not (finite(self.x0) and finite(self.y0) and finite(self.x1) and finite(self.y1)):
            raise ValueError(f"box {self.as_list()} has a coordinate that is not finite")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise ValueError(f"box {self.as_list()} has no area: x1 must exceed x0 and y1 must exceed y0")

    @property
    def area(self) -> float:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def as_list(self) -> list[float]:
        return [self.x0, self.y0, self.x1, self.y1]

    def clipped(self, width: float, height: float) -> "Box | None":
        """The part inside a width x height image, or None when nothing of it is."""
        x0, y0 = max(self.x0, 0.0), max(self.y0, 0.0)
        x1, y1 = min(self.x1, float(width)), min(self.y1, float(height))
        return Box(x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


@dataclass(frozen=True, slots=True)
class Grid:
    """A model's image tokens laid out over the image: `rows` x `cols`, token index row * cols + col."""

    rows: int
    cols: int

    @property
    def tokens(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True, slots=True)
class View:
    """Which of several pictures in a file, and in which window. The default: a file's only picture, as it states."""

    slice: int | None = None
    """Frame of a multi-frame file as stored, or slice of a volume along `axis`; from 0."""
    axis: int = 2
    """Of a NIfTI volume in closest canonical orientation: 0 sagittal, 1 coronal, 2 axial."""
    window: tuple[float, float] | int | str | None = None
    """Least and greatest value shown; the number (from 0) or the name of a window the file states; or `full`."""

    @property
    def suffix(self) -> str:
        """What tells two views of a file apart, in ids and messages; nothing for the default."""
        if self.slice is None and self.window is None:
            return ""
        window = "..".join(f"{end:g}" for end in self.window) if isinstance(self.window, tuple) else self.window
        axis = self.axis if self.slice is not None and self.axis != 2 else None
        parts = {"slice": self.slice, "axis": axis, "window": window}
        told = ",".join(f"{key}={value}" for key, value in parts.items() if value is not None)
        return f"#{told}" if told else ""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where an image's encoded bytes come from. Nothing is read until `read` is called.

    `read` raises SampleError (`image_missing`, ...) when there is nothing to read; decoding is images.open_image's.
    """

    name: str
    """Relative path or member name: what messages and reports show. Never absolute."""
    read: Callable[[], bytes]
    view: View = field(default=View(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image, as a benchmark gives it."""

    id: str
    """Stable under reordering and re-reading: never a row number."""
    image_id: str
    """Equal for two samples exactly when they show the same image."""
    image: ImageSource
    question: str
    """The question alone, as the benchmark has it; what reports show."""
    prompt: str
    """The user text sent to the model: the question as the protocol dresses it (suffix, lettered options)."""
    domain: Domain
    group: str
    """Modality (CT, MRI, ...) or the natural benchmark's own grouping."""
    question_type: QuestionType
    reference: str = ""
    """The true answer; for `choice` the text of the right choice. Empty where a benchmark has none (VGMED)."""
    choices: tuple[str, ...] | None = None
    boxes: tuple[Box, ...] = ()
    """Ground-truth boxes in stored pixels; empty where a benchmark has none."""
    extra_images: tuple[ImageSource, ...] = ()
    """Further images of the same question (MMMU), after the first."""
    mask: Callable[[], "object"] | None = None
    """Reads the ground-truth mask as a bool array [height, width] in stored pixels, where a benchmark keeps one."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A benchmark row that is no sample, and why; it ends as a failed row of the run, never as nothing."""

    id: str
    reason: str
    """`code: detail`, as SampleError prints."""
    image_id: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are generated: greedy always (VGRefine step 3)."""

    max_new_tokens: int = 32
    thinking_tokens: int = 1024
    """In its place for a model that reasons first."""
    stop: tuple[str, ...] = ()
