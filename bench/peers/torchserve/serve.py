"""TorchServe: an archive with a handler, two workers, no batching, no metrics log."""

import os
import subprocess
from pathlib import Path

import asked

CONFIGURATION = """
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
default_workers_per_model={workers}
disable_token_authorization=true
enable_envvars_config=false
"""

if __name__ == "__main__":
    store = asked.SCRATCH / "store"
    store.mkdir(exist_ok=True)
    handler = str(Path(__file__).with_name("handler.py"))
    archive = ["torch-model-archiver", "--model-name", "bench", "--version", "1", "--force"]
    subprocess.run([*archive, "--handler", handler, "--export-path", str(store)], check=True)
    configuration = asked.SCRATCH / "config.properties"
    ports = {
        "port": asked.PORT,
        "management": asked.another_port(),
        "metrics": asked.another_port(),
    }
    configuration.write_text(CONFIGURATION.format(workers=asked.WORKERS, **ports))
    words = ["--start", "--foreground", "--ncs", "--model-store", str(store)]
    words += ["--models", "bench=bench.mar", "--ts-config", str(configuration)]
    os.environ["LOG_LOCATION"] = os.environ["METRICS_LOCATION"] = str(asked.SCRATCH / "logs")
    os.execvp("torchserve", ["torchserve", *words])
