"""Open an image the model may see, or say why not: one RGB picture, fully decoded, in stored orientation.

The header's size is checked before any pixel is decoded. A truncated file fails; it is never filled up with grey.
DICOM is shown in the window it states, other deep values from their least to their greatest; `info["window"]` of a
picture says which. Alpha is laid over white, or dropped from 8-bit colours where the model's own code does so. EXIF
orientation is left alone unless asked for, since boxes are in stored pixels. Of several pictures in a file one is shown
when the source's `view` names it; else the file fails.
"""

from typing import Literal

from PIL import Image

from vgtool.images import dicom, pictures, volumes
from vgtool.images.files import LFS_MARK, MAX_PIXELS, read_bytes
from vgtool.images.masks import open_binary, open_labels, open_mask, open_region
from vgtool.images.names import Names
from vgtool.images.pictures import FORMATS, Alpha
from vgtool.records import ImageSource

__all__ = [
    "FORMATS",
    "LFS_MARK",
    "MAX_PIXELS",
    "Alpha",
    "Names",
    "image_size",
    "open_binary",
    "open_image",
    "open_labels",
    "open_mask",
    "open_region",
    "read_bytes",
]

Orientation = Literal["stored", "apply"]


def open_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, orientation: Orientation = "stored", alpha: Alpha = "white"
) -> Image.Image:
    """The picture as RGB. SampleError with a stable code when there is none to be had."""
    data = read_bytes(source)
    if dicom.is_dicom(data):
        return dicom.picture(data, source.name, max_pixels, source.view)
    if volumes.is_volume(data):
        return volumes.picture(data, source.name, max_pixels, source.view)
    return pictures.picture(data, source.name, max_pixels, source.view, orientation == "apply", alpha == "drop")


def image_size(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Stored width and height, from the header alone."""
    data = read_bytes(source)
    if dicom.is_dicom(data):
        return dicom.size(dicom.read(data, source.name, pixels=False), source.name, max_pixels)
    if volumes.is_volume(data):
        return volumes.size(data, source.name, max_pixels, source.view)
    with pictures.header(data, source.name, max_pixels, source.view) as image:
        return image.size
