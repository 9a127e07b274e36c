"""The benchmarks' pictures, found again for a report that may hold them: pixels only, each stored once.

They are read here and opened and packed by `Workers`, ahead of their use.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from vgtool.errors import SampleError, VgError
from vgtool.reporting.inputs import Source
from vgtool.reporting.pack import PACKED, Pack
from vgtool.reporting.packing import Packed, Stored, opened, packed
from vgtool.reporting.paths import without_folders
from vgtool.reporting.steps import Steps
from vgtool.reporting.workers import Task, Workers

TOGETHER, AHEAD = 8, 200
"""Pictures that are given to a process at once, and such lots under way or packed and not yet stored."""
ROOM = 16_000_000
"""Bytes of the files that a lot holds: of volumes, each of which is a file for every slice, it is one."""
Place = dict[str, Any]
Key = tuple[str, int, int]
"""Image, width and height: one picture."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pictures:
    """Where to find the benchmarks' images again, and those that were found."""

    data_root: Path | None = None
    registry: Path | None = None
    albums: "dict[tuple[str, ...], Album]" = field(default_factory=dict, compare=False)

    def of(self, one: Source) -> "Album":
        """The pictures of a run's benchmark, read once. VgError where it names none."""
        key = (one.benchmark, *(str(one.run.identity.get(name)) for name in ("split", "protocol")))
        if key not in self.albums:
            self.albums[key] = Album(one, self)
        return self.albums[key]


class Album:
    """The pictures of one benchmark, each stored once."""

    def __init__(self, one: Source, pictures: Pictures) -> None:
        from vgtool.benchmarks.load import load

        i = one.run.identity
        if one.run.path.is_file():
            raise VgError(f"'{one.run.path}' is a file of predictions, which names no images.", "Leave --images out.")
        loaded = load(
            one.benchmark,
            split=i.get("split"),
            protocol=i.get("protocol") or "default",
            data_root=pictures.data_root,
            registry=pictures.registry,
        )
        self.images = {sample.id: sample.image for sample in loaded.samples}
        self.stored: dict[Key, Place] = {}
        self._ready: dict[Key, Packed | str] = {}
        self._coming: deque[tuple[Sequence[Key], Task[list[Packed | str]]]] = deque()
        self._lots: Iterator[Mapping[Key, Row]] = iter(())
        self._workers: Workers | None = None

    def begin(self, rows: Iterable[Row], workers: Workers) -> None:
        """Have the pictures of rows packed that are not stored, ahead of `add`, which will ask for them."""
        some = {key: row for row in rows if (key := _key(row)) is not None and key not in self.stored}
        left, most = iter(some.items()), self._together(next(iter(some.values()), None)) if workers.count else 1
        self._lots = iter(lambda: dict(islice(left, most)), {})
        self._workers = workers
        self._on()

    def _together(self, row: Row | None) -> int:
        """Pictures in a lot, if they are all as large as that of `row`."""
        found = "" if row is None else self._read(row)
        size = 0 if isinstance(found, str) else len(found[0])
        return max(1, min(TOGETHER, ROOM // max(1, size)))

    def _on(self) -> None:
        while len(self._coming) < AHEAD and self._workers and (lot := next(self._lots, None)):
            self._coming.append(([*lot], self._workers.submit(packed, partial(self._lot, [*lot.values()]))))

    def add(self, rows: Collection[Row], pack: Pack, steps: Steps) -> dict[str, Place]:
        """Sample -> where its picture is, or why there is none."""
        keys = {row["sample_id"]: key for row in rows if (key := _key(row)) is not None}
        wanted: dict[Key, Row] = {}
        for row in rows:
            if (key := keys.get(row["sample_id"])) is not None and key not in self.stored:
                wanted.setdefault(key, row)
        tick = steps.count("pictures", len(wanted))
        for key, row in wanted.items():
            tick()
            data = self._packed(key, row)
            if isinstance(data, str):
                self.stored[key] = {"missing": data}
            else:
                self.stored[key] = {"at": pack.add(data[0], PACKED), "bytes": len(data[0]), "type": data[1]}
        pack.cut()
        return {name: self.stored[key] for name, key in keys.items()}

    def _packed(self, key: Key, row: Row) -> Packed | str:
        while key not in self._ready and self._coming:
            keys, lot = self._coming.popleft()
            self._ready |= dict(zip(keys, lot.result(), strict=True))
            self._on()
        return self._ready.pop(key) if key in self._ready else packed([self._read(row)])[0]

    def _lot(self, lot: Sequence[Row]) -> tuple[list[Stored | str]]:
        return ([self._read(row) for row in lot],)

    def _read(self, row: Row) -> Stored | str:
        """A sample's picture as a file, or a sentence that says why there is none."""
        source = self.images.get(row["sample_id"])
        if source is None:
            return "The benchmark on this machine has no such sample."
        try:
            return source.read(), source.name, source.view, row["width"], row["height"]
        except SampleError as error:
            return without_folders(str(error))

    def open(self, row: Row) -> Image.Image | str:
        """A sample's picture, or a sentence that says why there is none."""
        found = self._read(row)
        return found if isinstance(found, str) else opened(*found)


def _key(row: Row) -> Key | None:
    return None if row["width"] is None or row["height"] is None else (row["image_id"], row["width"], row["height"])
