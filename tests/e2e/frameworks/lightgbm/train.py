"""As for scikit-learn."""

import json
import sys
from pathlib import Path

import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
model = lightgbm.train(
    {"objective": "binary", "seed": 0, "verbose": -1}, lightgbm.Dataset(x_train, y_train), 40
)
model.save_model(Path(sys.argv[1]) / "model.txt")
print(json.dumps({"rows": x_test.tolist(), "expected": model.predict(x_test).tolist()}))
