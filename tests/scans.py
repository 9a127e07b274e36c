"""Made-up DICOM files: written by pydicom from an array and tags; a series of five slices, with two structures."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from masked import drawn
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from skimage.draw import disk


def dataset(values: np.ndarray, **tags: Any) -> FileDataset:
    """Values [rows, columns], [rows, columns, 3], or [frames, rows, columns] with NumberOfFrames."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("a", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    frames = "NumberOfFrames" in tags
    file.Rows, file.Columns = values.shape[frames : frames + 2]
    bits = values.dtype.itemsize * 8
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    colour = values.ndim == 3 + frames
    file.SamplesPerPixel = 3 if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        file.PlanarConfiguration = 0
    file.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    for name, value in tags.items():
        setattr(file, name, value)
    return file


def encoded(file: Any) -> bytes:
    buffer = io.BytesIO()
    with pydicom.config.disable_value_validation():
        file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def item(**tags: Any) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def table(entries: list[int], first: int, bits: int, vr: str = "US", **tags: Any) -> Dataset:
    """A lookup table item."""
    made = item(LUTDescriptor=[len(entries) % 65536, first, bits], **tags)
    made["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    data: Any = np.asarray(entries, "<u2").tobytes() if vr == "OW" else entries
    made.add_new("LUTData", vr, data)
    return made


ROWS, COLUMNS = 48, 64
SPACING = [0.5, 2.0]
"""Between rows, between columns."""
FRAME, SERIES = generate_uid(), generate_uid()
AXIAL = [1, 0, 0, 0, 1, 0]


def volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, (5, ROWS, COLUMNS)).astype(np.int16)


def origin(at: int, direction: list[float]) -> np.ndarray:
    return np.array([-40.0, 7.0, 11.0]) + 3.0 * at * np.cross(direction[:3], direction[3:])


def scan(root: Path, direction: list[float] = AXIAL, **tags: Any) -> list[Any]:
    """Five slices, written under names in another order than their positions."""
    root.mkdir(parents=True, exist_ok=True)
    made = []
    for at, name in enumerate(("IM3", "IM10", "IM1", "IM5", "IM2")):
        place = dict(ImagePositionPatient=origin(at, direction).tolist(), ImageOrientationPatient=direction)
        uids = dict(SeriesInstanceUID=SERIES, FrameOfReferenceUID=FRAME, Modality="CT", PatientID="p1")
        file = dataset(volume()[at], **{**place, **uids, "PixelSpacing": SPACING, "InstanceNumber": 9 - at, **tags})
        (root / f"{name}.dcm").write_bytes(encoded(file))
        made.append(file)
    return made


def masks() -> dict[str, np.ndarray]:
    """Two structures in slices 1 to 3 of five; the first is largest in slice 2."""
    first, second = np.zeros((5, ROWS, COLUMNS), bool), np.zeros((5, ROWS, COLUMNS), bool)
    for at, radius in ((1, 6), (2, 10), (3, 7)):
        first[at] = drawn(disk((20, 20), radius, shape=(ROWS, COLUMNS)), ROWS, COLUMNS)
    second[2, 30:40, 40:56] = True
    return {"liver_lobe": first, "node": second}
