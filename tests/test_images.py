"""Whatever a picture is stored as, the model sees honest RGB in stored orientation, or the row says why not."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from vgtool.errors import SampleError
from vgtool.images import image_size, open_image, open_mask
from vgtool.records import ImageSource

pydicom = pytest.importorskip("pydicom")


def stored(image: Image.Image, form: str = "PNG", **settings: Any) -> ImageSource:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return ImageSource("a", buffer.getvalue)


def raw(data: bytes) -> ImageSource:
    return ImageSource("a", lambda: data)


def pixels(source: ImageSource) -> np.ndarray:
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


# ---- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_every_format_read_gives_its_size_and_colour(form: str) -> None:
    source = stored(Image.new("RGB", (31, 17), (200, 40, 90)), form)
    assert image_size(source) == (31, 17)
    assert np.abs(pixels(source).astype(int) - [200, 40, 90]).max() <= 6  # JPEG and WEBP lose a little


def test_cmyk_is_converted_not_read_as_rgba() -> None:
    ink = (0, 255, 255, 0)  # magenta and yellow are red
    red, green, blue = pixels(stored(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100))[8, 8]
    assert red > 245 and green < 10 and blue < 10


def test_a_palette_gives_its_colours_and_its_transparent_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((1, 0), 1)
    assert pixels(stored(image)).tolist() == [[[0, 0, 0], [10, 200, 30]]]
    assert pixels(stored(image, transparency=0)).tolist() == [[[255, 255, 255], [10, 200, 30]]]


@pytest.mark.parametrize(
    "mode,colour,seen",
    [
        ("RGBA", (100, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (100, 0, 50, 255), [100, 0, 50]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("LA", (0, 0), [255, 255, 255]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
    ],
)
def test_alpha_lies_on_white_and_grey_is_spread(mode: str, colour: Any, seen: list[int]) -> None:
    assert pixels(stored(Image.new(mode, (3, 2), colour)))[0, 0].tolist() == seen


def test_a_sixteen_bit_ramp_keeps_its_levels_in_a_linear_window() -> None:
    ramp = np.tile(np.linspace(1000, 5000, 512).astype(np.uint16), (4, 1))
    seen = pixels(stored(Image.fromarray(ramp)))[0, :, 0]
    assert len(np.unique(seen)) == 256 and seen[0] == 0 and seen[-1] == 255
    expected = (ramp[0].astype(float) - ramp.min()) / float(ramp.max() - ramp.min()) * 255
    assert np.abs(seen - expected).max() <= 0.5


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_deep_tiff_is_windowed_too_and_a_flat_one_is_black(kind: Any) -> None:
    values = np.array([[-500, 0, 500]], kind)
    assert pixels(stored(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    assert pixels(stored(Image.fromarray(np.full((2, 2), 7, kind)), "TIFF")).max() == 0


def test_pixels_that_are_not_finite_fail() -> None:
    with pytest.raises(SampleError, match=r"image_unreadable.*not finite"):
        pixels(stored(Image.fromarray(np.array([[1, np.nan]], np.float32)), "TIFF"))


def test_exif_rotation_is_left_alone_unless_asked_for() -> None:
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    source = stored(image, "JPEG", exif=exif)
    assert open_image(source).size == image_size(source) == (40, 20)
    assert open_image(source, orientation="apply").size == (20, 40)


def test_masks_keep_palette_indices_and_sixteen_bit_values() -> None:
    palette = Image.new("P", (3, 2))
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.putpixel((2, 1), 2)
    assert open_mask(stored(palette)).tolist() == [[0, 0, 0], [0, 0, 2]]
    assert open_mask(stored(Image.fromarray(np.array([[0, 4000]], np.uint16)))).tolist() == [[0, 4000]]
    assert open_mask(stored(Image.new("RGB", (2, 1), (0, 9, 0)))).tolist() == [[9, 9]]


# ---- what is no picture ----------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def declared(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 14_000, 50_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    for look in (open_image, image_size, open_mask):
        with pytest.raises(SampleError, match="image_too_large"):
            look(raw(declared(side, side)))


def test_the_size_limit_is_a_limit_not_a_guess() -> None:
    source = stored(Image.new("RGB", (20, 10)))
    assert open_image(source, max_pixels=200).size == (20, 10)
    with pytest.raises(SampleError, match="20 x 10 pixels; the limit is 199"):
        open_image(source, max_pixels=199)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP"])
def test_a_file_cut_at_three_fifths_fails_and_is_never_filled_with_grey(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    whole = stored(Image.fromarray(noise), form).read()
    with pytest.raises(SampleError, match=r"image_truncated|image_unreadable"):
        open_image(raw(whole[: len(whole) * 3 // 5]))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "data,code",
    [
        (b"", "image_empty"),
        (b"just text", "image_unreadable"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "lfs_pointer"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image_unreadable"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_unreadable"),
        (b"\x89PNG\r\n\x1a\n", "image_unreadable"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, code: str) -> None:
    with pytest.raises(SampleError) as caught:
        open_image(raw(data))
    assert caught.value.code == code


def test_several_frames_are_refused() -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    with pytest.raises(SampleError, match=r"image_animated.*2 frames"):
        open_image(stored(frames[0], "GIF", save_all=True, append_images=frames[1:]))


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def dicom(values: np.ndarray, **tags: Any) -> ImageSource:
    """A file as a scanner writes it, uncompressed."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("a", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = values.shape[:2]
    bits = values.dtype.itemsize * 8
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    colour = values.ndim == 3
    file.SamplesPerPixel = 3 if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        file.PlanarConfiguration = 0
    file.PixelData = values.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return ImageSource("a.dcm", buffer.getvalue)


