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
from vgtool.records import ImageSource, View


def stored(image: Image.Image, form: str = "PNG", **settings: Any) -> ImageSource:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return ImageSource("a", buffer.getvalue)


def raw(data: bytes) -> ImageSource:
    return ImageSource("a", lambda: data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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
        ("RGBA", (100, 0, 50, 255), [100, 0, 50]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("LA", (0, 51), [204, 204, 204]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
    ],
)
def test_alpha_lies_on_white_and_grey_is_spread(mode: str, colour: Any, seen: list[int]) -> None:
    assert pixels(stored(Image.new(mode, (3, 2), colour)))[0, 0].tolist() == seen


@pytest.mark.parametrize("mode,colour", [("RGBA", (100, 0, 0, 0)), ("LA", (7, 0)), ("P", 0)])
def test_a_picture_that_is_transparent_everywhere_is_refused_not_shown_white(mode: str, colour: Any) -> None:
    image = Image.new(mode, (3, 2), colour)
    with pytest.raises(SampleError, match=r"image_invisible.*transparent everywhere"):
        open_image(stored(image, **({"transparency": 0} if mode == "P" else {})))


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


# ---- sixteen bits a channel ------------------------------------------------------------------------------------------


def deep_png(values: np.ndarray, kind: int) -> ImageSource:
    """A 16-bit PNG, written byte by byte: colour type 2 RGB, 4 grey and alpha, 6 RGBA."""
    height, width = values.shape[:2]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return raw(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def spread(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.round((values.astype(float) - low) / (high - low) * 255)


def test_twelve_bit_colours_in_a_sixteen_bit_png_keep_their_brightness() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (9, 7, 3))
    assert np.array_equal(pixels(deep_png(values, 2)), spread(values, values.min(), values.max()))
    assert "full range" in open_image(deep_png(values, 2)).info["window"]


@pytest.mark.parametrize("top", [4095, 65535])
@pytest.mark.parametrize("kind,channels", [(4, 1), (6, 3)])
def test_alpha_of_sixteen_bits_is_opaque_where_the_data_end(top: int, kind: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, top + 1, (9, 7, channels + 1))
    values[..., -1], values[0, 0, -1] = top, 0
    seen = pixels(deep_png(values, kind))
    colours = values[..., :channels]
    there = colours[values[..., -1] > 0]
    wanted = np.broadcast_to(np.clip(spread(colours, there.min(), there.max()), 0, 255), (9, 7, 3)).copy()
    wanted[0, 0] = 255
    assert np.array_equal(seen, wanted)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_sixteen_bit_colour_tiff_keeps_both_bytes(order: str, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).integers(100, 4000, (9, 7, 3)).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="rgb", byteorder=order, compression=compression)
    assert np.array_equal(pixels(raw(buffer.getvalue())), spread(values, values.min(), values.max()))


def test_sixteen_bit_colour_planes_that_pillow_garbles_are_refused() -> None:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    planes = np.zeros((3, 9, 7), np.uint16)
    tifffile.imwrite(buffer, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(SampleError, match=r"image_unreadable.*plane by plane"):
        open_image(raw(buffer.getvalue()))


def test_a_tiff_whose_least_value_is_white_is_no_negative() -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.array([[100, 2100, 4100]], np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric="miniswhite")
    assert pixels(raw(buffer.getvalue()))[0, :, 0].tolist() == [255, 127, 0]
    shallow = io.BytesIO()
    tifffile.imwrite(shallow, np.array([[0, 100, 255]], np.uint8), photometric="miniswhite")
    assert pixels(raw(shallow.getvalue()))[0, :, 0].tolist() == [255, 155, 0]


def test_a_window_of_the_row_applies_to_deep_values_and_to_no_others() -> None:
    source = stored(Image.fromarray(np.array([[0, 1000, 2000, 4000]], np.uint16)))
    view = View(window=(1000.0, 3000.0))
    seen = open_image(ImageSource("a", source.read, view=view))
    assert np.asarray(seen)[0, :, 0].tolist() == [0, 0, 128, 255] and seen.info["window"] == "1000 to 3000"
    with pytest.raises(SampleError, match=r"image_window.*8 bits"):
        open_image(ImageSource("a", stored(Image.new("L", (3, 3))).read, view=view))
    for window in (0, "lung"):
        with pytest.raises(SampleError, match=r"image_window.*states no windows"):
            open_image(ImageSource("a", source.read, view=View(window=window)))


# ---- what is no picture ----------------------------------------------------------------------------------------------


def declared(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 9999)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 14_000, 50_000])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    for look in (open_image, image_size, open_mask):
        with pytest.raises(SampleError, match=r"(image|mask)_too_large"):
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


@pytest.mark.parametrize("form", ["GIF", "TIFF"])
def test_the_frame_that_is_named_is_shown(form: str) -> None:
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 120, 255)]
    whole = stored(frames[0], form, save_all=True, append_images=frames[1:]).read
    for at, shade in enumerate((0, 120, 255)):
        assert pixels(ImageSource("a", whole, view=View(slice=at)))[0, 0].tolist() == [shade] * 3
    with pytest.raises(SampleError, match=r"image_slice.*3 frames; slice 3 is none of 0 to 2"):
        open_image(ImageSource("a", whole, view=View(slice=3)))
