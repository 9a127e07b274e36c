#!/bin/sh
# transformers cuts a wide image for Ovis2 into a tall layout of tiles, and a tall one into a wide one.
#
# Its grids are searched as (rows, columns) and unpacked as (columns, rows): an image of 1152 x 384, which three tiles of
# 384 side by side show undistorted, is squeezed to 384 x 1152 and cut into three tiles above each other. Seen with
# transformers 5.23.0: "grid [3, 1] for an image of 1152 x 384".
#
# For whoever measures Ovis2: token rows and columns are right only when they are measured or follow the processor, since
# the image's own shape says the opposite. Exits 1 when the library no longer does this.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet transformers==5.23.0 numpy==2.4.6 pillow==13.0.0
"$place/venv/bin/python" - <<'END'
import sys

import numpy
import transformers
from PIL import Image
from transformers.models.ovis2.image_processing_pil_ovis2 import Ovis2ImageProcessorPil

print("transformers", transformers.__version__, "numpy", numpy.__version__)
processor = Ovis2ImageProcessorPil(size={"height": 384, "width": 384}, crop_to_patches=True, max_patches=9)
swapped = True
for width, height in ((1152, 384), (384, 1152)):
    pixels = numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    out = processor(Image.fromarray(pixels), return_tensors="np")
    rows, columns = (int(side) for side in out["grids"][0])
    print(f"grid [{rows}, {columns}] for an image of {width} x {height} (rows, columns)", flush=True)
    swapped &= (rows > columns) == (width > height)
print("wide images become tall layouts" if swapped else "layouts follow the image now")
sys.exit(not swapped)
END
