#!/bin/sh
# rt-utils gives masks of an RT-STRUCT as [columns, rows, slices]: transposed, and cut, where pictures are not square.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check rt-utils==1.2.7 pydicom==3.0.2 numpy==2.4.6 opencv-python-headless
"$home/env/bin/python" -W ignore - "$home/ct" <<'PY'
import pathlib, sys
import numpy, pydicom
from importlib.metadata import version
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from rt_utils import RTStructBuilder

folder = pathlib.Path(sys.argv[1]); folder.mkdir()
uids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
for at in range(2):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID, file.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, "CT"
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize", "PatientWeight",
                 "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "ReferringPhysicianName",
                 "SeriesDescription", "Manufacturer"):
        setattr(file, name, "")
    for name, value in uids.items():
        setattr(file, name, value)
    file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, 3 * at], [1, 0, 0, 0, 1, 0]
    file.PixelSpacing, file.SliceThickness, file.InstanceNumber = [1, 1], 3, at + 1
    file.Rows, file.Columns, file.SamplesPerPixel, file.PhotometricInterpretation = 48, 64, 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation = 15, 0
    file.PixelData = numpy.zeros((48, 64), numpy.uint16).tobytes()
    file.save_as(folder / f"{at}.dcm", enforce_file_format=True)
drawn = numpy.zeros((48, 64, 2), bool)
drawn[10:20, 30:60, 0] = True
made = RTStructBuilder.create_new(str(folder))
try:
    made.add_roi(mask=drawn, name="organ")
    back = made.get_roi_mask_by_name("organ")
except Exception as error:
    back = error
print(f"rt-utils {version('rt-utils')}, pydicom {pydicom.__version__}")
if isinstance(back, Exception):
    print(f"48 rows, 64 columns: {type(back).__name__}: {back}")
    raise SystemExit("this has changed")
print(f"48 rows, 64 columns, {int(drawn.sum())} pixels drawn: the mask that comes back is {back.shape}, {int(back.sum())} pixels")
assert back.shape == (64, 48, 2) and back.sum() < drawn.sum(), "this has changed"
print("So columns beyond the number of rows are lost.")
PY
