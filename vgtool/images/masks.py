"""What a mask or label map means: by grey values, palette indices or colours, and alpha where that is the mask.

Black is background, and so is what is transparent. What could be read in two ways is refused, never guessed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.errors import SampleError
from vgtool.images import dicom, pictures, volumes
from vgtool.images.files import MAX_PIXELS, read_bytes, reading
from vgtool.images.names import Names
from vgtool.records import ImageSource

MOST_COLOURS = 256
"""A picture with more is no label map: photographs and JPEG's blurred edges."""
UNKNOWN_COLOUR = 1 << 40
"""A colour without a name is this plus 0xRRGGBB among the values of a label map."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A mask file as it is."""

    values: NDArray[np.int64]
    """[height, width]: grey values, palette indices, or colours as 0xRRGGBB."""
    kind: str
    """grey, palette, colour or volume."""
    palette: NDArray[np.int64] | None = None
    """Index -> 0xRRGGBB."""
    opaque: NDArray[np.int64] | None = None
    """Alpha [height, width] where it differs between pixels."""

    @property
    def colours(self) -> NDArray[np.int64]:
        """What the pixels look like: equal numbers for equal colours, 0 for black."""
        return self.values if self.palette is None else self.palette[self.values]


def open_mask(
    source: ImageSource, *, image: ImageSource | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.int64]:
    """The stored values of a label map [height, width]: grey values or palette indices. SampleError for colours.

    Of a NIfTI volume, the slice that `source` names; on the grid of `image`, where that is given.
    """
    stored = _stored(source, max_pixels, image)
    if stored.kind == "colour":
        raise SampleError("mask_in_colours", f"'{source.name}' marks classes by colours, not by values")
    return _without_transparent(stored, source.name)


def open_labels(source: ImageSource, names: Names, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int64]:
    """A label map's values as its names mean them [height, width]: colours become values, or
    UNKNOWN_COLOUR + colour where no name has them. SampleError where it is not clear what is meant."""
    stored = _stored(source, max_pixels)
    if stored.kind == "colour":
        return _by_colours(stored, names, source.name)
    if stored.palette is not None:
        return _by_palette(stored, names, source.name)
    return _without_transparent(stored, source.name)


def open_region(
    source: ImageSource, *, image: ImageSource | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.bool_]:
    """Where a mask is set [height, width], by however many values: not black, not transparent. `image` as above."""
    stored = _stored(source, max_pixels, image)
    return stored.values != 0 if stored.kind == "volume" else _set(stored, source.name)


def open_binary(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.bool_]:
    """Where a mask of one class is set [height, width]. SampleError `mask_not_binary` for more than two values."""
    stored = _stored(source, max_pixels)
    found = _set(stored, source.name)
    inside = np.unique(stored.colours[found])
    if len(inside) > 1:
        what = "values" if stored.kind == "grey" else "colours"
        raise SampleError("mask_not_binary", f"'{source.name}' has {len(np.unique(stored.colours))} different {what}")
    if stored.opaque is not None and len(np.unique(stored.opaque[found])) > 1:
        raise SampleError("mask_not_binary", f"'{source.name}' has {len(np.unique(stored.opaque))} degrees of alpha")
    return found


# ---- as stored -------------------------------------------------------------------------------------------------------


def _stored(source: ImageSource, max_pixels: int, under: ImageSource | None = None) -> _Stored:
    data, name = read_bytes(source), source.name
    try:
        if volumes.is_volume(data):
            marked = None if under is None else read_bytes(under)
            return _Stored(volumes.label_slice(data, name, source.view, marked).astype(np.int64), "volume")
        if dicom.is_dicom(data):
            return _Stored(dicom.labels(data, name, max_pixels, source.view).astype(np.int64), "grey")
        with pictures.header(data, name, max_pixels, source.view) as image:
            with reading(name, "mask_truncated", "cannot be decoded in full"):
                pictures.refuse_part(data, name)
                deep = pictures.deep(image, data, name, max_pixels, source.view)
                if deep is None:
                    image.load()
            return _shallow(image) if deep is None else _whole(*deep, name)
    except SampleError as error:
        raise SampleError(error.code.replace("image_", "mask_"), error.detail) from None


def _whole(
    values: NDArray[np.generic], alpha: NDArray[np.generic] | None, white: bool, name: str
) -> _Stored:
    """Values of more than 8 bits: whole numbers, one channel or three equal ones."""
    numbers = np.asarray(values)
    if numbers.ndim == 3:
        if not _is_grey(numbers):
            raise SampleError("mask_in_colours", f"'{name}' marks classes by 16-bit colours, not by values")
        numbers = numbers[..., 0]
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise SampleError("mask_not_labels", f"'{name}' has values that are no whole numbers")
    if white:  # as Pillow turns the values of 8 bits
        if numbers.dtype != np.uint16:
            raise SampleError("mask_not_labels", f"'{name}' is TIFF whose least value is white, of {numbers.dtype}")
        numbers = 65535 - numbers
    return _Stored(numbers.astype(np.int64), "grey", None, _varying(alpha))


