from pathlib import Path

import lightgbm


def load_model():
    return lightgbm.Booster(model_file=str(Path(__file__).with_name("model.txt")))


def predict(data, model=load_model()):
    return {"prediction": model.predict(data["rows"])}
