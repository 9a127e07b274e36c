#!/bin/sh
# lmms-eval scores Chinese SLAKE answers after turning "normal" into yes and "abnormal" into no, whatever the question: asked
# whether anything is abnormal, a model that says "normal" is right where the reference says yes, and "abnormal" is wrong.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 loguru==0.7.3 pillow==13.0.0
"$home/env/bin/pip" install --quiet --disable-pip-version-check --no-deps lmms-eval==0.7.3
"$home/env/bin/python" - <<'PY'
import importlib.util
from importlib.metadata import distribution

package = distribution("lmms-eval")  # its scoring of SLAKE alone: the whole package would need torch
spec = importlib.util.spec_from_file_location("scoring", package.locate_file("lmms_eval/tasks/slake/utils.py"))
scoring = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scoring)

print(f"lmms-eval {package.version}")
row = {"q_lang": "zh", "question": "图像中有异常吗?", "answer": "有", "answer_type": "CLOSED"}  # Is anything abnormal? Yes.
right = {}
for said, meaning in (("有", "yes"), ("没有", "no"), ("正常", "normal"), ("异常", "abnormal")):
    right[meaning] = scoring.slake_process_results(row, [said])["slake_accuracy"]["is_correct"]
    print(f"Is anything abnormal in the image? Reference yes; answer {meaning}: {'right' if right[meaning] else 'wrong'}")
assert right == {"yes": True, "no": False, "normal": True, "abnormal": False}, "this has changed"
print("So an answer and its opposite change places.")
PY
