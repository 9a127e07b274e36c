#!/bin/sh
# statsmodels' McNemar test with its continuity correction finds a difference between two methods that are exactly level:
# (|b - c| - 1)^2 / (b + c) is 1 / (b + c) where b = c. R's mcnemar.test leaves the correction out there, and p is 1.
set -eu
home=$(mktemp -d); trap 'rm -rf "$home"' EXIT
python3 -m venv "$home/env"
"$home/env/bin/pip" install --quiet --disable-pip-version-check statsmodels==0.15.0 numpy==2.4.6
"$home/env/bin/python" - <<'PY'
import numpy, statsmodels
from statsmodels.stats.contingency_tables import mcnemar

print(f"statsmodels {statsmodels.__version__}, numpy {numpy.__version__}")
got = []
for fixed, broken in ((1, 1), (2, 2), (1, 2)):
    table = [[50, broken], [fixed, 30]]
    exact, corrected = mcnemar(table, exact=True).pvalue, mcnemar(table, exact=False, correction=True).pvalue
    got.append((round(float(exact), 3), round(float(corrected), 3)))
    print(f"{fixed} fixed, {broken} broken: exact p {exact:.3f}, p with the continuity correction {corrected:.3f}")
assert got == [(1.0, 0.48), (1.0, 0.617), (1.0, 1.0)], "this has changed"
print("So a tie looks further apart than a gain of one row: p 0.480 for 1 and 1, 1.000 for 1 and 2.")
PY
