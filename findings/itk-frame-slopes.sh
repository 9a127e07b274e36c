#!/bin/sh
# ITK gives every frame of an enhanced DICOM file the rescale slope of the first; pydicom's apply_rescale gives none. PET and
# MR files may state another slope for each frame (PS3.3 C.7.6.16.2.9), so brightness between slices is not what was measured.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 pydicom==3.0.2 numpy==2.4.6
"$home/env/bin/python" - "$home/mr.dcm" <<'PY'
import sys
import numpy, pydicom, SimpleITK
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

SLOPES = 2, 4, 8


def item(**tags):
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def frame(at, slope):
    return item(
        FrameContentSequence=[item(StackID="1", InStackPositionNumber=at + 1, DimensionIndexValues=[1, at + 1])],
        PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2 * at])],
        PixelValueTransformationSequence=[item(RescaleIntercept=0, RescaleSlope=slope, RescaleType="US")],
    )


meta = FileMetaDataset()
meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedMRImageStorage, generate_uid()
meta.TransferSyntaxUID = ExplicitVRLittleEndian
file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
file.SOPClassUID, file.SOPInstanceUID, file.Modality = EnhancedMRImageStorage, meta.MediaStorageSOPInstanceUID, "MR"
file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID = generate_uid(), generate_uid(), generate_uid()
file.Rows, file.Columns, file.NumberOfFrames = 4, 4, len(SLOPES)
file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
file.SharedFunctionalGroupsSequence = [item(
    PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
    PixelMeasuresSequence=[item(PixelSpacing=[1, 1], SliceThickness=2, SpacingBetweenSlices=2)],
)]
file.PerFrameFunctionalGroupsSequence = [frame(at, slope) for at, slope in enumerate(SLOPES)]
file.PixelData = numpy.full((len(SLOPES), 4, 4), 100, numpy.uint16).tobytes()
file.save_as(sys.argv[1], enforce_file_format=True)

itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(sys.argv[1]))[:, 0, 0].tolist()
back = pydicom.dcmread(sys.argv[1])
plain = apply_rescale(back.pixel_array, back)[:, 0, 0].tolist()
print(f"SimpleITK {SimpleITK.Version_VersionString()}, pydicom {pydicom.__version__}")
print(f"three frames of 100, slopes {SLOPES}: measured {[100 * slope for slope in SLOPES]}, ITK {itk}, apply_rescale {plain}")
assert itk == [200, 200, 200] and plain == [100, 100, 100], "this has changed"
print("So frames that differ by a factor of four come out alike.")
PY
