#!/bin/sh
# pydicom looks up a VOI LUT of 8-bit entries modulo 256: of a table with 4096 entries only the first 256 are reached.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6
"$home/env/bin/python" - <<'PY'
import numpy, pydicom
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi
from pydicom.sequence import Sequence

entries = (numpy.arange(4096) // 16).tolist()
item = Dataset()
item.LUTDescriptor, item.LUTData = [4096, 0, 8], entries
item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
file = Dataset()
file.VOILUTSequence = Sequence([item])
values = numpy.array([0, 255, 256, 2000, 4095], numpy.uint16)
seen = apply_voi(values, file).tolist()
wanted = [entries[value] for value in values]
print(f"pydicom {pydicom.__version__}, numpy {numpy.__version__}")
print(f"values {values.tolist()}, table value // 16: by PS3.3 C.11.1.1 {wanted}, apply_voi gives {seen}")
assert seen != wanted and seen == [entries[value % 256] for value in values], "this has changed"
print("So 256 and everything above takes the entry of its lower eight bits: a picture full of contour lines.")
PY
