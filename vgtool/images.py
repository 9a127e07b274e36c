"""Open an image the model may see, or say why not: one RGB picture, fully decoded, in stored orientation.

The header's size is checked before any pixel is decoded. A truncated file fails; it is never filled up with grey.
High bit depths (16-bit, 32-bit, float) are windowed linearly from their own least to their own greatest value; DICOM
uses its first stated window when it has one. Alpha is laid over white. EXIF orientation is left alone unless asked for,
since boxes are in stored pixels. Animated or multi-frame files fail: nobody said which frame.
"""

import io
import warnings
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vgtool.errors import SampleError
from vgtool.records import ImageSource

MAX_PIXELS = 100_000_000
MAX_BYTES = 1_000_000_000
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Formats that call other programs (EPS) are not."""
LFS_MARK = b"version https://git-lfs"
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")

Orientation = Literal["stored", "apply"]


def open_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, orientation: Orientation = "stored"
) -> Image.Image:
    """The picture as RGB. SampleError with a stable code when there is none to be had."""
    data = read_bytes(source)
    if data[128:132] == b"DICM":
        return _open_dicom(data, source.name, max_pixels)
    with _header(data, source.name, max_pixels) as image:
        try:
            image.load()
            if orientation == "apply":
                image = ImageOps.exif_transpose(image)
            return _to_rgb(image, source.name)
        except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
            raise SampleError("image_truncated", f"'{source.name}' cannot be decoded in full: {error}") from None


def image_size(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Stored width and height, from the header alone."""
    data = read_bytes(source)
    if data[128:132] == b"DICM":
        return _open_dicom(data, source.name, max_pixels).size
    with _header(data, source.name, max_pixels) as image:
        return image.size


def open_mask(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The stored values of a mask [height, width], palette indices and 16-bit values as they are."""
    data = read_bytes(source)
    with _header(data, source.name, max_pixels) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
            raise SampleError("mask_truncated", f"'{source.name}' cannot be decoded in full: {error}") from None
        values = np.asarray(image)
    return values if values.ndim == 2 else values[..., :3].max(axis=2)


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


def _header(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns below our own limit, which is checked next
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            frames = getattr(image, "n_frames", 1)
    except Image.DecompressionBombError as error:  # not an OSError
        raise SampleError("image_too_large", f"'{name}': {error}") from None
    except UnidentifiedImageError:
        raise SampleError("image_unreadable", f"'{name}' is no image in a format that is read here") from None
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, IndexError) as error:
        raise SampleError("image_unreadable", f"'{name}': {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise SampleError("image_too_large", f"'{name}' is {width} x {height} pixels; the limit is {max_pixels:,}")
    if frames > 1 and image.format != "MPO":  # the further pictures of an MPO are previews of the first
        raise SampleError("image_animated", f"'{name}' has {frames} frames; one picture is needed")
    return image


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in _DEEP:
        return Image.fromarray(_window(np.asarray(image), name)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _window(values: np.ndarray, name: str, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Values to 0..255, linear between `low` and `high` (the array's own extremes when not given)."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise SampleError("image_unreadable", f"'{name}' has pixels that are not finite")
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return np.round(np.clip((values - low) / (high - low), 0.0, 1.0) * 255).astype(np.uint8)


def _open_dicom(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        import pydicom
    except ImportError:
        raise SampleError("dicom_support_missing", f"'{name}' is DICOM; install vgtool[dicom]") from None
    try:
        file = pydicom.dcmread(io.BytesIO(data))
        rows, columns = int(file.get("Rows", 0)), int(file.get("Columns", 0))
        frames = int(file.get("NumberOfFrames", 1) or 1)
    except (pydicom.errors.InvalidDicomError, OSError, ValueError, TypeError, EOFError) as error:
        raise SampleError("image_unreadable", f"'{name}' is not readable as DICOM: {error}") from None
    if rows * columns > max_pixels:
        raise SampleError("image_too_large", f"'{name}' is {columns} x {rows} pixels; the limit is {max_pixels:,}")
    if frames > 1:
        raise SampleError("image_animated", f"'{name}' has {frames} frames; one picture is needed")
    try:
        values = file.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, OSError) as error:
        raise SampleError("image_truncated", f"'{name}' has no pixels that can be decoded: {error}") from None
    return _dicom_to_rgb(file, values, name)


def _first(value: Any) -> float | None:
    """The first of a DICOM number or list of numbers."""
    if value is None or value == "":
        return None
    return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)


def _dicom_to_rgb(file: Any, values: np.ndarray, name: str) -> Image.Image:
    photometric = str(file.get("PhotometricInterpretation", "MONOCHROME2"))
    if values.ndim == 3:
        if photometric.startswith("YBR"):
            from pydicom.pixels import convert_color_space

            values = convert_color_space(values, photometric, "RGB")
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    slope, intercept = _first(file.get("RescaleSlope")), _first(file.get("RescaleIntercept"))
    values = values * (1.0 if slope is None else slope) + (0.0 if intercept is None else intercept)
    centre, width = _first(file.get("WindowCenter")), _first(file.get("WindowWidth"))
    if centre is not None and width is not None and width > 1:  # DICOM PS3.3 C.11.2.1.2, linear
        gray = _window(values, name, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    else:
        gray = _window(values, name)
    return Image.fromarray(255 - gray if photometric == "MONOCHROME1" else gray).convert("RGB")
