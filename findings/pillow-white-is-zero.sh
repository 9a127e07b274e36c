#!/bin/sh
# Pillow turns a TIFF whose least value is white (photometric 0) round at 8 bits, and leaves it a negative at 16.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$home/env/bin/python" - "$home/a.tif" <<'PY'
import sys
import numpy, PIL, tifffile
from PIL import Image

print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}")
seen = {}
for kind in (numpy.uint8, numpy.uint16):
    values, most = numpy.array([[0, 10, 200]], kind), numpy.iinfo(kind).max
    tifffile.imwrite(sys.argv[1], values, photometric="miniswhite")
    image = Image.open(sys.argv[1])
    seen[kind] = numpy.asarray(image)[0].tolist()
    print(f"{numpy.dtype(kind).name}, white is 0, stored {values[0].tolist()}: mode {image.mode}, {seen[kind]}; "
          f"black is 0: {(most - values[0]).tolist()}; tifffile {tifffile.imread(sys.argv[1])[0].tolist()}")
assert seen == {numpy.uint8: [255, 245, 55], numpy.uint16: [0, 10, 200]}, "this has changed"
print("So of one radiograph the copy of 8 bits is shown right and the one of 16 bits as its negative.")
PY
