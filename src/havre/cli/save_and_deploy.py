"""Deploys a folder: saves it, then creates or updates the one deployment that has its name.

Others may deploy the same name meanwhile. A create claims the name, an update says which state of
the deployment it is for (its etag); whoever comes second looks again, and waits for the first.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from rich.console import Console

from havre import temporary
from havre.cli import output, saved
from havre.cli.configuration import (
    DeployOptions,
    configuration_of,
    differences,
    differing_tags,
    tags_of,
)
from havre.cli.following import follow, wait_for
from havre.client import ApiError, Client
from havre.domain import namesakes
from havre.domain.errors import IncorrectState, ModelFault, RelatedNotFound
from havre.domain.ocid import is_ocid
from havre.domain.states import BUSY
from havre.packing import pack

CHANGED_MEANWHILE = 412
AGAIN_AFTER_S = 0.2

Deployment = dict[str, Any]


class Present(NamedTuple):
    """A deployment that can be updated, and its etag."""

    deployment: Deployment
    etag: str

    @property
    def configuration(self) -> dict[str, Any]:
        configuration: dict[str, Any] = self.deployment["modelDeploymentConfigurationDetails"]
        return configuration


def save_and_deploy(
    client: Client,
    folder: Path,
    name: str,
    options: DeployOptions,
    console: Console,
    *,
    files: Mapping[str, bytes] | None = None,
    waits: bool = True,
) -> Deployment:
    """Pack, save and deploy a folder, printing each step; returns the deployment when that is done.

    ``name`` is a display name, or the OCID of a deployment to update. ``files`` are packed in place
    of the folder's own, or beside them. ``waits`` for a running change of it; raises IncorrectState
    otherwise.

    Raises ModelFault when the change fails: the deployment says why, until it is deleted or
    deployed again. The saved model is removed if the change is refused from the start.
    """
    with temporary.folder("deploy") as scratch:
        archive = scratch / "artifact.zip"
        count = pack(folder, archive, files)
        size = archive.stat().st_size
        console.print(
            f"saving {folder} to the catalog: {count} files, {size:,} bytes zipped", markup=False
        )
        present = _settled(client, name, console, waits=waits)
        called = present.deployment["displayName"] if present else name
        for is_last in (False, True):
            model_id = saved.save(client, called, archive, console)
            try:
                changed = _change(client, name, present, options, model_id, console, waits=waits)
                break
            except BaseException as error:
                # Unless a deploy of the same files beside this one has tidied up meanwhile.
                if is_last or not _lacks_model(client, error, model_id):
                    _remove_unused_model(
                        client, model_id, called, is_unsure=not isinstance(error, Exception)
                    )
                    raise
            present = _settled(client, name, console, waits=waits)
    deployment_id, work_request = changed
    failure: ModelFault | None = None
    try:
        follow(client, work_request, console, name=name)
    except ModelFault as fault:
        failure = fault
    deployment = client.deployment(deployment_id)
    if deployment["lifecycleState"] not in BUSY:
        # What was asked for is done; the next deploy tidies up.
        with suppress(ApiError, httpx.HTTPError):
            saved.keep_one_of_each(client, called, fresh=model_id, used=model_of(deployment))
    if failure is not None:
        raise failure
    return deployment


def model_of(deployment: Deployment) -> str:
    details = deployment["modelDeploymentConfigurationDetails"]
    model_id: str = details["modelConfigurationDetails"]["modelId"]
    return model_id


def _change(
    client: Client,
    name: str,
    present: Present | None,
    options: DeployOptions,
    model_id: str,
    console: Console,
    *,
    waits: bool,
) -> tuple[str, str]:
    """The ids of the deployment and of its work request. Prints what will change first."""
    called = output.one_line(name)
    while True:
        try:
            if present is None:
                configuration = configuration_of(options, model_id)
                console.print(f"deploying {called}", markup=False)
                deployment, work_request = client.create_deployment(
                    name, configuration, tags_of(options), is_only=True
                )
                return deployment["id"], work_request
            return _update(client, present, options, model_id, console)
        except ApiError as error:
            if error.status != CHANGED_MEANWHILE:
                raise
        console.print(f"{called} was changed by somebody else meanwhile", markup=False)
        present = _settled(client, name, console, waits=waits)


def _update(
    client: Client, present: Present, options: DeployOptions, model_id: str, console: Console
) -> tuple[str, str]:
    deployment = present.deployment
    configuration = configuration_of(options, model_id, present.configuration)
    tags = tags_of(options, deployment["freeformTags"])
    called = output.one_line(deployment["displayName"])
    console.print(f"updating the deployment {called}", markup=False)
    changes = differences(present.configuration, configuration)
    for line in (*changes, *differing_tags(deployment["freeformTags"], tags)):
        console.print(f"  {output.one_line(line)}", soft_wrap=True, markup=False)
    deployment_id = deployment["id"]
    work_request = client.update_deployment(deployment_id, configuration, tags, etag=present.etag)
    return deployment_id, work_request


def _settled(client: Client, name: str, console: Console, *, waits: bool) -> Present | None:
    """The deployment of this name once no change of it is running; None if there is none.

    A failed one, which serves nobody, is removed. Raises Conflict if there are several.
    """
    while True:
        row = _find_existing(client, name, console)
        if row is None:
            return None
        deployment, etag = client.deployment_and_etag(row["id"])
        state = deployment["lifecycleState"]
        if state not in BUSY and (state != "FAILED" or is_ocid(name)):
            return Present(deployment, etag)
        running = client.running_change(row["id"])
        if running is None:  # it has ended between the two looks
            time.sleep(AGAIN_AFTER_S)
            continue
        since = namesakes.age(running["timeAccepted"], datetime.now(UTC))
        busy = f"{output.one_line(deployment['displayName'])} has been {state} for {since}"
        if not waits:
            raise IncorrectState(
                f"{busy}: wait until that is over, or cancel it with `havre cancel`; without "
                "--no-wait this command waits for it"
            )
        console.print(f"{busy}: waiting for that to be over", markup=False)
        wait_for(client, running["id"], console, name=name)


def _find_existing(client: Client, name: str, console: Console) -> Deployment | None:
    """Raises Conflict, with what distinguishes them, if several have the name."""
    if is_ocid(name):
        return client.deployment(name)
    rows = [
        row
        for row in client.deployments(displayName=name)
        if row["lifecycleState"] not in namesakes.GOING
    ]
    for row in rows:
        if row["lifecycleState"] == "FAILED":
            console.print(f"removing the failed deployment {row['id']}", soft_wrap=True)
            _begin_to_delete(client, row["id"])
    rows = [row for row in rows if row["lifecycleState"] != "FAILED"]
    return dict(namesakes.meant_by(name, rows, datetime.now(UTC))) if rows else None


def _begin_to_delete(client: Client, deployment_id: str) -> None:
    """Somebody else may have done it meanwhile."""
    try:
        client.delete_deployment(deployment_id)
    except ApiError as error:
        if error.status != saved.CONFLICT:
            raise


def _lacks_model(client: Client, error: BaseException, model_id: str) -> bool:
    """Whether a change was refused because its model is gone."""
    is_absence = isinstance(error, ApiError) and error.code == RelatedNotFound.code
    return is_absence and saved.model_that_is_there(client, model_id) is None


def _remove_unused_model(client: Client, model_id: str, name: str, *, is_unsure: bool) -> None:
    """Remove the model of a change that was not started. ``is_unsure``: it may have been."""
    try:
        in_use = saved.remove(client, [model_id])
    except (ApiError, httpx.HTTPError):
        return  # what went wrong before is reported
    if is_unsure:
        output.print_fault(
            f"the change of {name} had begun and goes on: `havre list` shows its state"
            if in_use
            else f"nothing of {name} was changed"
        )
