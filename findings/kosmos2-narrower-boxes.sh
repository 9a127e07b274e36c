#!/bin/sh
# transformers reads a Kosmos-2 box of one row or column of patches to the patches' outer edges, and any larger one only to
# the middle of its corner patches: a box that gains a row loses half a patch on each side.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 numpy==2.4.6 pillow==13.0.0
TRANSFORMERS_VERBOSITY=error "$home/env/bin/python" - <<'PY'
import transformers
from transformers.models.kosmos2.processing_kosmos2 import clean_text_and_extract_entities_with_bboxes

print(f"transformers {transformers.__version__}")
seen = {}
for rows in (1, 2):
    first, last = 0, 32 * (rows - 1) + 3  # patches of a grid of 32 x 32: columns 0 to 3
    answer = f"<phrase> nodule</phrase><object><patch_index_{first:04}><patch_index_{last:04}></object>"
    _, [(_, _, [box])] = clean_text_and_extract_entities_with_bboxes(answer)
    seen[rows] = [side * 32 for side in box]
    print(f"{rows} x 4 patches: box {seen[rows]} in patches (x0, y0, x1, y1)")
assert seen == {1: [0, 0, 4, 1], 2: [0.5, 0.5, 3.5, 1.5]}, "this has changed"
print("So the box of 4 patches covers 4 of them, that of 8 patches 3: its overlap with a drawn box is not comparable.")
PY
