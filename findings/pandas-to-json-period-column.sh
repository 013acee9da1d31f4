#!/usr/bin/env bash
# pandas writes a PeriodIndex as labels ("2026-01") in DataFrame.to_json(), but cannot write a
# column of the same periods: OverflowError, "Maximum recursion level reached". With 2.3.3 and 3.0.0
# alike, while Interval, in a column, becomes an object of eleven fields. A service that falls back
# on to_json() for what its own encoder does not know fails on the first and surprises on the second.
# havre writes both as text, as str() does (havre_copy/plain.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2.3.3 3.0.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "pandas==$version"
    "$folder/$version/bin/python" - <<'PYTHON'
import sys
import pandas as pd

periods = pd.period_range("2026-01", periods=2, freq="M")
label = pd.DataFrame({"v": [1, 2]}, index=periods).to_json()
try:
    column = pd.DataFrame({"p": periods}).to_json()
except Exception as error:
    column = f"{type(error).__name__}: {error}"
print(pd.__version__, "index:", label, "column:", column)
if label != '{"v":{"2026-01":1,"2026-02":2}}' or "Maximum recursion level" not in column:
    sys.exit("this has changed")
PYTHON
done
