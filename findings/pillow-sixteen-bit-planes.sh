#!/bin/sh
# Pillow reads an uncompressed 16-bit RGB TIFF that is stored plane by plane as if it had 8 bits: noise, without a word.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$home/env/bin/python" - "$home/a.tif" <<'PY'
import sys
import numpy, PIL, tifffile
from PIL import Image

values = (numpy.arange(3 * 40 * 50).reshape(3, 40, 50) * 10 % 65536).astype(numpy.uint16)
tifffile.imwrite(sys.argv[1], values, photometric="rgb", planarconfig="separate")
seen = numpy.asarray(Image.open(sys.argv[1]))
right = numpy.moveaxis(tifffile.imread(sys.argv[1]), 0, 2) >> 8
print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}")
print(f"mode and size {Image.open(sys.argv[1]).mode} {seen.shape}; pixels that are right: {(seen == right).all(2).mean():.1%}")
assert seen.shape == right.shape and (seen == right).all(2).mean() < 0.1, "this has changed"
print("So every plane is filled from the first half of its bytes, low and high ones in turn.")
PY
