"""`havre deploy`, `predict`, `list`, `cancel`, `delete`: the everyday path, through the API."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from havre.cli import output, saved, served
from havre.cli.configuration import STANDARD_SHAPE, DeployOptions, read_pairs
from havre.cli.failed_prediction import explained
from havre.cli.following import follow, follow_to_its_end
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.cli.recording import record
from havre.cli.save_and_deploy import model_of, save_and_deploy
from havre.client import ApiError, Client
from havre.domain.errors import Conflict, InvalidParameter, NotFound
from havre.domain.namesakes import age
from havre.operate.connection import connect
from havre.provenance import pythons_at_hand
from havre.settings import load_settings

Name = Annotated[str, typer.Argument(help="The deployment's display name or OCID.")]


def register(app: typer.Typer) -> None:
    app.command()(deploy)
    app.command()(predict)
    app.command("list")(list_deployments)
    app.command()(delete)
    app.command()(cancel)


def deploy(
    folder: Annotated[Path, typer.Argument(help="The artifact: a folder with score.py in it.")],
    name: Annotated[
        str,
        typer.Option(
            help="Display name, or the OCID of a deployment to update.",
            show_default="the folder's name",
        ),
    ] = "",
    shape: Annotated[
        str | None,
        typer.Option(help="Shape of each instance.", show_default=STANDARD_SHAPE),
    ] = None,
    ocpus: Annotated[
        float | None, typer.Option(help="OCPUs of a flexible shape.", show_default="1")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="GB of memory of a flexible shape.", show_default="16")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(help="Number of instances.", show_default="1")
    ] = None,
    bandwidth: Annotated[
        int | None,
        typer.Option(
            help="Limit bodies to this many Mbps, in each direction.", show_default="no cap"
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", help="Environment variable, as NAME=VALUE; NAME- removes it; repeatable."
        ),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="Freeform tag, as NAME=VALUE; NAME- removes it; repeatable."),
    ] = None,
    environment: Annotated[
        str,
        typer.Option(
            help="Slug of the inference environment (`havre env list`); overrides runtime.yaml.",
            show_default="runtime.yaml's, else this Python with its library versions",
        ),
    ] = "",
    reset: Annotated[
        bool,
        typer.Option(
            "--reset", help="Set everything that is not given to its default, in an update too."
        ),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", help="Fail instead of waiting if a change of the deployment is running."
        ),
    ] = False,
    home: HomeOption = None,
) -> None:
    """Save a folder to the catalog as a model and deploy it.

    If a deployment of that name exists, it is updated with zero downtime. Options that are not
    given keep their values, and what will change is printed first. If a change of it is running,
    this one waits.

    If runtime.yaml names no environment, the Python that runs this command and its versions of the
    libraries that the artifact uses are recorded in the saved model, which is served with those.
    """
    resolved_home = home_of(home)
    client = connect(resolved_home)
    options = DeployOptions(
        shape=shape,
        ocpus=ocpus,
        memory_gb=memory,
        instances=instances,
        bandwidth_mbps=bandwidth,
        variables=read_pairs(env or [], "--env"),
        tags=read_pairs(tag or [], "--tag"),
        resets=reset,
    )
    console = Console(highlight=False)
    recording = record(
        folder,
        slug=environment,
        default_slug=load_settings(resolved_home.root).default_environment,
        pythons=pythons_at_hand,
    )
    for line in recording.notes:
        console.print(line, soft_wrap=True, markup=False)
    deployment = save_and_deploy(
        client,
        folder,
        name or folder.resolve().name,
        options,
        console,
        files=recording.files,
        waits=not no_wait,
    )
    called = output.one_line(deployment["displayName"])
    if deployment["lifecycleState"] == "INACTIVE":
        console.print(f"\n{called} is updated, and INACTIVE as before", style="bold", markup=False)
        return
    console.print(f"\n{called} is served at", style="bold", markup=False)
    console.print(f"{deployment['modelDeploymentUrl']}/predict", soft_wrap=True)


def predict(
    name: Name,
    data: Annotated[
        str, typer.Argument(help="The request body: text, @FILE, or - for standard input.")
    ] = "-",
    content_type: Annotated[
        str,
        typer.Option(help="Content type; application/octet-stream passes raw bytes to predict()."),
    ] = "application/json",
    home: HomeOption = None,
) -> None:
    """Send a request to a deployment and print the response."""
    resolved_home = home_of(home)
    client = connect(resolved_home, to_predict=True)
    deployment = served.find(resolved_home, client, name)
    try:
        response = served.predict(resolved_home, client, deployment, _body(data), content_type)
    except ApiError as error:
        raise explained(error, client, deployment, name) from error
    sys.stdout.buffer.write(response)
    if response and not response.endswith(b"\n") and sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")


def list_deployments(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the deployments."""
    rows = connect(home_of(home)).explained_deployments()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    now = datetime.now(UTC)
    table = [
        (
            row["displayName"],
            row["lifecycleState"],
            str((row.get("modelDeploymentSystemData") or {}).get("currentInstanceCount", 0)),
            age(row["timeCreated"], now),
            row["modelDeploymentUrl"],
        )
        for row in rows
    ]
    output.print_table(("name", "state", "instances", "age", "url"), table, fold=False)
    output.print_reasons(rows)


