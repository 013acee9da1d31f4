"""Train the models that every server gets, and write down what they answer.

    python train.py FOLDER

Runs in the benchmark's own environment. Writes NAME.pkl and samples.json: for each workload a list
of rows to send and of what the model answers to them.
"""

import json
import pickle
import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROWS_OF_WIDE = 256
WIDE_SAMPLES = 16


def main() -> None:
    folder = Path(sys.argv[1])
    iris_rows, iris_kinds = load_iris(return_X_y=True)
    iris = LogisticRegression(max_iter=1000).fit(iris_rows, iris_kinds)
    cancer_rows, cancer_kinds = load_breast_cancer(return_X_y=True)
    wide = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    wide.fit(cancer_rows, cancer_kinds)
    for name, model in (("iris", iris), ("wide", wide)):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(model, protocol=4))
    windows = [
        cancer_rows[start : start + ROWS_OF_WIDE].tolist()
        for start in range(0, WIDE_SAMPLES * 19, 19)
    ]
    samples = {
        "iris": [sample(iris, [row]) for row in iris_rows[::3].tolist()],
        "wide": [sample(wide, rows) for rows in windows],
    }
    (folder / "samples.json").write_text(json.dumps(samples))


def sample(model: LogisticRegression, rows: list[list[float]]) -> dict[str, list[object]]:
    return {"rows": rows, "prediction": model.predict(rows).tolist()}


if __name__ == "__main__":
    main()
