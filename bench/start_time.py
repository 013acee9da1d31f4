"""How long a deployment takes to start: from its creation to ACTIVE, with a warm environment.

    make bench-start
    python bench/start_time.py --artifact DIR --requirements FILE --repeats 10

Starts a server of its own, deploys once to warm everything up (environment, unpacked artifact),
then creates, measures and deletes one deployment after another. "answers" is when the first
prediction succeeds. The model's own time, importing its packages and loading, is part of it all.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from havre.cli.connection import connect
from havre.cli.deployments import configure
from havre.client import Client
from havre.home import Home
from havre.packing import pack

HAVRE = Path(sys.executable).with_name("havre")
SLUG = "bench"
POLL_S = 0.002
OCPUS_OF_FOUR_COPIES = 2
SMALLEST = """
def load_model():
    return 2

def predict(data, model=load_model()):
    return {"prediction": [model * number for number in data]}
"""


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as scratch:
        home = Home(Path(scratch) / "home")
        artifact = options.artifact or smallest(Path(scratch))
        requirements = options.requirements or empty(Path(scratch))
        with server(home, requirements, options.python) as client:
            model_id = save(client, artifact, Path(scratch) / "artifact.zip")
            start(client, model_id, options.body)  # warms up
            times = [start(client, model_id, options.body) for _ in range(options.repeats)]
    columns = list(zip(*times, strict=True))
    for name, column in zip(("accepted", "ACTIVE", "answers"), columns, strict=True):
        low, high = min(column), max(column)
        print(f"{name:<9} median {statistics.median(column):6.3f} s   {low:.3f} to {high:.3f}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--artifact", type=Path, help="a folder with score.py [a tiny model]")
    parser.add_argument("--requirements", type=Path, help="what its environment holds [nothing]")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    parser.add_argument("--body", default="[1, 2]", help="a request it answers [%(default)s]")
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


@contextmanager
def server(home: Home, requirements: Path, python: str) -> Iterator[Client]:
    command(
        "env", "publish", SLUG, "--requirements", str(requirements), "--python", python, home=home
    )
    (home.root / "havre.toml").write_text(f'default_environment = "{SLUG}"\n')
    command("up", "--port", "0", "--detach", home=home)
    try:
        yield connect(home)
    finally:
        command("down", home=home)


def command(*words: str, home: Home) -> None:
    subprocess.run([HAVRE, *words, "--home", str(home.root)], check=True, capture_output=True)


def start(client: Client, model_id: str, body: str) -> tuple[float, float, float]:
    """Seconds from the call to its 202, to ACTIVE, and to the first answer."""
    configuration = configure(ocpus=OCPUS_OF_FOUR_COPIES)
    configuration["modelConfigurationDetails"]["modelId"] = model_id
    began = time.perf_counter()
    deployment, _ = client.create_deployment("bench", configuration)
    accepted = time.perf_counter() - began
    while (state := client.deployment(deployment["id"])["lifecycleState"]) == "CREATING":
        time.sleep(POLL_S)
    active = time.perf_counter() - began
    if state != "ACTIVE":
        raise SystemExit(json.dumps(client.deployment(deployment["id"]), indent=1))
    answer = httpx.post(
        f"{deployment['modelDeploymentUrl']}/predict",
        content=body,
        headers={"content-type": "application/json"},
        trust_env=False,
    )
    answers = time.perf_counter() - began
    answer.raise_for_status()
    for _ in client.follow(client.delete_deployment(deployment["id"])):
        pass
    return accepted, active, answers


def save(client: Client, artifact: Path, archive: Path) -> str:
    pack(artifact, archive)
    model_id: str = client.create_model("bench")["id"]
    client.upload_artifact(model_id, archive)
    return model_id


def smallest(scratch: Path) -> Path:
    folder = scratch / "artifact"
    folder.mkdir()
    (folder / "score.py").write_text(SMALLEST)
    return folder


def empty(scratch: Path) -> Path:
    (scratch / "requirements.txt").touch()
    return scratch / "requirements.txt"


if __name__ == "__main__":
    main()