def _shallow(image: Image.Image) -> _Stored:
    if image.mode in ("1", "L"):
        return _Stored(np.asarray(image).astype(np.int64), "grey")
    if image.mode == "P":
        indices = np.asarray(image).astype(np.int64)
        table = np.zeros((256, 3), np.int64)
        listed = np.asarray(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)[:256]
        table[: len(listed)] = listed
        alpha = _varying(np.asarray(image.convert("RGBA"))[..., 3]) if "transparency" in image.info else None
        return _Stored(indices, "palette", _numbered(table), alpha)
    channels = np.asarray(image.convert("RGBA")).astype(np.int64)
    alpha, colours = _varying(channels[..., 3]), channels[..., :3]
    if _is_grey(colours):
        return _Stored(colours[..., 0], "grey", None, alpha)
    return _Stored(_numbered(colours), "colour", None, alpha)


def _numbered(colours: NDArray[np.int64]) -> NDArray[np.int64]:
    return colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]


def _is_grey(colours: NDArray[np.generic]) -> bool:
    return bool((colours[..., 0] == colours[..., 1]).all() and (colours[..., 0] == colours[..., 2]).all())


def _varying(alpha: NDArray[np.generic] | None) -> NDArray[np.int64] | None:
    """Alpha that tells pixels apart; None where all are equal."""
    return None if alpha is None or (alpha == alpha.flat[0]).all() else np.asarray(alpha).astype(np.int64)


# ---- as meant --------------------------------------------------------------------------------------------------------


def _set(stored: _Stored, name: str) -> NDArray[np.bool_]:
    """Where a mask is set. Alpha counts where colours say nothing, or where both agree."""
    colours = stored.colours
    used = np.unique(colours)
    if stored.opaque is not None:
        return _set_by_alpha(colours, stored.opaque > 0, name)
    if stored.palette is not None and len(used) == 1 and len(np.unique(stored.values)) > 1:
        return stored.values > 0  # a palette of one colour says nothing; its indices do
    if len(used) > 1 and used[0] != 0:
        what = "values, none of them 0" if stored.kind == "grey" else "colours, none of them black"
        raise SampleError("mask_ambiguous", f"'{name}' has {len(used)} {what}: which is background?")
    return colours != 0


def _set_by_alpha(colours: NDArray[np.int64], there: NDArray[np.bool_], name: str) -> NDArray[np.bool_]:
    marked = colours != 0
    if there.all():  # more and less opaque, and nowhere nothing
        if (colours == colours.flat[0]).all():
            raise SampleError("mask_ambiguous", f"'{name}' has one colour, and alpha that is nowhere 0")
        return marked
    if there.any() and not (marked & there).any():
        return there  # black on nothing: alpha alone is the mask
    if marked.all() or (marked == there).all() or not (there & ~marked).any():
        return there & marked
    if not (marked & ~there).any():
        return marked  # drawn on an opaque ground that does not fill the picture
    raise SampleError("mask_ambiguous", f"'{name}' has colours and alpha that mark different pixels")


def _without_transparent(stored: _Stored, name: str) -> NDArray[np.int64]:
    if stored.opaque is None:
        return stored.values
    if not stored.values.any():
        raise SampleError("mask_ambiguous", f"'{name}' has one value only, and alpha that is a mask: of which class?")
    return np.where(stored.opaque > 0, stored.values, 0)


def _by_colours(stored: _Stored, names: Names, name: str) -> NDArray[np.int64]:
    if not names.colours:
        raise SampleError("mask_in_colours", f"'{name}' marks classes by colours, and the names say none")
    colours = stored.values if stored.opaque is None else np.where(stored.opaque > 0, stored.values, 0)
    used, places = np.unique(colours, return_inverse=True)
    if len(used) > MOST_COLOURS:
        raise SampleError("mask_not_labels", f"'{name}' has {len(used):,} colours, too many for a label map")
    known = {0: 0, **names.colours}
    return np.array([known.get(int(one), UNKNOWN_COLOUR + int(one)) for one in used])[places.reshape(colours.shape)]


def _by_palette(stored: _Stored, names: Names, name: str) -> NDArray[np.int64]:
    """Indices, as data sets mean them; grey levels where only these fit; colours where the names state colours of which
    each pixel has one. Black at another index than 0 shows that a tool has sorted the palette: then not by index."""
    assert stored.palette is not None
    values = _without_transparent(stored, name)
    used = np.unique(values)
    looks = [int(one) for one in stored.palette[used]]
    in_order = all(look != 0 or index in (0, *names.nothing) for index, look in zip(used.tolist(), looks, strict=True))
    by_index = all(map(names.knows, used.tolist()))
    if len(set(looks)) < len(looks) or (in_order and by_index):
        return values
    if names.colours and all(look == 0 or look in names.colours for look in looks):
        return _by_colours(_Stored(stored.palette[values], "colour"), names, name)
    levels = [look & 255 for look in looks]
    is_grey = all(look == level * 0x010101 for look, level in zip(looks, levels, strict=True))
    if is_grey and all(map(names.knows, levels)) and any(level in names.marked for level in levels):
        return (stored.palette & 255)[values]
    if in_order:
        return values
    raise SampleError("mask_ambiguous", f"'{name}' has a palette in another order than its values: black is not 0")
