"""What a method sees of one question, and what it asks for: the protocol of VGRefine, its rivals and its controls.

A method is a frozen dataclass whose fields are its parameters (`--method NAME:field=value,...`). It names the layers it
wants to read, and plans all questions of some images at once; the refine task runs every plan over shared prefixes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vgtool.attention.asks import Change, Rows
from vgtool.errors import SampleError, VgError
from vgtool.grounding import heads as head_files
from vgtool.grounding.geometry import Geometry
from vgtool.methods.task import ImageGroup
from vgtool.records import Grid, Sample
from vgtool.registry import ModelSpec

if TYPE_CHECKING:  # methods are listed, and a run is planned, without torch
    from PIL import Image

    from vgtool.models.adapter import Adapter
    from vgtool.models.inputs import Vision

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Maps = Mapping[int, Array]
"""Layer -> attention rows to the image tokens, [..., H, T]."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a method may know of the run before the first sample."""

    layers: int
    heads: int
    ranked: tuple[tuple[int, int], ...]
    """(layer, head) in rank order: --heads FILE, or the registry's published ones. Empty when there are none."""
    knockout_layers: tuple[int, ...]
    seed: int
    follows_image: bool = False
    """Whether the model's input takes the size of the image (Qwen, tiles) instead of its own."""
    notes: tuple[str, ...] = ()
    """What a reader must know: whose heads these are, where they are another model's."""
    without: frozenset[int] = frozenset()
    """Layers that have no softmax attention to read or edit."""

    @property
    def readable(self) -> frozenset[int]:
        """Layers whose attention can be read and edited."""
        return frozenset(range(self.layers)) - self.without


def read_facts(adapter: "Adapter | _Unloaded", heads: Path | None, image_ids: Iterable[str], seed: int) -> Facts:
    """Facts of a model, its heads from a head file or else the published ones. VgError when the file is another
    architecture's, or was made on any of these images; knockout layers are the model's own, else the file's."""
    ranked: tuple[tuple[int, int], ...] = tuple((layer, head) for layer, head in adapter.spec.heads_ranked or ())
    knockout = tuple(adapter.spec.knockout_layers or ())
    notes: tuple[str, ...] = ()
    if heads is not None:
        file = head_files.read(heads)
        head_files.refuse_mismatch(file, adapter.spec.name, adapter.layers, adapter.heads)
        head_files.refuse_overlap(file, image_ids)
        notes = head_files.foreign(file, adapter.spec.name, adapter.revision)
        ranked = tuple((layer, head) for layer, head, _ in file.ranked)
        knockout = knockout or tuple(file.knockout_layers)
    for layer, head in ranked:
        if not (0 <= layer < adapter.layers and 0 <= head < adapter.heads):
            raise VgError(
                f"'{adapter.spec.name}' has {adapter.layers} layers of {adapter.heads} heads, but its entry ranks "
                f"head {[layer, head]}.",
                "Correct heads_ranked, or rank this model's own heads and give --heads FILE.",
            )
        if layer in adapter.without:
            raise VgError(
                f"Head {[layer, head]} is ranked, but layer {layer} of '{adapter.spec.name}' has no softmax attention.",
                "Rank this model's own heads with vgtool probe and vgtool heads, and give --heads FILE.",
            )
    facts = Facts(adapter.layers, adapter.heads, ranked, knockout, seed, adapter.follows_image, notes)
    return replace(facts, without=frozenset(adapter.without))


LEFT_OUT = "left_out"
"""Code of what a method plans for a question that it leaves out by design: no answer, and no failure either."""
UNKNOWN = 1 << 20
"""Layers and heads of a model whose sizes nobody has told: every layer and head fits."""


def expected_facts(spec: ModelSpec, heads: Path | None, image_ids: Iterable[str], seed: int) -> Facts:
    """Facts as `read_facts` will find them, before the model is loaded: its sizes are those of its entry or of the head
    file."""
    file = None if heads is None else head_files.read(heads)
    layers, each = (file.layers, file.heads) if file else (spec.layers or UNKNOWN, spec.heads or UNKNOWN)
    return read_facts(_Unloaded(spec, layers, each), heads, image_ids, seed)


@dataclass(frozen=True, slots=True)
class _Unloaded:
    """Stands for a model that is not loaded; it has what `read_facts` asks an adapter for."""

    spec: ModelSpec
    layers: int
    heads: int
    revision: str = ""
    follows_image: bool = False
    without: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scene:
    """One question on one image, after the baseline has read it."""

    sample: Sample
    images: "tuple[Image.Image, ...]"
    geometries: tuple[Geometry, ...]
    """Of each image; its tokens follow those of the images before it."""
    question: Callable[[Rows], Maps]
    """The question's attention rows, per layer [H, T]."""
    general: Callable[[Rows], Maps]
    """The general prompt's."""
    probabilities: Array
    """The baseline's first-token distribution [vocabulary]."""
    region: Sequence[int]
    """Tokens of the ground-truth boxes; empty where there are none."""
    facts: Facts

    @property
    def image(self) -> "Image.Image":
        """The image that boxes and maps are shown on: the first."""
        return self.images[0]

    @property
    def geometry(self) -> Geometry:
        """The first image's."""
        return self.geometries[0]

    @property
    def tokens(self) -> int:
        """Image tokens of the prompt, all its images together."""
        return sum(geometry.tokens for geometry in self.geometries)

    def rng(self, label: str) -> np.random.Generator:
        """Random numbers of this sample and purpose alone, whatever else runs and in whatever order."""
        return np.random.default_rng([self.facts.seed, crc32(self.sample.id.encode()), crc32(label.encode())])


