"""As for scikit-learn."""

import json
import sys
from pathlib import Path

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
model = xgboost.XGBClassifier(n_estimators=40, random_state=0).fit(x_train, y_train)
model.save_model(Path(sys.argv[1]) / "model.json")
print(json.dumps({"rows": x_test.tolist(), "expected": model.predict_proba(x_test)[:, 1].tolist()}))
