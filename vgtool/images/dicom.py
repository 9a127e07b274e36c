"""A DICOM file's picture as RGB: decoded, in its own colours, or grey after modality LUT and window.

Decoding and every conversion are pydicom's. What a decoder hands back is in the colour space that it says, which is not
always the one of the header: YBR and JPEG 2000's transforms are RGB by then.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgtool.errors import SampleError
from vgtool.images import voi
from vgtool.images.files import reading, refuse_large
from vgtool.images.levels import USED, spread
from vgtool.records import View

GREY = ("MONOCHROME1", "MONOCHROME2")
_BEGINNINGS = (b"\x08\x00", b"\x02\x00", b"\x00\x08")
"""Groups 0008 and 0002 in either byte order: a data set without preamble begins so."""


def is_dicom(data: bytes) -> bool:
    """With a preamble, or a bare data set as older devices write it."""
    if data[128:132] == b"DICM":
        return True
    group, element = data[:2], data[2:4]
    return group in _BEGINNINGS and len(data) > 16 and 0 in element and data[4:8] != b"\0\0\0\0"


def read(data: bytes, name: str, *, pixels: bool = True) -> Any:
    """The data set. SampleError when it is none."""
    try:
        import pydicom
    except ImportError:
        raise SampleError("dicom_support_missing", f"'{name}' is DICOM; install vgtool[dicom]") from None
    with reading(name, "image_unreadable", "is not readable as DICOM"):
        bare = data[128:132] != b"DICM"
        return pydicom.dcmread(io.BytesIO(data), force=bare, stop_before_pixels=not pixels)


def size(file: Any, name: str, max_pixels: int) -> tuple[int, int]:
    """Width and height, from the header. SampleError without a picture, or for one that is too large."""
    with reading(name, "image_unreadable", "has no usable Rows and Columns"):
        rows, columns = int(file.get("Rows") or 0), int(file.get("Columns") or 0)
    if rows < 1 or columns < 1:
        raise SampleError("image_unreadable", f"'{name}' is DICOM without a picture ({_kind(file)})")
    refuse_large(columns, rows, name, max_pixels)
    return columns, rows


def _kind(file: Any) -> str:
    try:
        return str(file.SOPClassUID.name) or "of no class"
    except Exception:  # an element that cannot be parsed: this only words a refusal
        return "of no class"


def picture(data: bytes, name: str, max_pixels: int, view: View) -> Image.Image:
    """The picture, or the frame that `view` names."""
    file = read(data, name)
    size(file, name, max_pixels)
    at = frame_number(file, name, view)
    values, photometric = decoded(file, name, at)
    with reading(name, "image_unreadable", "cannot be shown"):
        if photometric in GREY and values.ndim == 2:
            return _grey(values, photometric, attributes(file, at), name, view)
        if view.window is not None:
            raise SampleError("image_window", f"'{name}' is in colour: no window applies to it")
        return Image.fromarray(_colours(values, photometric, file, name)).convert("RGB")


def labels(data: bytes, name: str, max_pixels: int, view: View) -> NDArray[Any]:
    """The stored values of a frame that is a label map [rows, columns], without any window."""
    file = read(data, name)
    size(file, name, max_pixels)
    values, photometric = decoded(file, name, frame_number(file, name, view))
    if values.ndim != 2 or photometric not in (*GREY, "PALETTE COLOR"):
        raise SampleError("mask_in_colours", f"'{name}' is {photometric}: no label map")
    return values


def frame_number(file: Any, name: str, view: View) -> int:
    with reading(name, "image_unreadable", "has no usable NumberOfFrames"):
        frames = int(file.get("NumberOfFrames") or 1)
    if view.slice is None and frames > 1:
        raise SampleError("image_animated", f"'{name}' has {frames} frames; name one with `slice` (from 0)")
    at = view.slice or 0
    if not 0 <= at < frames:
        raise SampleError("image_slice", f"'{name}' has {frames} frames; slice {at} is none of 0 to {frames - 1}")
    return at


def decoded(file: Any, name: str, at: int) -> tuple[NDArray[Any], str]:
    """Stored values of a frame [rows, columns] or [rows, columns, samples], and the colour space they are in."""
    from pydicom.pixels import get_decoder

    with reading(name, "image_truncated", "has no pixels that can be decoded"):
        syntax = _syntax(file)
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            what = getattr(syntax, "name", syntax)
            raise SampleError("image_unreadable", f"'{name}' is stored as {what}, which is not read") from None
        if not decoder.is_available:
            need = f"'{name}' is stored as {syntax.name}, for which no decoder is installed; install vgtool[dicom]"
            raise SampleError("dicom_decoder_missing", need)
        values, about = decoder.as_array(file, index=at)
    return values, str(about["photometric_interpretation"])


def _syntax(file: Any) -> Any:
    """The transfer syntax; that of the parsed bytes for a data set without a header."""
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    stated = getattr(file, "file_meta", {}).get("TransferSyntaxUID")
    if stated:
        return UID(stated)
    implicit, little = file.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def attributes(file: Any, at: int) -> Any:
    """The data set with what frame `at` says of its own, and else what all frames share, about values and windows."""
    groups = [list(file.get("SharedFunctionalGroupsSequence") or ())[:1]]
    groups.append(list(file.get("PerFrameFunctionalGroupsSequence") or ())[at : at + 1])
    merged = None
    for item in (one for several in groups for one in several):
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for inner in list(item.get(keyword) or ())[:1]:
                if merged is None:
                    merged = _plain(file)
                merged.update(inner)
    return file if merged is None else merged


def _plain(file: Any) -> Any:
    """A data set with the attributes that values and windows depend on, and nothing else."""
    from pydicom.dataset import Dataset

    plain = Dataset()
    for keyword in (
        *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType"),
        *("VOILUTSequence", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"),
        *("PixelPaddingValue", "PixelPaddingRangeLimit", "PixelRepresentation", "BitsStored"),
    ):
        if keyword in file:
            plain[keyword] = file[keyword]
    return plain


def _grey(values: NDArray[Any], photometric: str, frame: Any, name: str, view: View) -> Image.Image:
    inside = _inside(values, frame, name)
    levels, used = voi.shown(modality(values, frame, name), inside, frame, name, view)
    if photometric == "MONOCHROME1":
        levels = 255 - levels if inside is None or not used.startswith("full") else np.where(inside, 255 - levels, 0)
    image = Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    image.info[USED] = used
    return image


def modality(values: NDArray[Any], frame: Any, name: str) -> NDArray[Any]:
    """Stored values in the unit of the modality: by lookup table, or slope and intercept."""
    tables = list(frame.get("ModalityLUTSequence") or ())
    if tables:
        return voi.looked_up(values, tables[0])
    slope, intercept = (voi.numbers(frame, one, name) for one in ("RescaleSlope", "RescaleIntercept"))
    if not slope and not intercept:
        return values
    return values.astype(np.float64) * (slope or [1.0])[0] + (intercept or [0.0])[0]


def _inside(values: NDArray[Any], frame: Any, name: str) -> NDArray[np.bool_] | None:
    """Pixels that are no padding (PS3.3 C.7.5.1.1.2); None where the file names no padding."""
    padding = voi.numbers(frame, "PixelPaddingValue", name)
    if not padding:
        return None
    ends = sorted((padding[0], *voi.numbers(frame, "PixelPaddingRangeLimit", name)[:1]))
    return ~((values >= ends[0]) & (values <= ends[-1]))


def _colours(values: NDArray[Any], photometric: str, file: Any, name: str) -> NDArray[np.uint8]:
    from pydicom.pixels import apply_color_lut, convert_color_space

    if photometric == "PALETTE COLOR" and values.ndim == 2:
        colours = apply_color_lut(values, file)[..., :3]
        deep = int(file.RedPaletteColorLookupTableDescriptor[2]) > 8 and colours.max() > 255  # else eight in sixteen
        return spread(colours, 0, 65535 if deep else 255)
    if photometric.startswith("YBR_FULL") and values.ndim == 3:  # as_array leaves one that the decoder did not convert
        values, photometric = convert_color_space(values, photometric, "RGB"), "RGB"
    if photometric != "RGB" or values.ndim != 3 or values.shape[2] != 3:
        what = f"{photometric or 'of no colour space'}, {' x '.join(map(str, values.shape))}"
        raise SampleError("image_unreadable", f"'{name}' is {what}, which is not read")
    return spread(values, 0, 2 ** int(file.BitsStored) - 1)
