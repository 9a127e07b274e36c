"""The rows of a large file as they were read, kept in the user's cache: a resume over a million begins in seconds.

Only what follows from the file's own bytes is kept: masks, views and boxes in shares of their images are read with a
look at other files. The name is the digest of those bytes, of what was asked, and of the code that reads; what is
damaged is read anew.
"""

import contextlib
import hashlib
import io
import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgtool import cached, errors, records, registry, words
from vgtool.benchmarks.boxes import SHARES
from vgtool.benchmarks.collect import Collected
from vgtool.benchmarks.packed import BLOCK, Columns, Packed
from vgtool.benchmarks.request import Request
from vgtool.benchmarks.tables import is_data
from vgtool.grounding import runlength
from vgtool.records import Rejected

if TYPE_CHECKING:
    import pyarrow as pa

LEAST = 16_000_000
"""Bytes of a file that is worth it: some 100,000 rows, seconds of reading."""
MOST = 4
"""Files that are kept, those that were used last."""
CODE = (errors, records, registry, words, runlength)
"""What reading goes through, beside this package."""
SUFFIX = ".rows"
"""Of a digest of 32 bytes, and Parquet behind it."""
OWN_FAULTS = ("malformed_row:", "duplicate_id:")
"""What a row is rejected for by itself; an image or mask that is missing may be there the next time."""


def collected(
    name: str, requests: Sequence[Request], limit: int | None, read: Callable[[], Collected]
) -> Collected:
    """The rows of a benchmark: as kept, or else as `read` gives them, which are kept where that is worth it."""
    at = _place(name, requests[0], limit)
    if at is None:
        return read()
    if (known := _read(at, requests[0])) is not None:
        return known
    found = read()
    if not requests[0].shares & {*SHARES} and _place(name, requests[0], limit) == at:  # as it was before it was read
        _write(at, found)
    return found


def _place(name: str, asked: Request, limit: int | None) -> Path | None:
    """Where the rows of a file are kept; None where that is not worth it, or would not be true the next time."""
    if not is_data(name) or asked.root is None or {asked.box_format, asked.spec.box_format} & {*SHARES}:
        return None
    file = asked.root / asked.spec.title
    roots = [str(one and one.resolve()) for one in (asked.root, asked.data_root)]
    found = hashlib.sha256(repr([file.name, roots, asked.spec, asked.protocol, asked.box_format, limit]).encode())
    try:
        if file.suffix.lower() == ".parquet" or file.stat().st_size < LEAST:
            return None
        with file.open("rb") as data:
            found.update(hashlib.file_digest(data, "sha256").digest())
    except OSError:  # the reader has the sentence
        return None
    for code in (*sorted(Path(__file__).parent.glob("*.py")), *(one.__file__ for one in CODE)):
        found.update(Path(code or "").read_bytes())
    return cached.folder("rows") / f"{found.hexdigest()[:32]}{SUFFIX}"


def _write(path: Path, rows: Collected) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = rows.samples.columns()
    if columns is None or not columns.ids:
        return
    if any("#" in name for name in columns.names):  # a view of a file is no file's name
        return
    if not all(one.reason.startswith(OWN_FAULTS) for one in rows.rejected):
        return
    sink = io.BytesIO()
    try:
        pq.write_table(_table(rows, columns), sink, compression="zstd")
    except (ValueError, pa.ArrowException):  # what Arrow cannot hold is read each time
        return
    cached.keep(path, hashlib.sha256(sink.getvalue()).digest() + sink.getvalue())
    with contextlib.suppress(OSError):  # gone by another process
        for old in sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda one: one.stat().st_mtime)[:-MOST]:
            old.unlink()


def _table(rows: Collected, columns: Columns) -> "pa.Table":
    """A row a sample; a block lies with its first one."""
    import pyarrow as pa

    facts: dict[str, Any] = {"rejected": [asdict(one) for one in rows.rejected], "digest": rows.digest}
    facts |= {"counts": {**rows.counts}, "missing": rows.missing, "files": [*rows.files], "notes": [*rows.notes]}
    blocks: list[bytes | None] = [None] * len(columns.ids)
    blocks[::BLOCK] = columns.blocks
    found = {"id": pa.array(columns.ids), "block": pa.array(blocks), "length": pa.array(columns.lengths)}
    for key, numbers, texts in (("image", columns.shown, columns.images), ("name", columns.sources, columns.names)):
        found[key] = pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(texts))
    return pa.table(found).replace_schema_metadata({"rows": json.dumps(facts)})


def _read(path: Path, asked: Request) -> Collected | None:
    """Rows as they were kept; None where none are, or they are damaged."""
    import pyarrow.parquet as pq

    from vgtool.benchmarks.rows import files_of

    try:
        data = memoryview(path.read_bytes())
    except OSError:
        return None
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        return None
    with contextlib.suppress(OSError):  # a cache that may only be read
        path.touch()
    table = pq.read_table(io.BytesIO(data[32:])).unify_dictionaries()
    facts: dict[str, Any] = json.loads(table.schema.metadata[b"rows"])
    blocks = [one for one in table["block"].to_pylist() if one is not None]
    texts, numbers = {}, {}
    for key in ("image", "name"):
        column = table[key].combine_chunks()
        texts[key], numbers[key] = column.dictionary.to_pylist(), array("Q", column.indices.to_numpy())
    lengths = array("Q", table["length"].to_numpy())
    known = Columns(
        table["id"].to_pylist(), texts["image"], numbers["image"], texts["name"], numbers["name"], lengths, blocks
    )
    rejected = [Rejected(**one) for one in facts.pop("rejected")]
    return Collected(Packed.of(known, files_of(asked).source), rejected, **facts)
