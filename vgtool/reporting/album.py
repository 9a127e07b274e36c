"""The benchmarks' pictures, found again for a report that may hold them: pixels only, each stored once."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vgtool.errors import SampleError, VgError
from vgtool.reporting.inputs import Source, without_folders
from vgtool.reporting.pack import PACKED, Pack
from vgtool.reporting.steps import Steps

LONGEST = 1024
"""Pixels of an included picture's longest side; larger ones are scaled down."""
SMALL = 65536
"""Pixels up to which a picture is kept as PNG, every pixel as it is; larger ones are JPEG."""
THREADS, AHEAD = 4, 16
"""Pictures opened at once, and packed ones kept ready."""
Place = dict[str, Any]


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
        self.stored: dict[tuple[str, int, int], Place] = {}

    def add(self, rows: Collection[Mapping[str, Any]], pack: Pack, steps: Steps) -> dict[str, Place]:
        """Sample -> where its picture is, or why there is none."""
        keys = {row["sample_id"]: _key(row) for row in rows if row["width"] is not None and row["height"] is not None}
        wanted: dict[tuple[str, int, int], Mapping[str, Any]] = {}
        for row in rows:
            if (key := keys.get(row["sample_id"])) is not None and key not in self.stored:
                wanted.setdefault(key, row)
        tick = steps.count("pictures", len(wanted))
        for key, data in zip(wanted, self._encoded(list(wanted.values())), strict=True):
            tick()
            if isinstance(data, str):
                self.stored[key] = {"missing": data}
            else:
                self.stored[key] = {"at": pack.add(data[0], PACKED), "bytes": len(data[0]), "type": data[1]}
        pack.cut()
        return {name: self.stored[key] for name, key in keys.items()}

    def open(self, row: Mapping[str, Any]) -> Image.Image | str:
        """A sample's picture, or a sentence that says why there is none."""
        from vgtool.images import open_image

        source = self.images.get(row["sample_id"])
        if source is None:
            return "The benchmark on this machine has no such sample."
        try:
            image = open_image(source)
        except SampleError as error:
            return without_folders(str(error))
        if image.size != (row["width"], row["height"]):
            return f"The image on this machine is {image.width} x {image.height}: another one."
        return image

    def _encoded(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, str] | str]:
        """The pictures of rows in their order, AHEAD of them opened and packed in threads."""
        with ThreadPoolExecutor(THREADS) as threads:
            for start in range(0, len(rows), AHEAD):
                yield from threads.map(self._one, rows[start : start + AHEAD])

    def _one(self, row: Mapping[str, Any]) -> tuple[bytes, str] | str:
        image = self.open(row)
        return image if isinstance(image, str) else encoded(image)


def _key(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return (row["image_id"], row["width"], row["height"])


def encoded(image: Image.Image) -> tuple[bytes, str]:
    """A picture for the page, nothing but its pixels: PNG when small, else JPEG; one channel where all are grey."""
    if max(image.size) > LONGEST:
        image = image.copy()
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    plain = _bare(image)
    buffer = io.BytesIO()
    if plain.width * plain.height <= SMALL:
        plain.save(buffer, "PNG")
        return buffer.getvalue(), "image/png"
    plain.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def _bare(image: Image.Image) -> Image.Image:
    """The pixels of an RGB picture without EXIF and other remarks; as one channel where the three are alike."""
    red = image.getchannel(0).tobytes()
    if all(image.getchannel(other).tobytes() == red for other in (1, 2)):
        return Image.frombytes("L", image.size, red)
    return Image.frombytes("RGB", image.size, image.tobytes())
