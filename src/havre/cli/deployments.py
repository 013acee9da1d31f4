"""`havre deploy`, `predict`, `list`, `cancel`, `delete`: the everyday path, through the API."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from havre.cli import output
from havre.cli.connection import HomeOption, connect, home_of
from havre.cli.output import JsonOption
from havre.client import Client
from havre.domain.errors import Conflict, InvalidParameter, ModelFault
from havre.packing import pack

Name = Annotated[str, typer.Argument(help="The deployment's display name or OCID.")]
STANDARD_SHAPE = "VM.Standard.E4.Flex"
UPDATABLE = frozenset({"ACTIVE", "INACTIVE", "NEEDS_ATTENTION"})


def register(app: typer.Typer) -> None:
    app.command()(deploy)
    app.command()(predict)
    app.command("list")(list_deployments)
    app.command()(delete)
    app.command()(cancel)


def deploy(
    folder: Annotated[Path, typer.Argument(help="The artifact: a folder with score.py in it.")],
    name: Annotated[str, typer.Option(help="Display name.", show_default="the folder's name")] = "",
    shape: Annotated[str, typer.Option(help="What one instance may use.")] = STANDARD_SHAPE,
    ocpus: Annotated[float, typer.Option(help="OCPUs of a flexible shape.")] = 1.0,
    memory: Annotated[float, typer.Option(help="GB of memory of a flexible shape.")] = 16.0,
    instances: Annotated[int, typer.Option(help="Number of instances.")] = 1,
    bandwidth: Annotated[int, typer.Option(help="Bandwidth of the load balancer, Mbps.")] = 10,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="NAME=VALUE for score.py; repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="NAME=VALUE, a freeform tag; repeatable. Replaces all others."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Save a folder to the catalog as a model and deploy it.

    A deployment of that name that exists is updated, without an interruption.
    """
    client = connect(home_of(home))
    configuration = configure(
        shape=shape,
        ocpus=ocpus,
        memory_gb=memory,
        instances=instances,
        bandwidth_mbps=bandwidth,
        variables=_pairs(env or [], "--env"),
    )
    tags = None if tag is None else _pairs(tag, "--tag")
    console = Console(highlight=False)
    deployment = save_and_deploy(
        client, folder, name or folder.resolve().name, configuration, console, tags=tags
    )
    console.print(f"\n{deployment['displayName']} answers at", style="bold")
    console.print(f"{deployment['modelDeploymentUrl']}/predict", soft_wrap=True)


def predict(
    name: Name,
    data: Annotated[
        str, typer.Argument(help="The body: text, @FILE, or - for standard input.")
    ] = "-",
    content_type: Annotated[
        str, typer.Option(help="application/octet-stream hands score.py the bytes.")
    ] = "application/json",
    home: HomeOption = None,
) -> None:
    """Send a request to a deployment and print its answer."""
    client = connect(home_of(home))
    answer = client.predict(client.find_deployment(name)["id"], _body(data), content_type)
    sys.stdout.buffer.write(answer)
    if answer and not answer.endswith(b"\n") and sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")


def list_deployments(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the deployments."""
    rows = connect(home_of(home)).deployments()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = [
        (
            row["displayName"],
            row["lifecycleState"],
            str((row.get("modelDeploymentSystemData") or {}).get("currentInstanceCount", 0)),
            row["modelDeploymentUrl"],
        )
        for row in rows
    ]
    output.print_table(("name", "state", "instances", "url"), table, fold=False)


def delete(
    name: Name,
    home: HomeOption = None,
    model: Annotated[bool, typer.Option(help="Delete its model from the catalog too.")] = False,
) -> None:
    """Delete a deployment; requests in flight are finished first."""
    client = connect(home_of(home))
    deployment = client.find_deployment(name)
    console = Console(highlight=False)
    follow(client, client.delete_deployment(deployment["id"]), console)
    if model:
        client.delete_model(model_of(deployment))


def cancel(name: Name, home: HomeOption = None) -> None:
    """Call off the change under way of a deployment: what served before serves on."""
    client = connect(home_of(home))
    deployment = client.find_deployment(name)
    under_way = client.change_under_way(deployment["id"])
    if under_way is None:
        raise Conflict(f"no change of {deployment['displayName']} is under way")
    client.cancel(under_way["id"])
    console = Console(highlight=False)
    request, _ = _show(client, under_way["id"], console)
    if request["status"] != "CANCELED":
        raise Conflict("the change had ended before it could be called off")
    state = client.deployment(deployment["id"])["lifecycleState"]
    console.print(f"{deployment['displayName']} is {state}")


def configure(
    *,
    shape: str = STANDARD_SHAPE,
    ocpus: float = 1.0,
    memory_gb: float = 16.0,
    instances: int = 1,
    bandwidth_mbps: int = 10,
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A deployment's configuration as the API takes it, all but the model's id."""
    instance: dict[str, Any] = {"instanceShapeName": shape}
    if shape.endswith(".Flex"):
        instance["modelDeploymentInstanceShapeConfigDetails"] = {
            "ocpus": ocpus,
            "memoryInGBs": memory_gb,
        }
    return {
        "deploymentType": "SINGLE_MODEL",
        "modelConfigurationDetails": {
            "instanceConfiguration": instance,
            "scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": instances},
            "bandwidthMbps": bandwidth_mbps,
        },
        "environmentConfigurationDetails": {
            "environmentConfigurationType": "DEFAULT",
            "environmentVariables": variables or {},
        },
    }


