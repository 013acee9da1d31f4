"""`mlflow models serve` with a Python model and two workers."""

import os

import asked
import mlflow
import mlflow.pyfunc


class Bench(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.model = asked.load()

    def predict(self, context, model_input, params=None):
        rows = model_input.tolist() if hasattr(model_input, "tolist") else model_input
        return self.model(rows)


if __name__ == "__main__":
    folder = asked.SCRATCH / "model"
    if not folder.exists():
        mlflow.pyfunc.save_model(
            str(folder), python_model=Bench(), pip_requirements=["scikit-learn"]
        )
    words = ["models", "serve", "--model-uri", str(folder), "--env-manager", "local"]
    words += ["--host", "127.0.0.1", "--port", str(asked.PORT), "--workers", str(asked.WORKERS)]
    os.execvp("mlflow", ["mlflow", *words])
