#!/bin/sh
# ITK reads NaN voxels of a NIfTI volume as 0, without a word; nibabel keeps them. A window from the least value differs.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check SimpleITK==2.5.7 nibabel==5.4.2 numpy==2.4.6
"$home/env/bin/python" - "$home/v.nii" <<'PY'
import sys
import nibabel, numpy, SimpleITK

values = numpy.full((4, 4, 4), 500, numpy.float32)
values[0], values[3] = numpy.nan, 900
nibabel.save(nibabel.Nifti1Image(values, numpy.eye(4)), sys.argv[1])
theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(sys.argv[1]))
ours = nibabel.load(sys.argv[1]).get_fdata()
print(f"SimpleITK {SimpleITK.Version_VersionString()}, nibabel {nibabel.__version__}")
print(f"least value: ITK {theirs.min():g}, nibabel {numpy.nanmin(ours):g}; NaN voxels: ITK {int(numpy.isnan(theirs).sum())}, "
      f"nibabel {int(numpy.isnan(ours).sum())}")
assert theirs.min() == 0 and not numpy.isnan(theirs).any() and numpy.isnan(ours).sum() == 16, "this has changed"
print("So a mask of what lies outside the body is lost, and 0 joins the values of the picture.")
PY
