"""Made-up DICOM files, for tests: written by pydicom from an array and tags."""

import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


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
