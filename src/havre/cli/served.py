"""Sends requests to a deployment, also while the database or the API is down, or another home
serves it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import httpx

from havre.cli import output
from havre.cli.role import holder_elsewhere
from havre.client import ApiError, Client
from havre.domain.errors import Conflict, NotFound, Unavailable
from havre.home import Home
from havre.operate import connection, diagnosis
from havre.store import names

Look = Callable[[Client, str], dict[str, Any]]


def find(
    home: Home, client: Client, name_or_id: str, *, look: Look = Client.find_deployment
) -> str:
    """Its id: from the API, or else from the names that this home has remembered.

    ``look`` asks the API. Raises NotFound, Conflict, Unavailable with the reason why it is down.
    """
    if name_or_id.startswith("ocid1."):
        return name_or_id
    try:
        with _explained(home, client):
            deployment_id: str = look(client, name_or_id)["id"]
        return deployment_id
    except ApiError as error:
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        trouble = diagnosis.trouble(home, client.url)
        return _remembered(home, name_or_id, trouble.reason if trouble else error.message)


def predict(
    home: Home, client: Client, deployment_id: str, body: bytes, content_type: str
) -> bytes:
    """The response body; a standby sends the request to the holder.

    Raises ApiError, and NotFound with the id.
    """
    with _explained(home, client):
        try:
            return client.predict(deployment_id, body, content_type)
        except ApiError as error:
            holder = ""
            if error.status == HTTPStatus.NOT_FOUND:
                holder = holder_elsewhere(client)
            if not holder:
                if error.status == HTTPStatus.NOT_FOUND:
                    raise NotFound(f"{deployment_id}: {error.message}") from error
                raise
    output.errors.print(f"this home is a standby: asking {holder}, which serves it", markup=False)
    try:
        return client.predict(deployment_id, body, content_type, at=holder)
    except httpx.TransportError as error:
        raise Unavailable(
            f"this home is a standby, and {holder}, which serves the deployments, does not answer "
            f"({error})"
        ) from error


@contextmanager
def _explained(home: Home, client: Client) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError:
        connection.check(home, client.url)
        raise


def _remembered(home: Home, name: str, why_away: str) -> str:
    ids = [key for key, known in names.read(home).items() if known == name]
    if not ids:
        raise Unavailable(
            f"{why_away}; no deployment called {name!r} was known before: name its OCID"
        )
    if len(ids) > 1:
        raise Conflict(
            f"{len(ids)} deployments were called {name!r}, and the API cannot be asked "
            f"({why_away}): name one by its OCID, {' or '.join(sorted(ids))}"
        )
    return ids[0]
