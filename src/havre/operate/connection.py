"""A client of the server that runs in a home."""

from havre.auth.identity import load_or_create
from havre.auth.signer import Signer
from havre.client import Client
from havre.domain.errors import Unavailable
from havre.home import Home
from havre.operate import diagnosis
from havre.supervisor import server_file


def connect(home: Home, *, to_predict: bool = False) -> Client:
    """A client of the server that runs in this home.

    Raises Unavailable, saying how to start it, or why it does not answer. ``to_predict`` skips the
    health check: predictions go on while the API is away.
    """
    try:
        url = server_file.read(home)["url"]
    except Unavailable as error:
        raise Unavailable(f"{error.message}; {_how_to_start(home)}") from error
    if not to_predict:
        check(home, url)
    identity = load_or_create(home)
    return Client(
        url,
        compartment_id=identity.tenancy_ocid,
        project_id=identity.project_ocid,
        signer=Signer(home, identity),
    )


def check(home: Home, url: str) -> None:
    """Raises Unavailable, with the reason, where the server is not healthy."""
    trouble = diagnosis.trouble(home, url)
    if trouble is None:
        return
    is_down = not trouble.serves and server_file.running_supervisor(home) is None
    raise Unavailable(f"{trouble}; {_how_to_start(home)}" if is_down else str(trouble))


def _how_to_start(home: Home) -> str:
    return f"start it with `havre up --detach --home {home.root}`"
