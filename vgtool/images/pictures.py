"""What Pillow reads, as RGB: PNG, JPEG, TIFF and their like, 16 bits a channel included.

Pillow keeps the higher byte of 16-bit colours, which makes 12-bit data nearly black. Both bytes are had here by
decoding twice, the second time in the other byte order. TIFF whose least value is white is shown so at any depth.
"""

import io
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from vgtool.errors import SampleError
from vgtool.images import png
from vgtool.images.files import reading, refuse_large
from vgtool.images.levels import USED, between, extremes, given, spread
from vgtool.records import View

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000")
"""What is decoded. Formats that call other programs (EPS) are not."""
DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_PHOTOMETRIC, _BITS, _PLANES = 262, 258, 284
"""TIFF tags."""


Alpha = Literal["white", "drop"]


def header(data: bytes, name: str, max_pixels: int, view: View = View()) -> ImageFile:  # noqa: B008
    """A file as Pillow opens it, at the frame that is asked for, no pixel decoded. SampleError when it is no picture,
    too large, or several pictures of which none is chosen."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns below our own limit, which is checked next
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            frames = getattr(image, "n_frames", 1)
    except Image.DecompressionBombError as error:
        raise SampleError("image_too_large", f"'{name}': {error}") from None
    except UnidentifiedImageError:
        raise SampleError("image_unreadable", f"'{name}' is no image in a format that is read here") from None
    except Exception as error:  # as files.reading, which cannot tell the two above apart
        raise SampleError("image_unreadable", f"'{name}': {error}") from None
    if image.format == "MPO":  # the further pictures of an MPO are previews of the first
        frames = 1
    refuse_large(*image.size, name, max_pixels)
    strips = {one.extents for one in image.tile if one.extents is not None}
    covered = sum((right - left) * (low - high) for left, high, right, low in strips)
    if image.format == "TIFF" and covered < image.size[0] * image.size[1]:  # Pillow leaves the rest black
        raise SampleError("image_truncated", f"'{name}' has strips for a part of its picture only")
    if view.slice is not None:
        _seek(image, view.slice, frames, name)
        refuse_large(*image.size, name, max_pixels)
    elif frames > 1:
        raise SampleError("image_animated", f"'{name}' has {frames} frames; name one with `slice` (from 0)")
    return image


def _seek(image: ImageFile, at: int, frames: int, name: str) -> None:
    if not 0 <= at < frames:
        raise SampleError("image_slice", f"'{name}' has {frames} frames; slice {at} is none of 0 to {frames - 1}")
    with reading(name, "image_truncated", f"has no frame {at}"):
        image.seek(at)


def picture(data: bytes, name: str, max_pixels: int, view: View, upright: bool, bare: bool = False) -> Image.Image:
    """The picture as RGB, alpha laid over white. `bare`: 8-bit colours without their alpha, which PIL's own conversion
    gives, and so most models' code."""
    with header(data, name, max_pixels, view) as image, reading(name, "image_truncated", "cannot be decoded in full"):
        refuse_part(data, name)
        turn = image.getexif().get(ExifTags.Base.Orientation, 1) if upright else 1
        found = deep(image, data, name, max_pixels, view)
        if found is None:
            if view.window is not None:
                raise SampleError("image_window", f"'{name}' has 8 bits a channel: no window applies to it")
            image.load()
            shown = image.convert("RGB") if bare else _on_white(image, name)
        else:
            shown = _windowed(*found, name, view)
        if turn != 1:
            shown.getexif()[ExifTags.Base.Orientation] = turn
            shown = ImageOps.exif_transpose(shown)
        return shown


def refuse_part(data: bytes, name: str) -> None:
    """SampleError for a PNG that holds a part of its picture."""
    if lacking := png.missing(data):
        raise SampleError("image_truncated", f"'{name}' {lacking}")


def _on_white(image: Image.Image, name: str) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    _refuse_invisible(np.asarray(rgba.getchannel("A")), name)
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _refuse_invisible(alpha: NDArray[Any], name: str) -> None:
    if not alpha.any():
        raise SampleError("image_invisible", f"'{name}' is transparent everywhere; remove its alpha if that is wrong")


# ---- more than 8 bits ------------------------------------------------------------------------------------------------


def deep(
    image: ImageFile, data: bytes, name: str, max_pixels: int, view: View
) -> tuple[NDArray[Any], NDArray[Any] | None, bool] | None:
    """Colour or grey values, alpha if any, and whether the least value is white; None for 8 bits a channel."""
    white = _tag(image, _PHOTOMETRIC) == 0
    if image.mode in DEEP:
        image.load()
        return np.asarray(image), None, white
    if image.format == "PNG" and str(_rawmode(image)).startswith("LA;16"):
        image.tile = [one._replace(args="RGBA") for one in image.tile]  # four bytes a pixel: grey, alpha
        image.load()
        four = np.asarray(image).astype(np.uint16)
        return four[..., 0] << 8 | four[..., 1], four[..., 2] << 8 | four[..., 3], white
    if image.format == "TIFF" and _tag(image, _BITS) == 16 and _tag(image, _PLANES) == 2:
        raise SampleError("image_unreadable", f"'{name}' holds 16-bit colours plane by plane; save it interleaved")
    if ";16" not in str(_rawmode(image)) or image.mode not in ("RGB", "RGBA"):
        return None
    with header(data, name, max_pixels, view) as again:
        again.tile = [one._replace(args=_other_bytes(one.args)) for one in again.tile]
        image.load()
        again.load()
        values = np.asarray(image).astype(np.uint16) << 8 | np.asarray(again)
    return values[..., :3], values[..., 3] if values.shape[2] == 4 else None, white


def _rawmode(image: ImageFile) -> object:
    args = image.tile[0].args if image.tile else None
    return args[0] if isinstance(args, tuple) else args


def _other_bytes(args: Any) -> Any:
    """Decoder arguments that take the lower bytes where the given ones take the higher."""
    if isinstance(args, tuple):
        return (_other_bytes(args[0]), *args[1:])
    base, _, order = args.partition(";16")
    return f"{base};16{'L' if order == 'B' else 'B'}"


def _tag(image: Image.Image, number: int) -> int | None:
    """A TIFF tag, the first of several values."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) else value


def _windowed(values: NDArray[Any], alpha: NDArray[Any] | None, white: bool, name: str, view: View) -> Image.Image:
    if isinstance(view.window, int) or (isinstance(view.window, str) and view.window != "full"):
        raise SampleError("image_window", f"'{name}' states no windows; give [low, high] or full")
    stated = given(view.window)
    seen = values
    if alpha is not None:
        _refuse_invisible(alpha, name)
        seen = values[alpha > 0]
    low, high = stated or extremes(seen, name)
    shown = spread(values, low, high)
    if white:
        shown = 255 - shown
    if alpha is not None:
        opacity = alpha.astype(np.float64) / _opaque(values, alpha)
        opacity = opacity if shown.ndim == 2 else opacity[..., None]
        shown = np.round(shown * opacity + 255 * (1 - opacity)).astype(np.uint8)
    image = Image.fromarray(shown).convert("RGB")
    image.info[USED] = between(low, high) if stated else f"full range, {between(low, high)}"
    return image


def _opaque(values: NDArray[Any], alpha: NDArray[Any]) -> int:
    """The alpha of an opaque pixel: of 12-bit data in 16 bits it is 4095, as its colours end there."""
    top = int(max(values.max(), alpha.max()))
    bits = max(top.bit_length(), 8)
    return 2**bits - 1 if int(alpha.max()) == 2**bits - 1 else 65535
