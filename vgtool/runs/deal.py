"""How the work of a run is dealt: images, each with all of its questions, to shards of about the same work.

No torch, and no sample is held that can be made again: of each only its place, id and work are.
"""

import heapq
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

from vgtool.benchmarks.packed import Outline, Packed
from vgtool.records import Rejected, Sample
from vgtool.runs.shard import Shard

CHARACTERS_PER_TOKEN = 4
TEMPLATE_TOKENS = 40
"""Chat words around a question."""
IMAGE_TOKENS = 576
"""Of a model whose grid is not known."""
ANSWER_TOKENS = 8
"""Generated for a short answer."""


class Group(Sequence[Sample]):
    """Samples that show the same images. They are made when they are asked for, where `samples` makes them then."""

    __slots__ = ("_places", "_samples", "ids", "work")

    def __init__(self, samples: Sequence[Sample], places: Sequence[int], ids: Sequence[str], work: int) -> None:
        self._samples, self._places, self.ids, self.work = samples, places, tuple(ids), work

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Sample: ...
    @overload
    def __getitem__(self, at: slice) -> list[Sample]: ...
    def __getitem__(self, at: int | slice) -> Sample | list[Sample]:
        if isinstance(at, slice):
            return [self._samples[place] for place in self._places[at]]
        return self._samples[self._places[at]]

    def singles(self) -> list["Group"]:
        """Each of its samples as a group."""
        each = zip(self._places, self.ids, strict=True)
        return [Group(self._samples, (place,), (name,), self.work) for place, name in each]


def groups(samples: Iterable[Sample]) -> list[Group]:
    """Samples that show the same images, in the order of their first question. `work`: estimated tokens that the model
    reads: images once, questions, answers."""
    given = samples if isinstance(samples, Sequence) else list(samples)
    found: dict[Hashable, tuple[list[int], list[str], list[int]]] = {}
    for place, (name, shown, images, length) in enumerate(_outline(given)):
        places, ids, work = found.setdefault(shown, ([], [], [IMAGE_TOKENS * images]))
        places.append(place)
        ids.append(name)
        work[0] += _tokens(length) + ANSWER_TOKENS
    return [Group(given, _run(places), ids, work[0]) for places, ids, work in found.values()]


def _outline(samples: Sequence[Sample]) -> Iterable[Outline]:
    if isinstance(samples, Packed):
        return samples.outline()
    shown = ((one, (one.image_id, *(source.name for source in one.extra_images))) for one in samples)
    return ((one.id, key, 1 + len(one.extra_images), len(one.prompt)) for one, key in shown)


def _run(places: list[int]) -> Sequence[int]:
    """The same numbers, as a range where they follow each other."""
    run = range(places[0], places[-1] + 1)
    return run if len(run) == len(places) else tuple(places)


def question_tokens(sample: Sample) -> int:
    return _tokens(len(sample.prompt))


def _tokens(characters: int) -> int:
    return TEMPLATE_TOKENS + math.ceil(characters / CHARACTERS_PER_TOKEN)


def deal(samples: Iterable[Sample], count: int) -> list[list[Group]]:
    """Groups for each of `count` shards: the largest group next to the shard with the least work, so that no two
    shards differ by more than one group; all questions of an image stay together. In each, in the given order."""
    all_groups = groups(samples)
    if count == 1:
        return [all_groups]
    heap = [(0, index) for index in range(count)]
    mine: list[list[int]] = [[] for _ in range(count)]
    for at in sorted(range(len(all_groups)), key=lambda at: (-all_groups[at].work, at)):
        load, index = heapq.heappop(heap)
        mine[index].append(at)
        heapq.heappush(heap, (load + all_groups[at].work, index))
    return [[all_groups[at] for at in sorted(some)] for some in mine]


@dataclass(frozen=True)
class Share:
    """The rows of one shard."""

    groups: list[Group]
    rejected: list[Rejected]

    @cached_property
    def ids(self) -> set[str]:
        return {name for group in self.groups for name in group.ids} | {one.id for one in self.rejected}


def mine(samples: Iterable[Sample], rejected: Sequence[Rejected], shard: Shard) -> Share:
    """The groups and the unusable rows of one shard."""
    return Share(deal(samples, shard.count)[shard.index - 1], list(rejected[shard.index - 1 :: shard.count]))
