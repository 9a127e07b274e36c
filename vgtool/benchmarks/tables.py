"""Rows of a data file, one dict each: JSON, JSON lines, CSV, TSV, Parquet. No image is kept in memory.

A line or element that is no row becomes `Malformed`, with a name made from its content, so that it can fail by itself.
Image columns of a Parquet file become `Cell`s: the digest of the bytes (equal digest, equal image) and a way to read
them again. Two batches of a file's images are held, those last read from, and the page under way, not the row group.
"""

import csv
import hashlib
import io
import json
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vgtool.benchmarks.archives import Member
from vgtool.errors import SampleError, VgError
from vgtool.images import LFS_MARK
from vgtool.records import ImageSource

CSV_FIELD_LIMIT = 1_000_000
READ = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
BATCH = 16
"""Rows of a Parquet file read at once, with their images."""
HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON spells half of a surrogate pair; two halves are one character, and one alone is none."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something in a data file that is no row."""

    text: str
    problem: str


@dataclass(frozen=True, slots=True)
class Cell:
    """An image stored inside a Parquet file, or only its file name there (`digest` empty)."""

    digest: str
    path: str
    source: ImageSource | None


def digest_of(*parts: object) -> str:
    """Sixteen hex digits that depend on content alone."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=_stable)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _stable(value: object) -> object:
    if isinstance(value, Cell):
        return value.digest or value.path
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def read_rows(path: Path | Member, images: Sequence[str] = ()) -> Iterator[dict[str, Any] | Malformed]:
    """Every row of a data file; the form follows its suffix. `images`: Parquet columns that hold images."""
    suffix = path.suffix.lower()
    if suffix not in READ:
        refuse(path.name)
    _refuse_pointer(path)
    if suffix != ".parquet":
        return {".jsonl": _json_lines, ".csv": _csv, ".tsv": _csv, ".json": _json}[suffix](path)
    if isinstance(path, Member):
        raise VgError(f"'{path.name}' is Parquet inside '{path.archive.path.name}'.", "Unpack the archive.")
    return _parquet(path, images)


def is_data(name: str) -> bool:
    """Whether a name ends like a data file that is read."""
    return name.lower().endswith(READ)


def refuse(name: str) -> NoReturn:
    """VgError for a file of another kind, with the kinds that are read."""
    what = "sheet" if name.lower().endswith((".xlsx", ".xls", ".ods", ".numbers")) else "rows"
    raise VgError(f"'{name}' is no kind of data file that is read.", f"Save the {what} as {', '.join(READ)}.")


def count_rows(path: Path | Member) -> int:
    """How many rows a data file has, images unread; of a text file, its lines."""
    if path.suffix.lower() == ".txt":
        return sum(bool(line.strip()) for line in read_text(path).split("\n"))
    if path.suffix.lower() == ".parquet" and isinstance(path, Path):
        _refuse_pointer(path)
        return _open_parquet(path).metadata.num_rows
    return sum(1 for _ in read_rows(path))


def _refuse_pointer(path: Path | Member) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(len(LFS_MARK))
    except OSError as error:
        raise VgError(f"Cannot read '{path}': {error.strerror}.", "Check the path and its permissions.") from None
    if head == LFS_MARK:
        raise VgError(f"'{path.name}' is a Git LFS pointer, not the data.", "Run git lfs pull, or fetch it again.")
    if not head:
        raise VgError(f"'{path.name}' is empty.", "Fetch it again.")


def _as_row(value: Any, halves: bool) -> dict[str, Any] | Malformed:
    """`halves`: whether it may hold half of a surrogate pair."""
    try:
        refuse_half(json.dumps(value, ensure_ascii=False) if halves else "")
    except SampleError as error:
        return Malformed(json.dumps(value)[:200], error.detail)
    if isinstance(value, dict):
        return value
    return Malformed(json.dumps(value, ensure_ascii=False)[:200], "not an object with named fields")


def refuse_half(*texts: str) -> None:
    """SampleError for half of a surrogate pair, which a list that is written as JSON in a text may spell too."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise SampleError("malformed_row", "half of a surrogate pair, which is no character") from None


