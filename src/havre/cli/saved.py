"""The models that `havre deploy` saves: one per digest and name, removed on request.

A tag says for which name a model was saved: what somebody else put into the catalog is not ours to
remove, whatever it is called.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from havre.cli import output
from havre.client import ApiError, Client

SAVED_FOR = "havre-deploy"
"""The tag of a model whose value is the name that it was saved for."""
ARTIFACT = "havre-artifact"
"""The tag with the SHA-256 of its artifact, which saves asking for each."""
CONFLICT, NOT_FOUND = 409, 404

Model = dict[str, Any]


def save(client: Client, name: str, archive: Path, console: Console) -> str:
    """The id of a new model with this artifact; none is left if it cannot be sent."""
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    tags = {SAVED_FOR: name, ARTIFACT: digest}
    model_id: str = client.create_model(name, freeformTags=tags)["id"]
    size = archive.stat().st_size
    try:
        with Progress(
            TextColumn("  uploading"),
            BarColumn(),
            DownloadColumn(),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task("upload", total=size)
            client.upload_artifact(model_id, archive, lambda sent: bar.advance(task, sent))
    except BaseException as error:
        client.delete_model(model_id)
        if isinstance(error, KeyboardInterrupt):
            output.print_fault(f"nothing of {name} was changed")
        raise
    return model_id


def models_saved_for(client: Client, name: str) -> list[Model]:
    """Newest first."""
    rows = client.models(displayName=name)
    return [row for row in rows if row["freeformTags"].get(SAVED_FOR) == name]


def model_that_is_there(client: Client, model_id: str) -> Model | None:
    """None for one that is deleted, or no longer known."""
    try:
        row = client.model(model_id)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        return None
    return None if row["lifecycleState"] == "DELETED" else row


def keep_one_of_each(client: Client, name: str, *, fresh: str, used: str) -> None:
    """Remove the models of a name that have the same artifact as the ``fresh`` one, and are no
    younger: those are of a deploy that goes on beside this one.

    The deployment's own stays (``used``), or else the fresh one: after a change that failed the
    deployment may go on with an older model of the same bytes.
    """
    rows = models_saved_for(client, name)
    ids = [row["id"] for row in rows]
    if fresh not in ids:
        return  # a later deploy of the same has removed it
    rows = rows[ids.index(fresh) :]
    stated = rows[0]["freeformTags"].get(ARTIFACT)
    same = [row["id"] for row in rows if row["freeformTags"].get(ARTIFACT) == stated]
    kept = used if used in same else fresh
    digest = client.artifact_digest(kept)
    # Tags can be changed by anybody, an artifact by nobody.
    remove(
        client,
        (
            model_id
            for model_id in same
            if model_id != kept and client.artifact_digest(model_id) == digest
        ),
    )


def remove(client: Client, model_ids: Iterable[str]) -> list[str]:
    """Those that stay, because a deployment uses them."""
    in_use = []
    for model_id in model_ids:
        try:
            client.delete_model(model_id)
        except ApiError as error:
            if error.status == CONFLICT:
                in_use.append(model_id)
            elif error.status != NOT_FOUND:  # somebody else has removed it
                raise
    return in_use


def format_models(models: Iterable[Model]) -> str:
    return "".join(
        f"\n  {row['id']}  {row['lifecycleState']}  saved {row['timeCreated']}" for row in models
    )