HU = np.array([[0, 864, 1064, 1264, 2000]], np.int16)
"""Stored values; with intercept -1024 they are -1024, -160, 40, 240 and 976 HU."""


def test_dicom_uses_its_first_stated_window_after_rescaling() -> None:
    source = dicom(HU, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 2000])
    seen = pixels(source)[0, :, 0].astype(int)
    # PS3.3 C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, clipped
    expected = [np.clip(((x - 1024 - 39.5) / 399 + 0.5) * 255, 0, 255) for x in HU[0].tolist()]
    assert np.abs(seen - expected).max() <= 0.5
    assert image_size(source) == (5, 1)


def test_dicom_without_a_window_spans_its_own_values_and_monochrome1_is_inverted() -> None:
    assert pixels(dicom(HU))[0, [0, -1], 0].tolist() == [0, 255]
    assert pixels(dicom(HU, PhotometricInterpretation="MONOCHROME1"))[0, [0, -1], 0].tolist() == [255, 0]


def test_colour_dicom_keeps_its_colours() -> None:
    values = np.zeros((2, 2, 3), np.uint8)
    values[0, 1] = (10, 200, 30)
    assert pixels(dicom(values)).tolist() == values.tolist()


def test_bad_dicom_is_named() -> None:
    with pytest.raises(SampleError, match=r"image_animated.*2 frames"):
        open_image(dicom(HU.repeat(2, 0), NumberOfFrames=2))
    cut = dicom(np.zeros((64, 64), np.uint16)).read()
    with pytest.raises(SampleError, match=r"image_truncated|image_unreadable"):
        open_image(raw(cut[: len(cut) - 3000]))
    with pytest.raises(SampleError, match=r"image_unreadable|image_truncated"):
        open_image(raw(b"\0" * 128 + b"DICM" + b"garbage" * 20))
    with pytest.raises(SampleError, match="image_too_large"):
        open_image(dicom(HU), max_pixels=4)


def test_dicom_without_pydicom_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    source = dicom(HU)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(SampleError, match=r"dicom_support_missing.*vgtool\[dicom\]"):
        open_image(source)
