"""`havre quickstart`: from nothing to a real model that serves, step by step.

It does nothing that the API and the other commands cannot do; each step is one that a user would
take.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from havre.cli import output
from havre.cli.configuration import DeployOptions
from havre.cli.home_option import HomeOption, home_of
from havre.cli.save_and_deploy import save_and_deploy
from havre.client import Client
from havre.domain.errors import ModelFault
from havre.domain.manifest import RuntimeManifest
from havre.environments import Environments
from havre.environments.definition import BuiltEnvironment
from havre.home import Home
from havre.operate.connection import connect
from havre.operate.start import bring_up
from havre.quickstart import TRAIN
from havre.settings import load_settings

NAME = "quickstart"


def register(app: typer.Typer) -> None:
    app.command()(quickstart)


def quickstart(
    home: HomeOption = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the server, if it is not running yet.")
    ] = None,
) -> None:
    """Start the server, train a small model, deploy it, and predict rows that it has not seen.

    Leaves the server running (`havre down` stops it). A second run reuses what exists.
    """
    console = Console(highlight=False)
    began = time.monotonic()
    resolved_home = home_of(home)
    with output.progress("starting the server") as step:
        server = bring_up(resolved_home, {"port": port}, progress=step, notice=output.note)
    output.print_text(str(server))
    client = connect(resolved_home)
    environment = _environment(resolved_home, console)
    folder = resolved_home.root / NAME
    if not (folder / "held_out.json").exists() or not _is_trained_for(folder, environment):
        _train(folder, environment, console)
    deployment = _deployed(client, folder, console)
    rows, labels = _held_out(folder)
    predictions = _predict(client, deployment["id"], rows)
    right = sum(prediction == label for prediction, label in zip(predictions, labels, strict=True))
    console.print(
        f"\npredicted {len(rows)} rows that the model had not seen: {right} right, "
        f"accuracy {right / len(rows):.3f}",
        style="bold",
    )
    for prediction, label in list(zip(predictions, labels, strict=True))[:3]:
        console.print(f"  predicted {prediction:10} truth {label}")
    _print_next_steps(resolved_home, client, deployment, folder, console)
    console.print(f"done in {time.monotonic() - began:.1f} s", style="dim")


def _environment(home: Home, console: Console) -> BuiltEnvironment:
    environments = Environments(home, load_settings(home.root))
    console.print("the inference environment", style="bold")
    with console.status("resolving"):
        resolution = environments.resolve(RuntimeManifest(), home.root)
        for message in resolution.messages:
            console.print(f"  {message}", soft_wrap=True)
        built = environments.ensure(
            resolution, lambda message: console.print(f"  {message}", soft_wrap=True)
        )
    console.print(f"  {built.slug} (Python {built.python_version}) is ready")
    return built


def _train(folder: Path, environment: BuiltEnvironment, console: Console) -> None:
    """Into a temporary folder that is renamed: an interrupted run leaves nothing half-trained."""
    console.print("a model", style="bold")
    aside = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=folder.parent))
    with console.status("training"):
        result = subprocess.run(
            [str(environment.interpreter), str(TRAIN), str(aside), "--slug", environment.slug],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
    if result.returncode:
        shutil.rmtree(aside)
        raise ModelFault(f"training failed: {result.stderr.strip().splitlines()[-1]}")
    (aside / "environment").write_text(environment.digest)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    summary = json.loads(result.stdout)
    console.print(
        "  trained on 455 samples of breast tumours (Wisconsin); "
        f"{summary['held_out']} are held out, on which it is right in {summary['accuracy']:.1%}"
    )


def _is_trained_for(folder: Path, environment: BuiltEnvironment) -> bool:
    stated = folder / "environment"
    return stated.exists() and stated.read_text() == environment.digest


def _deployed(client: Client, folder: Path, console: Console) -> dict[str, Any]:
    console.print("the deployment", style="bold")
    for row in client.deployments(displayName=NAME, lifecycleState="ACTIVE"):
        console.print("  it is already ACTIVE")
        return row
    return save_and_deploy(client, folder / "artifact", NAME, DeployOptions(), console)


def _held_out(folder: Path) -> tuple[list[Any], list[str]]:
    held_out = json.loads((folder / "held_out.json").read_text())
    return held_out["rows"], held_out["labels"]


def _predict(client: Client, deployment_id: str, rows: list[Any]) -> list[str]:
    response = client.predict(deployment_id, json.dumps(rows).encode(), "application/json")
    predictions: list[str] = json.loads(response)["prediction"]
    return predictions


def _print_next_steps(
    home: Home, client: Client, deployment: dict[str, Any], folder: Path, console: Console
) -> None:
    sample = folder / "artifact" / "test_input.json"
    havre = "havre" if shutil.which("havre") else sys.argv[0]
    url = deployment["modelDeploymentUrl"]
    at = "" if home.root == home_of(None).root else f" --home {home.root}"
    lines = [
        ("the API is at", client.url),
        (
            "send a request yourself",
            f"curl -s {url}/predict -H 'content-type: application/json' -d @{sample}",
        ),
        ("", f"{havre} predict {NAME} @{sample}{at}"),
        ("with OCI's own tools", f"{havre} oci-config --output oci.config{at}"),
        (
            "",
            f"oci --config-file oci.config --profile HAVRE --endpoint {client.url} "
            f"data-science model-deployment get --model-deployment-id {deployment['id']}",
        ),
        ("stop the server", f"{havre} down{at}"),
    ]
    for title, line in lines:
        if title:
            console.print(f"\n{title}", style="bold")
        console.print(f"  {line}", soft_wrap=True, markup=False)