def read_json(path: Path | Member) -> Any:
    """What a JSON file holds. VgError when it cannot be read as one."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise VgError(f"'{path.name}' cannot be read as JSON: {error}.", "Correct the file.") from None


def read_text(path: Path | Member) -> str:
    """A UTF-8 file, whole. VgError when it cannot be read, is a Git LFS pointer or is no text."""
    _refuse_pointer(path)
    with path.open("rb") as file:
        data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise VgError(f"'{path.name}' is not UTF-8 text: byte {error.start}.", "Save it as UTF-8.") from None


def _json(path: Path | Member) -> Iterator[dict[str, Any] | Malformed]:
    text = read_text(path)
    try:
        value = json.loads(text)
    except RecursionError:
        raise VgError(f"'{path.name}' is nested too deeply to be a table.", "Fetch it again.") from None
    except ValueError as error:
        if text.lstrip().startswith("{") and "Extra data" in str(error):  # JSON lines under the wrong suffix
            yield from _json_lines(path)
            return
        raise VgError(f"'{path.name}' is not JSON: {error}.", "Fetch it again; it may be cut short.") from None
    if not isinstance(value, list):
        raise VgError(f"'{path.name}' does not hold a list of rows.", "Check that it is the file of the questions.")
    halves = HALF.search(text) is not None
    yield from (_as_row(item, halves) for item in value)


def _json_lines(path: Path | Member) -> Iterator[dict[str, Any] | Malformed]:
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                text = line.decode("utf-8-sig")
                yield _as_row(json.loads(text), HALF.search(text) is not None)
            except (ValueError, RecursionError) as error:
                yield Malformed(line[:200].decode("utf-8", "replace").strip(), f"not JSON: {error}")


def _csv(path: Path | Member) -> Iterator[dict[str, Any] | Malformed]:
    csv.field_size_limit(CSV_FIELD_LIMIT)
    between = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restkey="", strict=True, delimiter=between)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Malformed(f"line {reader.line_num}", f"not CSV: {error}")
            continue
        if ("" in row and row[""] and not isinstance(row[""], str)) or None in row.values():
            yield Malformed(str(list(row.values()))[:200], "not as many fields as the header names")
        else:
            yield {(key or "").strip(): value for key, value in row.items()}


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)  # else a row group is read whole
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise VgError(f"'{path.name}' is not readable as Parquet: {error}.", "Fetch it again.") from None


class _ParquetImages:
    """Reads single image values of one file again. Rows are asked for nearly in order, so a row group is walked."""

    def __init__(self, path: Path) -> None:
        self._file = _open_parquet(path)
        self._lock = threading.Lock()
        self._at: tuple[int, str] | None = None
        self._batches: Iterator[Any] = iter(())
        self._next = 0
        """First row that the next batch holds."""
        self._held: deque[tuple[int, Any]] = deque(maxlen=2)
        """Two, because images are opened by several threads."""

    def read(self, group: int, column: str, index: int) -> bytes:
        with self._lock:
            if self._at != (group, column) or (self._held and index < self._held[0][0]):
                self._at, self._next = (group, column), 0
                self._held.clear()
                self._batches = self._file.iter_batches(batch_size=BATCH, row_groups=[group], columns=[column])
            while index >= self._next:
                batch = next(self._batches)
                self._held.append((self._next, batch.column(0)))
                self._next += batch.num_rows
            start, values = next((s, v) for s, v in self._held if s <= index < s + len(v))
            return _bytes(values[index - start].as_py())[0] or b""


def _bytes(value: Any) -> tuple[bytes | None, str]:
    """Bytes and path of an image value: a struct {bytes, path}, plain bytes, or a plain path."""
    if isinstance(value, dict):
        return value.get("bytes"), str(value.get("path") or "")
    return (value, "") if isinstance(value, bytes) else (None, str(value or ""))


def _parquet(path: Path, images: Sequence[str]) -> Iterator[dict[str, Any] | Malformed]:
    import pyarrow as pa

    file, again = _open_parquet(path), _ParquetImages(path)
    try:
        for group in range(file.num_row_groups):
            start = 0
            for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
                for offset, row in enumerate(batch.to_pylist()):
                    for name in images:
                        if row.get(name) is not None:
                            row[name] = _cell(again, path.name, group, name, start + offset, row[name])
                    yield row
                start += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise VgError(f"'{path.name}' is not readable as Parquet: {error}.", "Fetch it again.") from None


def _cell(again: _ParquetImages, file: str, group: int, column: str, index: int, value: Any) -> Cell:
    data, path = _bytes(value)
    if data is None:
        return Cell("", path, None)
    digest = hashlib.sha256(data).hexdigest()[:16]
    name = f"{path or file}#{digest[:8]}"  # a file name may stand for many images, and often is missing
    return Cell(digest, path, ImageSource(name, lambda: again.read(group, column, index)))
