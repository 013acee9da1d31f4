"""The error of `havre predict` for a failed prediction: whose fault it is, and where to read more.

The load balancer responds for a copy that has died, and does not know why. Its keeper knows, and
logs it; the entry is searchable a moment later.
"""

import time
from datetime import UTC, datetime, timedelta

import httpx

from havre.cli.log_conditions import of_request
from havre.client import ApiError, Client
from havre.domain.errors import HavreError, ModelFault
from havre.queries.log_parser import quote_text

SEARCH_LIMIT_S = 3.0
POLL_S = 0.3
DEATH_MARK = ": copy "
NO_RESPONSE = "The model did not answer"
"""The start of the load balancer's own response."""
_SERVER_ERRORS = range(500, 600)


def explained(error: ApiError, client: Client, deployment_id: str, name: str) -> HavreError:
    """The error to report instead: it names the deployment as the caller does."""
    if error.status not in _SERVER_ERRORS or not error.request:
        return error
    look = f"havre logs {name} --request {error.request}"
    message = error.message
    if message.startswith(NO_RESPONSE) and (died := _death(client, deployment_id, error.request)):
        message = f"{message.rstrip('.')}: {died}"
    return ModelFault(f"{name} answered {error.status}: {message} (more: {look})")


def _death(client: Client, deployment_id: str, request: str) -> str:
    """What the keeper logged about the request's copy, once it can be found; empty if it cannot."""
    try:
        compartment_id = client.deployment(deployment_id)["compartmentId"]
    except (HavreError, httpx.HTTPError):
        return ""  # predictions go on without the API
    query = (
        f'search "{compartment_id}" | where source = {quote_text(deployment_id)} '
        f"and {of_request(request)} and type = '*.predict' | sort by datetime desc"
    )
    deadline = time.monotonic() + SEARCH_LIMIT_S
    while True:
        now = datetime.now(UTC)
        try:
            records = client.search_logs(
                query,
                since=now - timedelta(hours=1),
                until=now + timedelta(minutes=1),
                max_entries=50,
            )
        except (HavreError, httpx.HTTPError):
            return ""
        for record in records:
            message = str(record["logContent"]["data"]["message"])
            line = message.partition("\n")[0]
            _, is_found, rest = line.partition(f"request {request}{DEATH_MARK}")
            if is_found:
                return "copy " + rest.partition("; another follows")[0]
        if time.monotonic() > deadline:
            return ""
        time.sleep(POLL_S)
