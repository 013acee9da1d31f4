"""How a command finds the server of its home."""

import json
from pathlib import Path
from typing import Annotated

import httpx
import typer

from havre.auth.identity import load_or_create
from havre.auth.signer import Signer
from havre.client import Client
from havre.domain.errors import Unavailable
from havre.home import Home, default_home

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="The home folder.",
        show_default="$HAVRE_HOME, else ~/.havre; /var/lib/havre for root",
    ),
]


def home_of(stated: Path | None) -> Home:
    return Home((stated or default_home()).expanduser().absolute())


def connect(home: Home) -> Client:
    """A client of the server that runs in this home. Raises Unavailable, saying how to start it."""
    start = f"start it with `havre up --detach --home {home.root}`"
    try:
        url = json.loads(home.server_file.read_text())["url"]
        httpx.get(f"{url}/healthz", timeout=5, trust_env=False).raise_for_status()
    except FileNotFoundError as error:
        raise Unavailable(f"no server runs in {home.root}; {start}") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"the server at {url} does not answer ({error}); {start}") from error
    identity = load_or_create(home)
    return Client(
        url,
        compartment_id=identity.tenancy_ocid,
        project_id=identity.project_ocid,
        signer=Signer(home, identity),
    )
