"""As for scikit-learn; expected is what the estimator says, not its ONNX graph."""

import json
import sys
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

x, y = load_breast_cancer(return_X_y=True)
x_train, x_test, y_train, _ = train_test_split(x, y, random_state=0)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x_train, y_train)
graph = to_onnx(model, np.zeros((1, x.shape[1]), np.float32), options={"zipmap": False})
(Path(sys.argv[1]) / "model.onnx").write_bytes(graph.SerializeToString())
print(json.dumps({"rows": x_test.tolist(), "expected": model.predict_proba(x_test)[:, 1].tolist()}))
