"""DICOM pictures: colours, lookup tables, windows, frames; against pydicom's own conversions and PS3.3's formulas."""

import sys
from typing import Any

import numpy as np
import pytest

from vgtool.errors import SampleError
from vgtool.images import image_size, open_image
from vgtool.records import ImageSource, View

pydicom = pytest.importorskip("pydicom")

from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, convert_color_space  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from scans import dataset, encoded, item, table  # noqa: E402

HU = np.array([[0, 864, 1064, 1264, 2000]], np.int16)
"""Stored values; with intercept -1024 they are -1024, -160, 40, 240 and 976 HU."""
WAVE = np.random.default_rng(0).integers(0, 4096, (12, 10)).astype(np.uint16)


def source(file: Any, **view: Any) -> ImageSource:
    data = file if isinstance(file, bytes) else encoded(file)
    return ImageSource("a.dcm", lambda: data, view=View(**view))


def dicom(values: np.ndarray, **tags: Any) -> ImageSource:
    return source(dataset(values, **tags))


def pixels(given: ImageSource) -> np.ndarray:
    return np.asarray(open_image(given))


def row(given: ImageSource) -> list[int]:
    return pixels(given)[0, :, 0].tolist()


# ---- grey: modality and window ---------------------------------------------------------------------------------------


def test_the_first_stated_window_applies_after_rescaling() -> None:
    given = dicom(HU, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 2000])
    # PS3.3 C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, clipped
    expected = [np.clip(((x - 1024 - 39.5) / 399 + 0.5) * 255, 0, 255) for x in HU[0].tolist()]
    assert np.abs(np.array(row(given)) - expected).max() <= 0.5
    assert image_size(given) == (5, 1)
    assert open_image(given).info["window"] == "40/400 linear, stated 1 of 2"


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("representation", [0, 1])
def test_windows_are_those_of_pydicom_over_the_whole_screen(function: str, representation: int) -> None:
    values = (WAVE.astype(np.int32) - 2048 * representation).astype(np.int16 if representation else np.uint16)
    tags = dict(RescaleSlope=0.5, RescaleIntercept=-300, WindowCenter=200, WindowWidth=900, VOILUTFunction=function)
    file = dataset(values, **tags)
    whole = apply_voi_lut(apply_modality_lut(values, file), file)
    low, high = (end * 0.5 - 300 for end in ((-32768, 32767) if representation else (0, 65535)))
    assert np.abs(pixels(source(file))[..., 0] - (whole - low) / (high - low) * 255).max() <= 0.5


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_modality_table_is_looked_up_as_pydicom_does(vr: str, bits: int) -> None:
    entries = (np.arange(2048)[::-1] % 2**bits).tolist()
    file = dataset(WAVE, ModalityLUTSequence=Sequence([table(entries, 300, bits, vr)]))
    wanted = apply_modality_lut(WAVE.astype(np.int64), file).astype(float)
    seen = pixels(source(file))[..., 0]
    assert np.abs(seen - (wanted - wanted.min()) / (wanted.max() - wanted.min()) * 255).max() <= 0.5


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_voi_table_comes_before_windows_and_is_looked_up_as_pydicom_does(bits: int) -> None:
    entries = (np.linspace(0, 1, 3000) ** 2 * (2**bits - 1)).astype(int).tolist()
    given = table(entries, 500, bits, LUTExplanation="SOFT")
    file = dataset(WAVE, VOILUTSequence=Sequence([given]), WindowCenter=1, WindowWidth=2)
    wanted = apply_voi_lut(WAVE, file) / (2**bits - 1) * 255
    shown = open_image(source(file))
    assert np.abs(np.asarray(shown)[..., 0] - wanted).max() <= 0.5
    assert shown.info["window"] == "lookup table, stated 1 of 2 (SOFT)"


