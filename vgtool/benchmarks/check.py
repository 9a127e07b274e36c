"""What a benchmark on disk holds, without a model: counts, rejected rows, boxes, images; and its rows as Parquet."""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vgtool.benchmarks.load import Benchmark
from vgtool.benchmarks.sources import LocatedImage
from vgtool.errors import SampleError, StorageError, VgError
from vgtool.images import image_size
from vgtool.records import ImageSource, Sample

SHOWN = 3
"""Rejected rows named of each reason."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""The disk's failure, not a mistake in the path."""


def check(benchmark: Benchmark) -> dict[str, Any]:
    """Counts of everything. An image is looked for; the header of one with boxes is read; none is decoded."""
    samples = benchmark.samples
    images = {image.name: image for sample in samples for image in (sample.image, *sample.extra_images)}
    missing = sorted(name for name, image in images.items() if not _is_there(image))
    outside, unreadable = _outside(samples, set(missing))
    return {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "protocol": benchmark.protocol,
        "rule": benchmark.rule,
        "rows": benchmark.rows,
        "published": benchmark.published,
        "usable": len(samples),
        "rejected": _most(row.reason.split(":")[0] for row in benchmark.rejected),
        "splits": dict(benchmark.counts),
        "question_types": _most(sample.question_type for sample in samples),
        "groups": _most(sample.group for sample in samples),
        "boxes": {
            "rows": sum(bool(sample.boxes) for sample in samples),
            "boxes": sum(len(sample.boxes) for sample in samples),
            "partly or wholly outside": outside,
        },
        "images": {"found": len(images) - len(missing), "missing": len(missing), **unreadable},
        "digest": benchmark.digest,
        "notes": list(benchmark.notes),
        "examples": _examples(benchmark, missing),
    }


def is_clean(found: Mapping[str, Any]) -> bool:
    """Whether every row can be used and every image is there."""
    return not found["rejected"] and all(not n for name, n in found["images"].items() if name != "found")


def lines(found: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """The same for the terminal: what, which, how many."""
    head = [(key, "", found[key]) for key in ("split", "protocol", "rule", "rows", "published", "usable")]
    parts = ("rejected", "splits", "question_types", "groups", "boxes", "images")
    return head + [(key.replace("_", " "), *pair) for key in parts for pair in found[key].items()]


def remarks(found: Mapping[str, Any]) -> list[str]:
    """Some of what is wrong, and what a reader must know."""
    return [*found["examples"], *(f"Note: {note}" for note in found["notes"])]


def _is_there(image: ImageSource) -> bool:
    return image.exists() if isinstance(image, LocatedImage) else True


def _most(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _outside(samples: Iterable[Sample], missing: set[str]) -> tuple[int, Mapping[str, int]]:
    """Boxes beyond their image, and images whose header cannot be read, by reason."""
    sizes: dict[str, tuple[int, int] | None] = dict.fromkeys(missing)
    problems: Counter[str] = Counter()
    outside = 0
    for sample in samples:
        name = sample.image.name
        if sample.boxes and name not in sizes:
            try:
                sizes[name] = image_size(sample.image)
            except SampleError as error:
                sizes[name] = None
                problems[error.code] += 1
        if size := sizes.get(name):
            outside += sum(box.clipped(*size) != box for box in sample.boxes)
    return outside, problems


def _examples(benchmark: Benchmark, missing: list[str]) -> list[str]:
    """Some of what is wrong, in words."""
    shown: Counter[str] = Counter()
    lines = []
    for row in benchmark.rejected:
        code = row.reason.split(":")[0]
        shown[code] += 1
        if shown[code] <= SHOWN:
            lines.append(f"{row.id}: {row.reason}")
    return lines + [f"image_missing: '{name}'" for name in missing[:SHOWN]]


def write_rows(benchmark: Benchmark, path: Path) -> None:
    """Every row, normalised, as one Parquet file; rejected ones with their error."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["id", "image_id", "image", "question", "prompt", "question_type", "reference", "group", "domain", "error"]
    schema = pa.schema(
        [
            *((name, pa.string()) for name in names[:-1]),
            ("choices", pa.list_(pa.string())),
            ("boxes", pa.list_(pa.list_(pa.float64()))),
            ("extra_images", pa.list_(pa.string())),
            (names[-1], pa.string()),
        ]
    )
    rows: list[dict[str, Any]] = [
        {name: getattr(sample, name) for name in names if name not in ("image", "error")}
        | {"image": sample.image.name, "choices": sample.choices, "boxes": [box.as_list() for box in sample.boxes]}
        | {"extra_images": [image.name for image in sample.extra_images]}
        for sample in benchmark.samples
    ]
    rows += [
        {"id": r.id, "image_id": r.image_id, "question": r.question, "error": r.reason} for r in benchmark.rejected
    ]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:  # opened here: Arrow's own error tells of the temporary name
            pq.write_table(pa.Table.from_pylist(rows, schema), file)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # in a folder that may not be written
            temporary.unlink(missing_ok=True)
        kind = StorageError if error.errno in FULL else VgError
        raise kind(f"Cannot write '{path}': {error.strerror}.", "Choose another place for --rows.") from None
