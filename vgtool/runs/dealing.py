"""How the work of a run is dealt to its processes: all questions of an image together, shares as even as images allow.

No torch here: `vgtool plan` deals as a run does.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from typing import Any

from vgtool.records import Rejected, Sample
from vgtool.runs.shard import Shard

CHARACTERS_PER_TOKEN = 4
TEMPLATE_TOKENS = 40
"""Chat words around a question."""
IMAGE_TOKENS = 576
"""Of a model whose grid is not known."""
ANSWER_TOKENS = 8
"""Generated for a short answer."""


def groups(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Samples that show the same images, in the order of their first question."""
    found: dict[Any, list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.image_id, tuple(s.name for s in sample.extra_images)), []).append(sample)
    return list(found.values())


def work(group: Sequence[Sample]) -> int:
    """Estimated tokens that the model reads for a group: its images once, its questions, their answers."""
    images = 1 + len(group[0].extra_images)
    return images * IMAGE_TOKENS + sum(question_tokens(sample) + ANSWER_TOKENS for sample in group)


def question_tokens(sample: Sample) -> int:
    return TEMPLATE_TOKENS + math.ceil(len(sample.prompt) / CHARACTERS_PER_TOKEN)


def deal(samples: Iterable[Sample], count: int) -> list[list[list[Sample]]]:
    """Groups for each of `count` shards: the largest group next to the shard with the least work, so that no two
    shards differ by more than one group; all questions of an image stay together. In each, in the given order."""
    all_groups = groups(samples)
    heap = [(0, index) for index in range(count)]
    mine: list[list[int]] = [[] for _ in range(count)]
    for at in sorted(range(len(all_groups)), key=lambda at: (-work(all_groups[at]), at)):
        load, index = heapq.heappop(heap)
        mine[index].append(at)
        heapq.heappush(heap, (load + work(all_groups[at]), index))
    return [[all_groups[at] for at in sorted(some)] for some in mine]


def mine(samples: Iterable[Sample], rejected: Sequence[Rejected], shard: Shard) -> tuple[list[list[Sample]], list]:
    """The groups and the unusable rows of one shard."""
    return deal(samples, shard.count)[shard.index - 1], list(rejected[shard.index - 1 :: shard.count])
