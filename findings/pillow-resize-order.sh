#!/bin/sh
# Pillow 13 resizes some images columns first: other pixels than every version before it, which vision models were trained
# with. Rows first and columns then, in two calls, gives the old pixels in either.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
cat >"$home/resize.py" <<'PY'
import sys
import numpy, PIL
from PIL import Image

values = numpy.random.default_rng(0).integers(0, 256, (768, 512, 3), dtype=numpy.uint8)
image, cubic = Image.fromarray(values), Image.Resampling.BICUBIC
whole = numpy.asarray(image.resize((336, 336), cubic))
rows_first = numpy.asarray(image.resize((336, 768), cubic).resize((336, 336), cubic))
print(f"Pillow {PIL.__version__}: one call equals rows first, then columns: {(whole == rows_first).all()}")
numpy.savez(sys.argv[1], whole=whole, rows_first=rows_first)
PY
for version in 12.2.0 13.0.0; do
    python3 -m venv "$home/$version"
    "$home/$version/bin/pip" install --quiet --disable-pip-version-check pillow==$version numpy==2.4.6
    "$home/$version/bin/python" "$home/resize.py" "$home/$version.npz"
done
"$home/13.0.0/bin/python" - "$home/12.2.0.npz" "$home/13.0.0.npz" <<'PY'
import sys
import numpy

old, new = map(numpy.load, sys.argv[1:])
apart = numpy.abs(old["whole"].astype(int) - new["whole"])
print(f"512 x 768 noise to 336 x 336, bicubic: {(apart > 0).mean():.1%} of the values differ, by {apart.max()} of 255 at most")
assert apart.max() > 0 and (old["rows_first"] == new["rows_first"]).all(), "this has changed"
print("So the same file and the same processor give a model other pixels, by the version of Pillow.")
PY