def test_a_voi_table_of_eight_bits_and_many_entries_does_not_wrap() -> None:
    entries = (np.arange(4096) // 16).tolist()
    file = dataset(WAVE, VOILUTSequence=Sequence([table(entries, 0, 8)]))
    assert np.array_equal(pixels(source(file))[..., 0], WAVE // 16)


def test_values_below_and_above_a_table_take_its_ends() -> None:
    file = dataset(np.array([[0, 10, 11, 12, 99]], np.uint16), VOILUTSequence=Sequence([table([0, 100, 255], 10, 8)]))
    assert row(source(file)) == [0, 0, 100, 255, 255]


def test_a_window_narrower_than_one_is_taken_exactly() -> None:
    values = np.array([[0, 250, 500, 750, 1000]], np.uint16)
    tags = dict(RescaleSlope=0.001, RescaleIntercept=0, WindowCenter=0.5, WindowWidth=0.5)
    assert row(dicom(values, **tags)) == [0, 0, 128, 255, 255]


def test_a_window_that_cannot_be_is_named_and_the_row_may_give_another() -> None:
    for tags in (dict(WindowWidth=0), dict(WindowWidth=-4), dict(WindowWidth=[4, 5])):
        file = dataset(HU, WindowCenter=5, **tags)
        with pytest.raises(SampleError, match=r"image_window.*full"):
            open_image(source(file))
        assert row(source(file, window="full"))[::4] == [0, 255]
    with pytest.raises(SampleError, match=r"Unsupported.*'CUBIC'"):
        open_image(dicom(HU, WindowCenter=5, WindowWidth=9, VOILUTFunction="CUBIC"))


def test_without_a_window_the_file_spans_its_own_values_and_monochrome1_is_inverted() -> None:
    assert row(dicom(HU))[::4] == [0, 255]
    assert open_image(dicom(HU)).info["window"] == "full range, 0 to 2000"
    assert row(dicom(HU, PhotometricInterpretation="MONOCHROME1"))[::4] == [255, 0]


def test_monochrome1_is_inverted_after_a_window_a_table_and_a_window_of_the_row() -> None:
    tables = Sequence([table((np.arange(2001) // 8).tolist(), 0, 8)])
    for tags in (dict(WindowCenter=1000, WindowWidth=900), dict(VOILUTSequence=tables)):
        plain = pixels(dicom(HU, **tags))
        assert np.array_equal(pixels(dicom(HU, PhotometricInterpretation="MONOCHROME1", **tags)), 255 - plain)
    file = dataset(HU, PhotometricInterpretation="MONOCHROME1")
    assert row(source(file, window=(864.0, 1264.0))) == [255, 255, 127, 0, 0]


@pytest.mark.parametrize("photometric,ends", [("MONOCHROME2", [0, 255]), ("MONOCHROME1", [255, 0])])
def test_padding_does_not_set_the_range_and_is_black(photometric: str, ends: list[int]) -> None:
    values = np.array([[-2000, -1000, 0, 1000, -2000]], np.int16)
    seen = row(dicom(values, PixelPaddingValue=-2000, PhotometricInterpretation=photometric))
    assert [seen[1], seen[3]] == ends and seen[0] == seen[4] == 0
    limit = np.array([[-2000, -1500, -1000, 1000]], np.int16)
    tags = dict(PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1500, PhotometricInterpretation=photometric)
    seen = row(dicom(limit, **tags))
    assert [seen[2], seen[3]] == ends and seen[0] == seen[1] == 0
    assert set(row(dicom(np.full((1, 4), -2000, np.int16), PixelPaddingValue=-2000))) == {0}


def test_the_row_chooses_a_stated_window_by_number_or_name_or_gives_its_own() -> None:
    names = ["BRAIN", "BONE"]
    file = dataset(HU, WindowCenter=[1064, 1000], WindowWidth=[400, 2000], WindowCenterWidthExplanation=names)
    bone = np.clip(np.round(((HU - 999.5) / 1999 + 0.5) * 255), 0, 255)[0].tolist()
    assert row(source(file, window=1)) == row(source(file, window="bone")) == bone
    assert open_image(source(file, window=1)).info["window"] == "1000/2000 linear, stated 2 of 2 (BONE)"
    assert row(source(file, window=(864.0, 1264.0))) == [0, 0, 128, 255, 255]
    for window in (2, -1, "lung"):
        with pytest.raises(SampleError, match=r"image_window.*it states 0: .*BRAIN.*; 1: .*BONE"):
            open_image(source(file, window=window))


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["40,5", "40\\", "\\40", "nan", "1e999", "forty"])
def test_a_number_that_is_none_costs_its_row(keyword: str, value: str) -> None:
    whole = {"WindowCenter": "40", "WindowWidth": "400", "RescaleSlope": "1", "RescaleIntercept": "0"}
    file = dataset(HU, **{**whole, keyword: "123456789"})
    data = encoded(file).replace(b"123456789 ", value.encode().ljust(10))
    with pytest.raises(SampleError, match=r"image_unreadable|image_window"):
        open_image(source(data))


# ---- frames ----------------------------------------------------------------------------------------------------------


def enhanced() -> Any:
    """Three frames of one ramp: window and slope of all, another window of the second, another slope of the third."""
    frames = np.stack([HU] * 3)
    shared = item(
        FrameVOILUTSequence=Sequence([item(WindowCenter=1000, WindowWidth=2000)]),
        PixelValueTransformationSequence=Sequence([item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")]),
    )
    window = item(WindowCenter=1064, WindowWidth=400, VOILUTFunction="LINEAR_EXACT")
    other = item(FrameVOILUTSequence=Sequence([window]))
    scaled = item(PixelValueTransformationSequence=Sequence([item(RescaleSlope=2, RescaleIntercept=-10)]))
    each = Sequence([item(), other, scaled])
    groups = dict(SharedFunctionalGroupsSequence=Sequence([shared]), PerFrameFunctionalGroupsSequence=each)
    return dataset(frames, NumberOfFrames=3, **groups)


def test_windows_and_slopes_of_functional_groups_are_those_of_the_frame() -> None:
    def linear(values: np.ndarray, centre: float, width: float) -> list[int]:
        return np.clip(np.round(((values - centre) / width + 0.5) * 255), 0, 255)[0].tolist()

    file = enhanced()
    assert row(source(file, slice=0)) == linear(HU, 999.5, 1999)
    assert row(source(file, slice=1)) == linear(HU, 1064, 400)
    assert row(source(file, slice=2)) == linear(HU * 2.0 - 10, 999.5, 1999)
    file.PhotometricInterpretation = "MONOCHROME1"
    assert row(source(file, slice=1)) == [255 - level for level in linear(HU, 1064, 400)]


def test_one_of_several_frames_is_asked_for_by_number() -> None:
    frames = np.stack([np.full((4, 6), shade, np.uint8) for shade in (10, 200)])
    frames[:, 0, 0], frames[:, 0, 1] = 0, 255
    file = dataset(frames, NumberOfFrames=2)
    assert [pixels(source(file, slice=at))[2, 2, 0] for at in (0, 1)] == [10, 200]
    with pytest.raises(SampleError, match=r"image_animated.*2 frames; name one with `slice`"):
        open_image(source(file))
    with pytest.raises(SampleError, match=r"image_slice.*slice 2 is none of 0 to 1"):
        open_image(source(file, slice=2))
    assert image_size(source(file)) == (6, 4)


# ---- colour ----------------------------------------------------------------------------------------------------------

COLOURS = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).astype(np.uint8)


def test_rgb_keeps_its_colours_pixel_by_pixel_and_plane_by_plane() -> None:
    assert np.array_equal(pixels(dicom(COLOURS)), COLOURS)
    planes = dicom(COLOURS, PlanarConfiguration=1, PixelData=np.moveaxis(COLOURS, 2, 0).tobytes())
    assert np.array_equal(pixels(planes), COLOURS)


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_ybr_is_converted_once(photometric: str) -> None:
    ybr = convert_color_space(np.full((4, 4, 3), (201, 62, 33), np.uint8), "RGB", "YBR_FULL")
    stored = ybr
    if photometric == "YBR_FULL_422":  # two luminances share a pair of colour differences
        pairs = ybr.reshape(-1, 2, 3)
        stored = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], 1)
    seen = pixels(dicom(ybr, PhotometricInterpretation=photometric, PixelData=stored.tobytes()))
    assert np.abs(seen.astype(int) - [201, 62, 33]).max() <= 1


def test_sixteen_bit_rgb_keeps_its_higher_bits() -> None:
    deep = COLOURS.astype(np.uint16) * 257
    assert np.array_equal(pixels(dicom(deep)), COLOURS)
    twelve = dicom(np.uint16([[[0, 2048, 4095]]]), BitsStored=12, HighBit=11)
    assert pixels(twelve)[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("bits", [8, 16])
def test_palette_colour_is_looked_up_as_pydicom_does(bits: int) -> None:
    kind = np.dtype(f"<u{bits // 8}")
    entries = np.random.default_rng(2).integers(0, 2**bits, (3, 256)).astype(kind)
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    file = dataset(indices, PhotometricInterpretation="PALETTE COLOR")
    for at, name in enumerate(("Red", "Green", "Blue")):
        setattr(file, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(file, f"{name}PaletteColorLookupTableData", entries[at].tobytes())
    wanted = apply_color_lut(indices, file) / (2**bits - 1) * 255
    seen = pixels(source(file))
    assert np.abs(seen - wanted).max() <= 0.5 and np.ptp(seen[..., 0] - seen[..., 1].astype(int)) > 50


def test_eight_bit_palettes_said_to_be_sixteen_are_not_black() -> None:
    file = dataset(np.array([[0, 1]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, shades in (("Red", [0, 200]), ("Green", [10, 100]), ("Blue", [0, 30])):
        setattr(file, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(file, f"{name}PaletteColorLookupTableData", np.array(shades, "<u2").tobytes())
    assert pixels(source(file)).tolist() == [[[0, 10, 0], [200, 100, 30]]]


@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT"])
def test_jpeg_2000_colours_are_read_in_the_space_of_the_decoder(photometric: str) -> None:
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000, JPEG2000Lossless

    exact = photometric == "YBR_RCT"
    buffer = io.BytesIO()
    image = Image.fromarray(np.full((32, 32, 3), (201, 62, 33), np.uint8))
    image.save(buffer, "JPEG2000", irreversible=not exact, mct=1, no_jp2=True)
    file = dataset(np.asarray(image), PhotometricInterpretation=photometric)
    file.file_meta.TransferSyntaxUID = JPEG2000Lossless if exact else JPEG2000
    file.PixelData = encapsulate([buffer.getvalue()])
    assert np.abs(pixels(source(file)).astype(int) - [201, 62, 33]).max() <= (0 if exact else 2)


@pytest.mark.parametrize("photometric", ["HSV", "CMYK", "YBR_PARTIAL_420", "XYB", "RGBA"])
def test_colour_spaces_that_are_not_read_are_named(photometric: str) -> None:
    with pytest.raises(SampleError, match=r"image_unreadable|image_truncated"):
        open_image(dicom(COLOURS, PhotometricInterpretation=photometric))


def test_no_window_applies_to_colours() -> None:
    with pytest.raises(SampleError, match=r"image_window.*in colour"):
        open_image(source(dataset(COLOURS), window=(0.0, 10.0)))


# ---- what is no picture ----------------------------------------------------------------------------------------------


def test_a_data_set_without_preamble_is_read() -> None:
    whole = dataset(HU)
    for implicit, little in ((True, True), (False, True)):
        import io

        buffer = io.BytesIO()
        plain = pydicom.dataset.Dataset(whole)
        pydicom.dcmwrite(buffer, plain, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        assert row(source(buffer.getvalue())) == row(source(whole))


def test_bad_dicom_is_named() -> None:
    cut = encoded(dataset(np.zeros((64, 64), np.uint16)))
    with pytest.raises(SampleError, match=r"image_truncated|image_unreadable"):
        open_image(source(cut[: len(cut) - 3000]))
    with pytest.raises(SampleError, match=r"image_unreadable|image_truncated"):
        open_image(source(b"\0" * 128 + b"DICM" + b"garbage" * 20))
    with pytest.raises(SampleError, match="image_too_large"):
        open_image(dicom(HU), max_pixels=4)
    report = dataset(HU)
    del report.Rows
    report.SOPClassUID = pydicom.uid.BasicTextSRStorage
    with pytest.raises(SampleError, match=r"without a picture \(Basic Text SR Storage\)"):
        open_image(source(report))


def test_what_has_no_decoder_here_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    file = dataset(HU)
    file.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
    file.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(SampleError, match=r"dicom_decoder_missing.*JPEG-LS.*vgtool\[dicom\]"):
        open_image(source(file))


def test_dicom_without_pydicom_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    given = dicom(HU)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(SampleError, match=r"dicom_support_missing.*vgtool\[dicom\]"):
        open_image(given)
