"""A picture as the page holds it: nothing but its pixels, small enough. Light to import, for processes of their own."""

import io
from collections.abc import Sequence

from PIL import Image

from vgtool.errors import SampleError
from vgtool.images import open_image
from vgtool.records import ImageSource, View
from vgtool.reporting.paths import without_folders

LONGEST = 1024
"""Pixels of an included picture's longest side; larger ones are scaled down."""
SMALL = 65536
"""Pixels up to which a picture is kept as PNG, every pixel as it is; larger ones are JPEG."""
Packed = tuple[bytes, str]
"""A file and its type."""
Stored = tuple[bytes, str, View, int, int]
"""A picture as the benchmark has it: file, name, view, width and height."""


def opened(data: bytes, name: str, view: View, width: int, height: int) -> Image.Image | str:
    """A picture of this size, or a sentence that says why there is none."""
    try:
        image = open_image(ImageSource(name, lambda: data, view=view))
    except SampleError as error:
        return without_folders(str(error))
    if image.size != (width, height):
        return f"The image on this machine is {image.width} x {image.height}: another one."
    return image


def packed(lot: Sequence[Stored | str]) -> list[Packed | str]:
    """Pictures for the page."""
    return [image if isinstance(image := one if isinstance(one, str) else opened(*one), str) else encoded(image)
            for one in lot]  # fmt: skip


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
