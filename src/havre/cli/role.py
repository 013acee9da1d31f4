"""What a command can find out where the server is a standby, and which server has the rest."""

from havre.cli import output
from havre.client import ApiError, Client
from havre.domain.lease import Role


def holder_elsewhere(client: Client) -> str:
    """The address of the server that serves the deployments, if it is another than this one.

    Empty, too, while that is not known.
    """
    try:
        health = client.health()
    except ApiError:
        return ""
    return str(health.get("holder", "")) if health["role"] == Role.STANDBY else ""


def warn_if_standby(client: Client, what: str) -> None:
    """Say on standard error that ``what`` (a plural) is kept where deployments are served."""
    if holder := holder_elsewhere(client):
        output.errors.print(
            f"this home is a standby: {what} are kept by the home that serves the deployments, at "
            f"{holder}; ask there. These are from the time when this home served them",
            markup=False,
        )
