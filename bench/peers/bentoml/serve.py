"""BentoML: a service with two workers."""

import os
from pathlib import Path

import asked
import bentoml


@bentoml.service(workers=asked.WORKERS, traffic={"timeout": 60}, metrics={"enabled": False})
class Bench:
    def __init__(self):
        self.model = asked.load()

    @bentoml.api
    def predict(self, data: list[list[float]]) -> dict:
        return {"prediction": self.model(data)}


if __name__ == "__main__":
    os.environ["BENTOML_HOME"] = str(asked.SCRATCH / "bentoml")
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.chdir(Path(__file__).parent)
    words = ["serve", "serve:Bench", "--host", "127.0.0.1", "--port", str(asked.PORT)]
    os.execvp("bentoml", ["bentoml", *words])
