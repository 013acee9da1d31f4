#!/usr/bin/env bash
# XGBoost before 3.1 opens a model that 3.1 or newer has saved without an error or a warning, and
# predicts other numbers. The file says its version; nobody looks at it. 3.1 writes base_score as
# a list ("[5E-1]"), which earlier versions read as something else. Seen with JSON, UBJ and pickle
# alike, saved by 3.1.1 and read by 3.0.5, 2.1.4 and 1.7.6; tried here with the two next to each
# other. A fleet that trains with the newest and serves with a pinned release answers wrongly with
# 200. havre refuses such a model (havre_copy/versions.py) and names both versions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 3.1.1 3.0.5; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q --no-deps "xgboost==$version" "numpy<2.5" "scipy<1.18"
done
cat > "$folder/margins.py" <<'PYTHON'
import sys
import numpy as np
import xgboost as xgb

rows = np.random.default_rng(0).normal(size=(200, 3))
target = rows @ [1.0, 2.0, 3.0] + 7.0
if sys.argv[2] == "save":
    booster = xgb.train({"max_depth": 2}, xgb.DMatrix(rows, target), num_boost_round=3)
    booster.save_model(sys.argv[1])
else:
    booster = xgb.Booster()
    booster.load_model(sys.argv[1])
print(" ".join(f"{value:.4f}" for value in booster.predict(xgb.DMatrix(rows[:3]))))
PYTHON
right=$("$folder/3.1.1/bin/python" -W error "$folder/margins.py" "$folder/m.json" save)
wrong=$("$folder/3.0.5/bin/python" -W error "$folder/margins.py" "$folder/m.json" load)
echo "saved by 3.1.1, which predicts: $right"
echo "loaded by 3.0.5, no warning:    $wrong"
[ "$right" != "$wrong" ] || { echo "this has changed"; exit 1; }