def save_and_deploy(
    client: Client,
    folder: Path,
    name: str,
    configuration: dict[str, Any],
    console: Console,
    *,
    tags: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Pack, save and deploy a folder, telling each step; the deployment when it is ACTIVE.

    ``tags`` None: those that an existing deployment has stay.

    Raises ModelFault when it does not become ACTIVE: what is there tells why, until it is deleted
    or deployed again. The model is taken back when the deployment is refused from the start.
    """
    with tempfile.TemporaryDirectory(prefix="havre-") as scratch:
        archive = Path(scratch, "artifact.zip")
        count = pack(folder, archive)
        size = archive.stat().st_size
        console.print(f"saving {folder} to the catalog: {count} files, {size:,} bytes zipped")
        existing = _existing(client, name, console)
        model = client.create_model(name)
        try:
            with Progress(
                TextColumn("  uploading"),
                BarColumn(),
                DownloadColumn(),
                console=console,
                transient=True,
            ) as bar:
                task = bar.add_task("upload", total=size)
                client.upload_artifact(model["id"], archive, lambda sent: bar.advance(task, sent))
            configuration["modelConfigurationDetails"]["modelId"] = model["id"]
            if existing:
                console.print(f"updating the deployment {name}")
                deployment_id = existing[0]["id"]
                work_request = client.update_deployment(deployment_id, configuration, tags)
            else:
                console.print(f"deploying {name}")
                deployment, work_request = client.create_deployment(name, configuration, tags)
                deployment_id = deployment["id"]
        except BaseException:
            client.delete_model(model["id"])
            raise
    follow(client, work_request, console)
    return client.deployment(deployment_id)


def follow(client: Client, work_request_id: str, console: Console) -> None:
    """Show a work request's log as it grows. Raises ModelFault with its last line if it failed."""
    request, last = _show(client, work_request_id, console)
    if request["status"] != "SUCCEEDED":
        raise ModelFault(f"{request['operationType']} {request['status']}: {last}")


def _show(client: Client, work_request_id: str, console: Console) -> tuple[dict[str, Any], str]:
    """The finished work request and its last line."""
    with console.status("") as status:
        last = ""
        for request, lines in client.follow(work_request_id):
            for line in lines:
                console.print(f"  {line}", soft_wrap=True, markup=False)
                last = line
            status.update(f"{request['status'].lower()}, {request['percentComplete']:.0f} %")
    return request, last


def model_of(deployment: dict[str, Any]) -> str:
    details = deployment["modelDeploymentConfigurationDetails"]
    model_id: str = details["modelConfigurationDetails"]["modelId"]
    return model_id


def _existing(client: Client, name: str, console: Console) -> list[dict[str, Any]]:
    """Those of this name that can be updated; failed ones, which serve nobody, are removed."""
    rows = client.deployments(displayName=name)
    for row in rows:
        if row["lifecycleState"] == "FAILED":
            console.print(f"removing the failed deployment {row['id']}", soft_wrap=True)
            client.delete_deployment(row["id"])
    return [row for row in rows if row["lifecycleState"] in UPDATABLE]


def _pairs(pairs: list[str], option: str) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidParameter(f"{option} {pair!r} must be NAME=VALUE")
        found[name] = value
    return found


def _body(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise InvalidParameter(f"{data[1:]} cannot be read: {error.strerror}") from error
    return data.encode()
