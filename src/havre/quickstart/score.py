"""Score tumour measurements: is a sample malignant or benign?

This file is the contract between a model and the service. Copy it and change what is yours:

- ``load_model()`` reads the model, with paths relative to this file. It is called once, before any
  request; all copies share what it returns.
- ``predict(data, model=load_model())`` answers one request. ``data`` is the parsed JSON of the
  request's body; what it returns is sent back as JSON.
"""

import json
from functools import lru_cache
from pathlib import Path

import joblib
import pandas as pd

FOLDER = Path(__file__).resolve().parent


@lru_cache(maxsize=1)
def load_model(model_file_name="model.joblib"):
    """The trained pipeline. Cached, so that importing this file twice loads it once."""
    return joblib.load(str(FOLDER / model_file_name))


@lru_cache(maxsize=1)
def columns():
    """The names of the measurements, in the order that the model was trained with."""
    schema = json.loads((FOLDER / "input_schema.json").read_text(encoding="utf-8"))
    return [column["name"] for column in sorted(schema["schema"], key=lambda row: row["order"])]


def pre_inference(data):
    """Rows of ``{measurement: value}`` (one alone is fine too) as the frame the model expects."""
    frame = pd.DataFrame([data] if isinstance(data, dict) else data)
    missing = [name for name in columns() if name not in frame.columns]
    if missing:
        raise ValueError("missing measurements: " + ", ".join(missing))
    return frame[columns()].astype(float)


def post_inference(model, probabilities):
    """Plain lists and texts: NumPy's own numbers are not JSON."""
    labels = [str(model.classes_[row.argmax()]) for row in probabilities]
    return {"prediction": labels, "probability": probabilities.max(axis=1).round(4).tolist()}


def predict(data, model=load_model()):
    """``{"prediction": [label, …], "probability": [0.5 … 1, …]}``, one of each per row."""
    return post_inference(model, model.predict_proba(pre_inference(data)))
