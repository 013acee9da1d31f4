"""MLServer with a model of its own kind and two parallel workers."""

import json
import os
from pathlib import Path

import asked
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Bench(MLModel):
    async def load(self):
        self.model = asked.load()
        return True

    async def predict(self, payload):
        import numpy

        rows = NumpyCodec.decode_input(payload.inputs[0])
        answer = numpy.asarray(self.model(rows.tolist()), dtype=numpy.float64)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("out", answer)]
        )


if __name__ == "__main__":
    folder = asked.SCRATCH / "mlserver"
    (folder / "bench").mkdir(parents=True, exist_ok=True)
    settings = {
        "host": "127.0.0.1",
        "http_port": asked.PORT,
        "grpc_port": asked.another_port(),
        "metrics_endpoint": None,
        "parallel_workers": asked.WORKERS,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "bench", "implementation": "serve.Bench"}
    (folder / "bench" / "model-settings.json").write_text(json.dumps(model))
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = here + os.pathsep + os.environ["PYTHONPATH"]
    os.execvp("mlserver", ["mlserver", "start", str(folder)])
