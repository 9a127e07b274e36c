"""The samples of a benchmark, held small: what grows with the rows is their ids, and some bytes of compressed text.

As objects a million questions are gigabytes. Here the texts and boxes of a block of samples are one compressed piece,
and a sample is made when it is asked for; questions on one image that are near each other share its source.
"""

import json
import zlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from vgtool.records import Box, ImageSource, Sample

BLOCK = 256
"""Samples that are compressed together."""
OPEN = 16
"""Blocks that are held as objects, those that were asked for last."""
RECENT = 1024
"""Images whose sources are known again."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Samples that show one image each and have no mask, without any object: what can lie on a disk."""

    ids: list[str]
    images: list[str]
    """Image ids, each once, in the order of their first question."""
    shown: "array[int]"
    """Of each sample, the place of its image id."""
    names: list[str]
    """Of image sources, each once."""
    sources: "array[int]"
    """Of each sample, the place of its source's name."""
    lengths: "array[int]"
    """Of each sample, the characters of its prompt."""
    blocks: list[bytes]
    """Texts and boxes, BLOCK samples each."""


Outline = tuple[str, Hashable, int, int]
"""Of a sample: its id, what stands for its images, how many they are, and the characters of its prompt."""


class Packed(Sequence[Sample]):
    """Samples in the order in which they were added."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._shown: dict[tuple[str, ...], int] = {}
        """Image id and names of further images -> number."""
        self._numbers, self._lengths = array("Q"), array("Q")
        """Of each sample, which images it shows, and the characters of its prompt."""
        self._sources: list[ImageSource] = []
        self._more: dict[int, tuple[tuple[ImageSource, ...], Callable[[], object] | None]] = {}
        """Place -> further images and mask, of the few that have them."""
        self._blocks: list[bytes] = []
        self._last: list[Sample] = []
        """Of the block that is not full yet."""
        self._recent: OrderedDict[tuple[object, ...], ImageSource] = OrderedDict()
        self._held: OrderedDict[int, list[Sample]] = OrderedDict()

    def append(self, sample: Sample) -> None:
        key = (sample.image_id, sample.image.name, sample.image.view)
        source = self._recent.setdefault(key, sample.image)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        if sample.extra_images or sample.mask is not None:
            self._more[len(self._ids)] = (sample.extra_images, sample.mask)
        shown = (sample.image_id, *(one.name for one in sample.extra_images))
        self._numbers.append(self._shown.setdefault(shown, len(self._shown)))
        self._lengths.append(len(sample.prompt))
        self._ids.append(sample.id)
        self._sources.append(source)
        self._last.append(sample)
        if len(self._last) == BLOCK:
            self._blocks.append(_pack(self._last))
            self._last = []

    def columns(self) -> Columns | None:
        """All of it; None where a sample has a mask or several images."""
        if self._more:
            return None
        places: dict[str, int] = {}
        sources = array("Q", (places.setdefault(one.name, len(places)) for one in self._sources))
        blocks = [*self._blocks, _pack(self._last)] if self._last else self._blocks
        return Columns(self._ids, self.image_ids(), self._numbers, [*places], sources, self._lengths, blocks)

    @classmethod
    def of(cls, columns: Columns, source: Callable[[str], ImageSource]) -> "Packed":
        """The samples of `columns`, with the image that `source` has under a name."""
        made = cls()
        made._ids, made._numbers, made._lengths = columns.ids, columns.shown, columns.lengths
        made._shown = {(image,): number for number, image in enumerate(columns.images)}
        sources = [source(name) for name in columns.names]
        made._sources = [sources[at] for at in columns.sources]
        whole = len(columns.ids) // BLOCK
        made._last = [*made._unpack(whole, columns.blocks[whole])] if len(columns.blocks) > whole else []
        made._blocks = columns.blocks[:whole]
        return made

    def outline(self) -> Iterator[Outline]:
        """What dealing needs to know, without making a sample."""
        for place, (name, number, length) in enumerate(zip(self._ids, self._numbers, self._lengths, strict=True)):
            yield name, number, 1 + len(self._more[place][0] if place in self._more else ()), length

    def image_ids(self) -> list[str]:
        """Each once, in the order of their first question."""
        return list(dict.fromkeys(image for image, *_ in self._shown))

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        at = place + len(self) if place < 0 else place
        if not 0 <= at < len(self):
            raise IndexError(f"sample {place} of {len(self)}")
        return self._block(at // BLOCK)[at % BLOCK]

    def __iter__(self) -> Iterator[Sample]:
        for number in range(len(self._blocks) + 1):
            yield from self._block(number)

    def _block(self, number: int) -> list[Sample]:
        if number == len(self._blocks):
            return self._last
        found = self._held.pop(number, None)
        if found is None:
            found = [*self._unpack(number, self._blocks[number])]
        self._held[number] = found
        if len(self._held) > OPEN:
            self._held.popitem(last=False)
        return found

    def _unpack(self, number: int, block: bytes) -> Iterator[Sample]:
        for at, one in enumerate(json.loads(zlib.decompress(block)), number * BLOCK):
            yield self._made(at, *one)

    def _made(self, at: int, choices: list[str] | None, boxes: list[list[float]], *texts: str) -> Sample:
        extra, mask = self._more.get(at, ((), None))
        names: dict[str, Any] = dict(zip(TEXTS, texts, strict=True))
        return Sample(
            id=self._ids[at],
            image=self._sources[at],
            choices=None if choices is None else tuple(choices),
            boxes=tuple(Box(*edges) for edges in boxes),
            extra_images=extra,
            mask=mask,
            **names,
        )


TEXTS = ("image_id", "question", "prompt", "domain", "group", "question_type", "reference")


def _pack(samples: Sequence[Sample]) -> bytes:
    return zlib.compress(json.dumps([_texts(one) for one in samples]).encode(), 1)


def _texts(sample: Sample) -> list[Any]:
    boxes = [box.as_list() for box in sample.boxes]
    return [sample.choices, boxes, *(getattr(sample, name) for name in TEXTS)]
