"""Parts of a run: immutable Parquet, each named `<shard>-<number>-<digest of its bytes>.parquet`.

A part that was merged from others names them in its metadata; while they are still there, they are left out.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vgtool.errors import StorageError, one_line
from vgtool.runs.shard import Shard

MERGED = b"vgtool.merged"
"""Key of a part's metadata: names of the parts it was merged from, as JSON."""
KNOWN = 100_000
"""Parts whose footers are remembered."""
THREADS = 2
"""Parts that are read and digested at once."""


class DamagedPart(Exception):
    """A part that cannot be read in full."""


def encoded(table: pa.Table) -> bytes:
    """The bytes of a part."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def named(shard: Shard, number: int, data: bytes) -> str:
    """The name of a part that holds these bytes."""
    return f"{shard.name}-{number:05d}-{hashlib.sha256(data).hexdigest()[:16]}.parquet"


def merged(metadata: Mapping[bytes, bytes] | None) -> list[str]:
    """Names of the parts that a part was merged from."""
    return json.loads((metadata or {}).get(MERGED, b"[]"))


@lru_cache(KNOWN)
def _merged(path: Path, size: int, changed: int) -> tuple[str, ...]:
    """`merged` of a file of this size and time of change: a run's parts are listed many times."""
    return tuple(merged(pq.read_metadata(path).metadata))


def listed(root: Path) -> tuple[list[Path], list[Path]]:
    """(parts with a whole footer, the others), by name, without those that a merged one stands for. StorageError when
    one cannot be opened: nothing is known of it, least of all that it is damaged."""
    while True:
        good, bad, gone = list[Path](), list[Path](), set[str]()
        try:
            for path in sorted((root / "parts").glob("*.parquet")):
                try:
                    stat = path.stat()
                    gone.update(_merged(path, stat.st_size, stat.st_mtime_ns))
                    good.append(path)
                except FileNotFoundError:
                    raise
                except OSError as error:  # Arrow reports a damaged footer as one without a number
                    if error.errno is not None:
                        raise _unread(path, error) from None
                    bad.append(path)
                except pa.ArrowException:
                    bad.append(path)
        except FileNotFoundError:  # merged or set aside since it was listed
            continue
        return [path for path in good if path.name not in gone], [path for path in bad if path.name not in gone]


def _unread(path: Path, error: OSError) -> StorageError:
    why = os.strerror(error.errno) if error.errno else str(error)  # Arrow's own text goes on about its internals
    return StorageError(f"Cannot read '{path}': {why}.", "Check the disk and the file's permissions, then run again.")


def told_damaged(root: str | Path, bad: Sequence[Path]) -> str:
    """What `listed` found damaged, in words without a full stop."""
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"'{root}' has damaged parts: {bad[0].name}{more}"


def read_part(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Columns of a part (all: None), page checksums verified. DamagedPart when it is not whole; StorageError when
    the disk fails; FileNotFoundError when it is gone."""
    found = pl.from_arrow(read_table(path, columns))
    assert isinstance(found, pl.DataFrame)
    return found


def read_table(path: Path, columns: Sequence[str] | None = None, optional: Collection[str] = ()) -> pa.Table:
    """As `read_part`, as Arrow's table with the file's metadata. `optional`: columns that a part may lack."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            names = set(file.schema_arrow.names)
            if lacking := set(columns or ()) - set(optional) - names:
                raise DamagedPart(f"no column {', '.join(sorted(lacking))}")
            wanted = None if columns is None else [name for name in columns if name in names]
            return file.read(wanted)
    except FileNotFoundError:
        raise
    except OSError as error:  # Arrow reports a failed checksum as one without a number
        if error.errno is not None:
            raise _unread(path, error) from None
        raise DamagedPart(one_line(error)) from None
    except pa.ArrowException as error:
        raise DamagedPart(one_line(error)) from None


def check_digest(path: Path) -> None:
    """DamagedPart when a part's bytes are not those its name was made of; FileNotFoundError when it is gone."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unread(path, error) from None
    if path.stem.rpartition("-")[2] != found:
        raise DamagedPart("its bytes are not those that were written")


Rows = list[tuple[str, str, str]]
"""Of each row its sample, its label (empty in a probe) and its error (empty: none)."""


def rows_of(paths: Iterable[Path], wanted: Collection[str]) -> Iterator[tuple[Path, Rows | Exception]]:
    """The rows of each part, or why they cannot be had. A part that holds any of `wanted` ids is digested in full; of
    another there are none."""

    def one(path: Path) -> tuple[Path, Rows | Exception]:
        try:
            table = read_table(path, ["sample_id", "method", "error"], optional=["method"])
            names = table["sample_id"].to_pylist()
            if not any(name in wanted for name in names):
                return path, []
            check_digest(path)
            labels = table["method"].to_pylist() if "method" in table.column_names else [""] * len(names)
            failed = table["error"].null_count < len(names)
            errors = [text or "" for text in table["error"].to_pylist()] if failed else [""] * len(names)
            return path, list(zip(names, labels, errors, strict=True))
        except (DamagedPart, FileNotFoundError) as error:
            return path, error

    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(one, paths)


def described(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Columns as a table of a schema."""
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
