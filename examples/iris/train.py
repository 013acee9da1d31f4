"""Fit the model of this folder: a logistic regression on Fisher's iris data, written as numbers.

    python train.py

Needs scikit-learn. The fitted coefficients go to model.json, so that serving needs NumPy alone and
the artifact works in any environment.
"""

import json
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

data = load_iris()
model = LogisticRegression(max_iter=1000).fit(data.data, data.target)
Path(__file__).with_name("model.json").write_text(
    json.dumps(
        {
            "species": [str(name) for name in data.target_names],
            "coefficients": model.coef_.round(6).tolist(),
            "intercepts": model.intercept_.round(6).tolist(),
            "accuracy": round(float(model.score(data.data, data.target)), 4),
        },
        indent=1,
    )
    + "\n"
)
