"""havre, complete: `havre up`, `havre deploy`, as a user types them.

One thing is set, `--bandwidth`: the most there is. The default of 10 Mbps is less than what is
measured.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import asked
import predictors

HAVRE = os.environ["BENCH_HAVRE"]
NAME, SLUG = "bench", "bench"
MBPS = "8000"
SCORE = """
from pathlib import Path

from predictors import predictor


def load_model():
    return predictor({workload!r}, Path(__file__).parent)


def predict(data, model=load_model()):
    return {{"prediction": model(data["data"])}}
"""


def main():
    home = asked.SCRATCH / "home"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(home)
    finally:
        run(home, "down")


def serve(home):
    is_new = not home.exists()
    if is_new:
        run(home, "env", "publish", SLUG, "--prefix", sys.prefix)
        (home / "havre.toml").write_text(f'default_environment = "{SLUG}"\n')
    run(home, "up", "--port", str(asked.PORT), "--detach")
    if is_new:
        batches = [] if asked.BATCH == 1 else ["--env", f"MODEL_BATCH_SIZE={asked.BATCH}"]
        run(home, "deploy", str(artifact()), "--name", NAME, "--bandwidth", MBPS, *batches)
    listed = json.loads(run(home, "list", "--json"))
    url = urlsplit(next(one["modelDeploymentUrl"] for one in listed))
    address = asked.SCRATCH / "address.new"
    address.write_text(json.dumps([url.port, f"{url.path}/predict"]))
    address.rename(asked.SCRATCH / "address")
    signal.pause()


def run(home, *words):
    """Its output; what goes wrong is in the log."""
    done = subprocess.run([HAVRE, *words, "--home", str(home)], check=True, stdout=subprocess.PIPE)
    return done.stdout


def artifact():
    folder = Path(tempfile.mkdtemp(dir=asked.SCRATCH))
    (folder / "score.py").write_text(SCORE.format(workload=asked.WORKLOAD))
    shutil.copy(predictors.__file__, folder)
    if asked.BATCH > 1:
        (folder / "test_input.json").write_text(json.dumps({"data": sample()}))
    for model in asked.MODELS.glob("*.pkl"):
        shutil.copy(model, folder)
    return folder


def sample():
    """Rows on which batching is proved."""
    samples = json.loads((asked.MODELS / "samples.json").read_text())[asked.WORKLOAD]
    return [row for one in samples[::10] for row in one["rows"]]


if __name__ == "__main__":
    main()
