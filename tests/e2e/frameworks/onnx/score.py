from pathlib import Path

import numpy as np
import onnxruntime


def load_model():
    return onnxruntime.InferenceSession(str(Path(__file__).with_name("model.onnx")))


def predict(data, model=load_model()):
    name = model.get_inputs()[0].name
    _, probabilities = model.run(None, {name: np.asarray(data["rows"], dtype=np.float32)})
    return {"prediction": probabilities[:, 1]}
