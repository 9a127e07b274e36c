"""The bytes of an image file, and what becomes of a library's error over them: the failure of one row."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vgtool.errors import SampleError
from vgtool.records import ImageSource

MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
LFS_MARK = b"version https://git-lfs"


def read_bytes(source: ImageSource) -> bytes:
    """The encoded bytes, refused when they are none, too many, or a Git LFS pointer."""
    data = source.read()
    if not data:
        raise SampleError("image_empty", f"'{source.name}' holds no bytes")
    if len(data) > MAX_BYTES:
        raise SampleError("image_too_large", f"'{source.name}' is {len(data):,} bytes; the limit is {MAX_BYTES:,}")
    if data.startswith(LFS_MARK):
        raise SampleError("lfs_pointer", f"'{source.name}' is a Git LFS pointer, not the file; run git lfs pull")
    return data


def refuse_large(width: int, height: int, name: str, max_pixels: int) -> None:
    """SampleError `image_too_large`, before any pixel is decoded."""
    if width * height > max_pixels:
        raise SampleError("image_too_large", f"'{name}' is {width} x {height} pixels; the limit is {max_pixels:,}")


@contextmanager
def reading(name: str, code: str, problem: str) -> Iterator[None]:
    """Around calls of a reading library, and of nothing else: whatever it raises over a file is that file's fault.

    The kinds of exception that decoders raise over damaged data have no end (struct, zlib, decimal, key, attribute,
    assertion errors), so that a list of them would always lack one, and end a whole run.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers warn of what is checked here, or of what harms no pixel
            yield
    except SampleError:
        raise
    except MemoryError:
        raise SampleError("image_too_large", f"'{name}' needs more memory than there is") from None
    except Exception as error:
        raise SampleError(code, f"'{name}' {problem}: {_said(error)}") from None


def _said(error: Exception) -> str:
    """What a library says in one line, not too long; its kind where it says nothing."""
    return " ".join(str(error).split())[:300] or type(error).__name__
