from pathlib import Path

import joblib


def load_model():
    return joblib.load(Path(__file__).with_name("model.joblib"))


def predict(data, model=load_model()):
    return {"prediction": model.predict_proba(data["rows"])[:, 1]}
