#!/bin/sh
# A NIfTI file that states no orientation (sform and qform code 0) has its front where ITK has its back: nibabel takes the
# voxel axes as left, front, head, ITK as left, back, head. A canonical slice, or a mask drawn with the other, is upside down.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.4.6
"$home/env/bin/python" - "$home/v.nii" <<'PY'
import sys
import nibabel, numpy, SimpleITK

letters = SimpleITK.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
print(f"SimpleITK {SimpleITK.Version_VersionString()}, nibabel {nibabel.__version__}")
seen = {}
for code in (1, 0):
    made = nibabel.Nifti1Image(numpy.zeros((4, 5, 6), numpy.int16), None)
    made.header.set_zooms((2, 2, 2))
    made.set_sform(numpy.diag([-2, 2, 2, 1]), code)
    made.set_qform(numpy.diag([-2, 2, 2, 1]), code)
    nibabel.save(made, sys.argv[1])
    theirs = letters(SimpleITK.ReadImage(sys.argv[1]).GetDirection())
    seen[code] = "".join(nibabel.aff2axcodes(nibabel.load(sys.argv[1]).affine)), theirs
    print(f"sform and qform code {code}: voxel axes go towards {seen[code][0]} (nibabel), {seen[code][1]} (ITK)")
assert seen == {1: ("LAS", "LAS"), 0: ("LAS", "LPS")}, "this has changed"
print("So without codes the two agree on left and head, and swap front and back.")
PY
