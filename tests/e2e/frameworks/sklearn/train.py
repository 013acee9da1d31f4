"""Trains in the environment that will serve: ``python train.py FOLDER`` fills an artifact there.

Prints rows that were held out and what the estimator itself says of them.
"""

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
model = RandomForestClassifier(n_estimators=40, random_state=0, n_jobs=2).fit(x_train, y_train)
joblib.dump(model, Path(sys.argv[1]) / "model.joblib")
print(json.dumps({"rows": x_test.tolist(), "expected": model.predict_proba(x_test)[:, 1].tolist()}))