@dataclass(frozen=True, slots=True)
class Scenes:
    """Q questions on B images of one form, after the baseline has read them all."""

    samples: tuple[Sample, ...]
    """[Q]"""
    group: Ints
    """Which of `groups` shows each question's image [Q]."""
    groups: Sequence[ImageGroup]
    """[B]"""
    question: Callable[[Rows], Maps]
    """The questions' attention rows, per layer [Q, H, T]."""
    general: Callable[[Rows], Maps]
    """The general prompt's on each image, per layer [B, H, T]; of each question: `[scenes.group]`."""
    probabilities: Array
    """The baseline's first-token distributions [Q, vocabulary]."""
    regions: Sequence[Sequence[int]]
    """Of each question, the tokens of its ground-truth boxes; empty where there are none."""
    facts: Facts
    elsewhere: Callable[[], tuple[Sequence[tuple["Scenes", Ints]], Mapping[int, SampleError]]]
    """The same questions, each on another image of the benchmark: scenes of one form each, with the places their
    questions have here; and why some cannot be had."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> Scene:
        if not 0 <= at < len(self):
            raise IndexError(at)
        shown = self.groups[self.group[at]]
        return Scene(
            self.samples[at],
            shown.images,
            tuple(vision.geometry for vision in shown.visions),
            lambda row: {layer: maps[at] for layer, maps in self.question(row).items()},
            lambda row: {layer: maps[self.group[at]] for layer, maps in self.general(row).items()},
            self.probabilities[at],
            self.regions[at],
            self.facts,
        )

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Of each image of a prompt; the same in every one of them."""
        return tuple(vision.geometry.grid for vision in self.groups[0].visions)

    @property
    def tokens(self) -> int:
        """T: image tokens of a prompt, all its images together."""
        return sum(grid.tokens for grid in self.grids)

    def only_image(self, method: str) -> None:
        """SampleError `several_images` for a method that is not defined on more than one."""
        if len(self.grids) > 1:
            raise SampleError("several_images", f"{method} is not defined for a prompt with {len(self.grids)} images")

    def each(self, plan: Callable[[Scene], "Plan"]) -> list["Plan | SampleError"]:
        """One plan at a time; a SampleError fails its own question."""
        plans: list[Plan | SampleError] = []
        for at in range(len(self)):
            try:
                plans.append(plan(self[at]))
            except SampleError as error:
                plans.append(error.with_traceback(None))  # which would hold the images' caches until collected
        return plans


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method does to one question. Nothing set: the answer is the baseline's."""

    change: Change | None = None
    gamma: float | None = None
    """Guidance against the prompt without its image (PAI), or with what `distort` makes of it (VCD)."""
    floor: float = 0.1
    """Under guidance, tokens less likely than this share of the likeliest are out."""
    distort: "Callable[[Vision, int], Vision] | None" = None
    """A prepared image and its place in the prompt -> what guidance is against, for every question of this image and
    `key` the same."""
    blind: bool = False
    """Answer without the image."""
    images: "tuple[Image.Image, ...] | None" = None
    """Answer about these images instead."""
    beside: bool = False
    """They stand side by side, without the line breaks that the model's chat puts between two."""
    key: str = ""
    """Questions of one image whose `images`, or `distort`, share a key share one session."""
    kept: Sequence[int] | Ints | None = None
    """Image tokens that stay visible."""
    triage: Array | None = None
    opposite: Change | None = None
    """Cuts what `change` keeps: measured for faithfulness, not answered."""

    @property
    def unchanged(self) -> bool:
        """Whether its answer is the baseline's."""
        edited = self.change is not None and not self.change.empty
        return not (edited or self.images or self.blind or self.gamma is not None)


class Method(Protocol):
    """A way to answer a question."""

    name: ClassVar[str]
    summary: ClassVar[str]
    # A method may also say `role: ClassVar[Role]` (vgtool.methods.names), one that does not is a claim; and
    # `needs_grid: ClassVar[bool]`, whether it must know where in the image each token stands.
    # `needs_boxes: ClassVar[bool]`, whether a benchmark without any box has no use for it.

    def reads(self, facts: Facts) -> Mapping[Rows, frozenset[int]]:
        """Layers to read, by row. VgError when the method cannot run on this model."""
        ...

    def starts(self, facts: Facts) -> frozenset[int]:
        """First edited layers of its plans."""
        ...

    def plan(self, scenes: Scenes) -> Sequence[Plan | SampleError]:
        """One of each question, or why it cannot be answered this way; a SampleError that is raised is everyone's.
        `scenes.each` plans one question at a time."""
        ...


def cut(kept: Sequence[int], tokens: int, **settings: Any) -> Change:
    """The change that hides every image token but `kept`."""
    hidden = np.ones(tokens, bool)
    hidden[list(kept)] = False
    return hide(hidden[None], **settings)[0]


def hide(hidden: NDArray[np.bool_], **settings: Any) -> list[Change]:
    """The changes that hide image tokens, each question's own [Q, T]."""
    import torch

    return [Change(cut=row, **settings) for row in torch.from_numpy(hidden)]


def unusable(values: Array, what: str) -> dict[int, SampleError]:
    """SampleError `not_finite` of each question whose values [Q, ...] hold NaN or infinity."""
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
    return {int(at): SampleError("not_finite", f"{what} holds NaN or infinity") for at in np.flatnonzero(bad)}