def delete(
    name: Name,
    home: HomeOption = None,
    model: Annotated[
        bool,
        typer.Option(
            "--model", help="Also delete its model, and all that deploys saved under this name."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a deployment, once its requests in flight are finished."""
    client = connect(home_of(home))
    console = Console(highlight=False)
    if model:
        _delete_with_models(client, name, console, asks=not yes)
    else:
        deployment = client.find_deployment(name)
        follow(client, client.delete_deployment(deployment["id"]), console, name=name)


def cancel(name: Name, home: HomeOption = None) -> None:
    """Cancel the deployment's running change and roll back."""
    client = connect(home_of(home))
    deployment = client.find_deployment(name)
    running = client.running_change(deployment["id"])
    if running is None:
        raise Conflict(f"no change of {deployment['displayName']} is under way")
    client.cancel(running["id"])
    console = Console(highlight=False)
    request, _ = follow_to_its_end(client, running["id"], console, name=name)
    if request["status"] != "CANCELED":
        raise Conflict("the change had finished before it could be canceled")
    state = client.deployment(deployment["id"])["lifecycleState"]
    output.print_text(f"{deployment['displayName']} is {state}")


def _delete_with_models(client: Client, name: str, console: Console, *, asks: bool) -> None:
    """Works for a name whose deployment is gone, too: its saved models may still exist."""
    try:
        deployment = client.find_deployment(name)
    except NotFound:
        deployment = None
    called = deployment["displayName"] if deployment else name
    models = {row["id"]: row for row in saved.models_saved_for(client, called)}
    if deployment:
        used = model_of(deployment)
        if used not in models and (row := saved.model_that_is_there(client, used)):
            models[used] = row
    elif not models:
        raise NotFound(
            f"there is neither a deployment called {name!r} nor a model that was saved for one"
        )
    output.print_text(f"models to be deleted with {called}:{saved.format_models(models.values())}")
    if asks:
        _ask(f"Delete {len(models)} model{'s'[: len(models) > 1]}?")
    if deployment:
        follow(client, client.delete_deployment(deployment["id"]), console, name=name)
    for model_id in saved.remove(client, models):
        output.print_text(f"{model_id} stays: another deployment uses it")


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise InvalidParameter(
            f"{question} Confirm with --yes, because standard input is not a terminal"
        )
    typer.confirm(question, abort=True)


def _body(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise InvalidParameter(f"{data[1:]} cannot be read: {error.strerror}") from error
    return data.encode()
