"""Files that are bad, each in another way: by format and field, for tests. Kind -> file name and bytes."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from scans import dataset, encoded, item, table

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 20, 3)).astype(np.uint8))
GREY = np.random.default_rng(0).integers(0, 900, (16, 12)).astype(np.uint16)


def kinds() -> dict[str, tuple[str, bytes]]:
    """Every kind, some of which may still hold a picture."""
    pictures = (nothing(), cut(), png(), bitmap(), tiff(), netpbm())
    whole = [*chain(*pictures, dicom_values(), dicom_text(), dicom_other(), nifti())]
    return {kind: (f"{at:04d}.{suffix}", data) for at, (kind, suffix, data) in enumerate(whole)}


Kinds = Iterator[tuple[str, str, bytes]]
"""Kind, suffix, bytes."""


def nothing() -> Kinds:
    """No image at all."""
    for name, data in {
        "empty": b"",
        "one byte": b"\0",
        "zeros": b"\0" * 4096,
        "text": b"see attachment",
        "html": b"<!doctype html><html><body>404 Not Found</body></html>",
        "json": b'{"error": "rate limited"}',
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n",
        "zip": b"PK\x03\x04" + b"\0" * 60,
        "gzip of text": gzip.compress(b"nothing here"),
        "gzip cut": gzip.compress(b"nothing here" * 99)[:20],
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "elf": b"\x7fELF\x02\x01\x01" + b"\0" * 57,
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00",
        "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}",
        "parquet": b"PAR1\x15\x04\x15\x10PAR1",
        "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 90,
        "mp4": b"\0\0\0\x18ftypmp42" + b"\0" * 40,
        "ico": b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0" + b"\0" * 40,
        "psd": b"8BPS\0\x01" + b"\0" * 40,
        "nrrd": b"NRRD0005\ntype: short\n",
    }.items():
        yield f"no image: {name}", "png", data


def stored(form: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    PICTURE.save(buffer, form, **settings)
    return buffer.getvalue()


def cut() -> Kinds:
    """Every format, ended early."""
    forms = [("PNG", {}), ("JPEG", {}), ("BMP", {}), ("GIF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
    for at, (form, settings) in enumerate([*forms, ("WEBP", {}), ("PPM", {}), ("JPEG2000", {})]):
        whole = stored(form, **settings)
        for share in (0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9):
            yield f"{form} {at} cut at {share}", form.lower(), whole[: int(len(whole) * share)]
        yield f"{form} {at} beginning lost", form.lower(), whole[4:]


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png() -> Kinds:
    whole = {"width": 4, "height": 4, "depth": 8, "colour": 0, "compression": 0, "filter": 0, "interlace": 0}
    odd: dict[str, list[int]] = {
        **{"width": [0, 2**31, 2**31 - 1, 9], "height": [0, 2**31, 2**31 - 1, 9], "depth": [0, 3, 5, 9, 32]},
        **{"colour": [1, 5, 7, 255], "compression": [1, 9], "interlace": [2]},
    }
    data = zlib.compress(b"".join(b"\0" + bytes(range(4)) for _ in range(4)))
    rest = chunk(b"IDAT", data) + chunk(b"IEND", b"")

    def made(fields: dict[str, int], *chunks: bytes) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *fields.values())) + b"".join(chunks)

    for field, values in odd.items():
        for value in values:
            yield f"PNG {field} {value}", "png", made({**whole, field: value}, rest)
    for name, chunks in {
        "no data": [],
        "end only": [chunk(b"IEND", b"")],
        "data of noise": [chunk(b"IDAT", b"\xff" * 30)],
        "data too short": [chunk(b"IDAT", zlib.compress(b"\0\1"))],
        "wrong check sum": [chunk(b"IDAT", data, 7)],
        "filter of line 9": [chunk(b"IDAT", zlib.compress(b"\x09aaaa" * 4))],
        "length beyond file": [struct.pack(">I", 10**6) + b"IDAT" + data],
        "negative length": [struct.pack(">I", 2**32 - 1) + b"IDAT" + data],
        "bomb of text": [chunk(b"zTXt", b"a\0\0" + zlib.compress(b"0" * 10**7)), chunk(b"IDAT", data)],
    }.items():
        yield f"PNG {name}", "png", made(whole, *chunks)
    yield "PNG palette missing", "png", made({**whole, "colour": 3}, rest)


def bitmap() -> Kinds:
    whole = bytearray(stored("BMP"))
    for name, at, form, values in (
        ("width", 18, "<i", (0, -4, 2**31 - 1, 10**5)),
        ("height", 22, "<i", (0, 2**31 - 1, 10**6)),
        ("bits", 28, "<H", (0, 3, 7, 99)),
        ("compression", 30, "<I", (1, 7, 2**31)),
        ("offset", 10, "<I", (2**31, 10**6)),
        ("header size", 14, "<I", (0, 7, 10**6)),
    ):
        for value in values:
            damaged = bytearray(whole)
            struct.pack_into(form, damaged, at, value)
            yield f"BMP {name} {value}", "bmp", bytes(damaged)


def tiff() -> Kinds:
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 4, 279: 16}
    names = {256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric", 273: "strip offset"}
    names |= {277: "samples", 278: "rows in a strip", 279: "strip bytes"}
    odd = {256: [0, 70000, 2**31], 257: [0, 70000, 2**31], 258: [0, 3, 7, 64, 999], 259: [0, 4, 6, 7, 99, 34712]}
    odd |= {262: [4, 7, 32844], 273: [10**6, 2**32 - 1], 277: [0, 2, 9, 40000], 278: [], 279: [2**31]}
    for tag, values in odd.items():
        for value in values:
            yield f"TIFF {names[tag]} {value}", "tif", _tiff({**tags, tag: value})
        if tag not in (278, 262):
            yield f"TIFF without {names[tag]}", "tif", _tiff({key: one for key, one in tags.items() if key != tag})
    yield "TIFF directory in a circle", "tif", _tiff(tags, following=8)
    yield "TIFF directory beyond file", "tif", b"II*\0" + struct.pack("<I", 10**6)


def _tiff(tags: dict[int, int], following: int = 0) -> bytes:
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if tag == 273 and value == 0 else value) for tag, value in tags.items()
    )
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return head + bytes(range(16))


def netpbm() -> Kinds:
    for head in (b"P5", b"P5\n", b"P5 0 4 255\n", b"P5 4 0 255\n", b"P5 -4 4 255\n", b"P5 4 4 0\n", b"P5 4 4 99999\n"):
        yield f"PPM {head!r}", "pgm", head + b"abcd" * 4
    for head in (b"P6 4 4 255\n", b"P5 x y 255\n", b"P2 4 4 255\n1 2 x", b"P5 100000 100000 255\n", b"P9 4 4 255\n"):
        yield f"PPM {head!r}", "ppm", head


# ---- DICOM -----------------------------------------------------------------------------------------------------------


def dicom_values() -> Kinds:
    """Fields with values that cannot be, or not beside the others."""
    odd: dict[str, list[Any]] = {
        **{"Rows": [0, 17, 65535], "Columns": [0, 13, 65535], "BitsAllocated": [0, 7, 12, 24, 65535]},
        **{"BitsStored": [0, 17, 65535], "SamplesPerPixel": [0, 2, 3, 4, 65535], "PixelRepresentation": [2, 99]},
        **{"NumberOfFrames": [2, 0, -1, 10**6]},
        **{"PhotometricInterpretation": ["", "RGB", "HSV", "PALETTE COLOR", "GREY"]},
        **{"WindowWidth": [0, -1, [1, 2]], "WindowCenter": [[1, 2], []], "VOILUTFunction": ["CUBIC", "sigma"]},
        **{"PixelData": [b"", b"\0\0", b"\0" * 383 + b"\0", b"\0" * 100]},
    }
    for field, values in odd.items():
        for value in values:
            file = dataset(GREY, WindowCenter=300, WindowWidth=400)
            with pydicom.config.disable_value_validation():
                setattr(file, field, value)
            yield f"DICOM {field} {str(value)[:30]}", "dcm", encoded(file)
    for field in (*odd, "PixelRepresentation"):
        if field not in dataset(GREY):
            continue
        file = dataset(GREY)
        delattr(file, field)
        yield f"DICOM without {field}", "dcm", encoded(file)


def dicom_text() -> Kinds:
    """Numbers, written as text, that are none."""
    fields = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames")
    for field in fields:
        for text in ("40,5", "4 0", "\\40", "40\\", "NaN", "1e999", "-", "0x10", "forty", "\xff\xfe", "1.2.3", "+-1"):
            whole = {"WindowCenter": "40", "WindowWidth": "400", "RescaleSlope": "1", "RescaleIntercept": "0"}
            file = dataset(GREY, **whole)
            setattr(file, field, "123456789")
            data = encoded(file).replace(b"123456789 ", text.encode("latin-1").ljust(10))
            yield f"DICOM {field} {text!r}", "dcm", data


def dicom_other() -> Kinds:
    whole = encoded(dataset(GREY))
    for share in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99):
        yield f"DICOM cut at {share}", "dcm", whole[: int(len(whole) * share)]
    yield "DICOM preamble alone", "dcm", whole[:132]
    yield "DICOM noise", "dcm", whole[:132] + np.random.default_rng(0).bytes(999)
    for uid in ("1.2.3", "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.6.1", "", "x" * 20):
        file = dataset(GREY)
        data = encoded(file).replace(b"1.2.840.10008.1.2.1\0", uid.encode().ljust(20, b"\0"))
        yield f"DICOM transfer syntax {uid!r}", "dcm", data
    for name in ("JPEGBaseline8Bit", "JPEGLossless", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"):
        for what, frame in (("noise", b"\xff\xd8" + b"\x13" * 60), ("empty", b"")):
            file = _as(dataset(GREY), getattr(pydicom.uid, name))
            file.PixelData = encapsulate([frame]) if frame else b"\xfe\xff\x00\xe0\0\0\0\0"
            file["PixelData"].is_undefined_length = True
            yield f"DICOM {name} {what}", "dcm", encoded(file)
    tables: list[tuple[str, Any]] = [
        ("no data", item(LUTDescriptor=[4, 0, 8])),
        ("too short", table([1, 2], 0, 8)),
        ("too deep", table([1, 900], 0, 8)),
        ("no descriptor", item(LUTExplanation="x")),
    ]
    tables[1][1].LUTDescriptor = [400, 0, 8]
    for name, one in tables:
        yield f"DICOM modality table {name}", "dcm", encoded(dataset(GREY, ModalityLUTSequence=Sequence([one])))
        yield f"DICOM VOI table {name}", "dcm", encoded(dataset(GREY, VOILUTSequence=Sequence([one])))
    palette = dataset(np.zeros((4, 4), np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        yield f"DICOM palette before {colour}", "dcm", encoded(palette)
        setattr(palette, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(palette, f"{colour}PaletteColorLookupTableData", b"\0\1")
    yield "DICOM palette too short", "dcm", encoded(palette)
    report = dataset(GREY)
    for field in ("Rows", "Columns", "PixelData"):
        delattr(report, field)
    yield "DICOM report", "dcm", encoded(report)


def _as(file: Any, syntax: Any) -> Any:
    file.file_meta.TransferSyntaxUID = syntax
    return file


# ---- NIfTI -----------------------------------------------------------------------------------------------------------


def nifti() -> Kinds:
    import nibabel

    whole = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)).to_bytes()
    for name, at, form, values in (
        *((f"dim {n}", 40 + 2 * n, "<h", (0, -3, 32767)) for n in range(1, 4)),
        ("dimensions", 40, "<h", (0, 1, 2, 9, -1)),
        ("data type", 70, "<h", (0, 1, 32, 128, 1792, 2304, 77, -1)),
        ("data offset", 108, "<f", (-5.0, 1e9, np.nan)),
        ("slope", 112, "<f", (np.inf,)),
        ("sform row", 280, "<f", (np.nan, np.inf)),
        ("magic", 344, "<I", (0x0031696E, 7)),
        ("extension", 348, "<I", (1,)),
    ):
        for value in values:
            damaged = bytearray(whole)
            struct.pack_into(form, damaged, at, value)
            yield f"NIfTI {name} {value}", "nii.gz", gzip.compress(bytes(damaged))
    flat = bytearray(whole)
    struct.pack_into("<16s", flat, 280, b"\0" * 16)
    yield "NIfTI sform without a first row", "nii.gz", gzip.compress(bytes(flat))
    for share in (0.2, 0.75, 0.9):
        yield f"NIfTI cut at {share}", "nii.gz", gzip.compress(whole[: int(len(whole) * share)])
        yield f"NIfTI gzip cut at {share}", "nii.gz", gzip.compress(whole)[: int(len(gzip.compress(whole)) * share)]
    damaged = bytearray(gzip.compress(whole))
    damaged[-6] ^= 255
    yield "NIfTI gzip check sum", "nii.gz", bytes(damaged)
    outside = nibabel.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), np.eye(4))
    yield "NIfTI of no finite voxel", "nii.gz", outside.to_bytes()
