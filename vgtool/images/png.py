"""Whether a PNG holds all of its picture.

Pillow 13 shows what a PNG's data leaves out as black, when its compressed stream ends in order but early, and reads
palette indices without a palette as black. Here the stream is unpacked once more, its own check sum included, and
counted against what the header promises. Check sums of chunks are not looked at: the stream's covers the picture.
"""

import zlib
from collections.abc import Iterator
from math import ceil

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples a pixel."""
PALETTE = 3
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column and row, and steps of both."""
_PIECE = 1 << 20


def missing(data: bytes) -> str:
    """What a PNG file lacks of its picture, in words; nothing where it is whole, or is no PNG with a sound header."""
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        return ""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    depth, colour, interlaced = data[24], data[25], data[28]
    if colour not in SAMPLES or interlaced not in (0, 1):
        return ""  # which Pillow refuses itself
    kinds = {kind for kind, _ in chunks(data)}
    if colour == PALETTE and b"PLTE" not in kinds:
        return "has indices of a palette, and no palette"
    wanted = size(width, height, depth * SAMPLES[colour], bool(interlaced))
    try:
        found = unpacked(data, wanted)
    except zlib.error as error:
        return f"has damaged pixels: {error}"
    return f"has {found:,} bytes of pixels, where {wanted:,} are needed" if found < wanted else ""


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk; the last one may be cut."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def size(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of the pixels, each row with the one that names its filter."""
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        cols, rows = ceil((width - left) / across), ceil((height - top) / down)
        if cols > 0 and rows > 0:
            total += rows * (1 + ceil(cols * bits / 8))
    return total


def unpacked(data: bytes, most: int) -> int:
    """How many bytes the IDAT chunks unpack to; counting ends beyond `most`. zlib.error for a damaged stream."""
    stream, found = zlib.decompressobj(), 0
    for kind, content in chunks(data):
        if kind != b"IDAT":
            continue
        while content and found <= most and not stream.eof:
            found += len(stream.decompress(content, _PIECE))
            content = stream.unconsumed_tail
    return found + (0 if stream.eof or found > most else len(stream.flush()))
