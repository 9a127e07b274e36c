"""A PNG that holds a part of its picture is no picture, whatever Pillow fills it up with; a whole one is."""

import io
import struct
import zlib

import numpy as np
import pytest
from damaged import chunk
from PIL import Image

from vgtool.errors import SampleError
from vgtool.images import open_binary, open_image, png
from vgtool.records import ImageSource

SIZES = [(1, 1), (2, 3), (3, 9), (5, 5), (8, 8), (17, 4), (64, 33)]


def source(data: bytes) -> ImageSource:
    return ImageSource("a.png", lambda: data)


def made(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0, parts: int = 1) -> bytes:
    """A PNG of rows as they stand, filter bytes included, in several IDAT chunks."""
    packed = zlib.compress(rows)
    step = -(-len(packed) // parts)
    data = b"".join(chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_pillow_writes_is_whole(mode: str) -> None:
    for size in SIZES:
        buffer = io.BytesIO()
        Image.new(mode, size).save(buffer, "PNG")
        assert png.missing(buffer.getvalue()) == "", size


@pytest.mark.parametrize("depth,colour", [(1, 0), (2, 0), (4, 0), (8, 2), (16, 2), (16, 6)])
def test_the_bytes_of_an_interlaced_picture_are_those_of_its_seven_passes(depth: int, colour: int) -> None:
    """Counted pixel by pixel: the pass of each of an 8 x 8 tile's pixels, as the standard draws it."""
    tile = np.array(
        [
            [1, 6, 4, 6, 2, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8,
            [3, 6, 4, 6, 3, 6, 4, 6], [7] * 8, [5, 6] * 4, [7] * 8,
        ]
    )  # fmt: skip
    bits = depth * {0: 1, 2: 3, 6: 4}[colour]
    for width, height in SIZES:
        passes = np.tile(tile, (-(-height // 8), -(-width // 8)))[:height, :width]
        wanted = 0
        for number in range(1, 8):
            for row in passes == number:
                wanted += 1 + -(-int(row.sum()) * bits // 8) if row.any() else 0
        assert png.size(width, height, bits, interlaced=True) == wanted


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_rows_that_are_not_there_are_said_for_pictures_and_masks(rows: int, parts: int) -> None:
    line = b"\0" + bytes(range(0, 240, 40))
    assert open_image(source(made(6, 6, line * 6, parts=parts))).size == (6, 6)
    cut = source(made(6, 6, line * rows, parts=parts))
    for opened, code in ((open_image, "image_truncated"), (open_binary, "mask_truncated")):
        with pytest.raises(SampleError) as error:
            opened(cut)
        assert str(error.value) == f"{code}: 'a.png' has {7 * rows} bytes of pixels, where 42 are needed"


def test_a_picture_of_palette_indices_without_a_palette_is_refused() -> None:
    with pytest.raises(SampleError, match=r"image_truncated: 'a\.png' has indices of a palette, and no palette"):
        open_image(source(made(2, 2, b"\0\1\2" * 2, colour=3)))


def test_a_stream_whose_own_check_sum_is_wrong_is_damaged_and_a_chunks_is_not() -> None:
    whole = made(4, 4, b"\0abcd" * 4)
    at = whole.index(b"IEND") - 4 - 4  # the last byte of the stream's sum stands before the chunk's
    with pytest.raises(SampleError, match=r"image_truncated: 'a\.png' has damaged pixels"):
        open_image(source(whole[: at - 1] + bytes([whole[at - 1] ^ 255]) + whole[at:]))
    assert open_image(source(whole[:at] + b"\0\0\0\0" + whole[at + 4 :])).size == (4, 4)


def test_a_picture_that_unpacks_to_more_than_it_needs_is_counted_no_further() -> None:
    rows = made(4, 4, b"\0abcd" * 4 + b"\0" * 50_000_000)
    assert png.unpacked(rows, 20) < 2_000_000 and png.missing(rows) == ""
