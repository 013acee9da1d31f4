"""``havre oci-config``: a ready profile for `oci`, the OCI SDK and oracle-ads."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from havre.auth.identity import load_or_create
from havre.auth.profile import write_profile
from havre.auth.signer import Signer
from havre.cli import output
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.operate.admission import is_admitted
from havre.settings import load_settings
from havre.supervisor import server_file

UNKNOWN_URL = "http://HOST:PORT"
"""A place to fill in, while the server is down."""


def register(app: typer.Typer) -> None:
    app.command("oci-config")(oci_config)


def oci_config(
    file: Annotated[Path, typer.Option("--output", help="The configuration file to write.")],
    profile: Annotated[str, typer.Option(help="Name of the profile.")] = "HAVRE",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an OCI configuration file for this server, with its key next to it.

    Other profiles in an existing file are kept. If the server runs, this returns once the load
    balancer knows the key; if that takes over eight seconds, a message says so.
    """
    resolved_home = home_of(home)
    settings = load_settings(resolved_home.root)
    resolved_home.make()
    identity = load_or_create(resolved_home)
    written = write_profile(
        resolved_home, identity, file=file, name=profile, region=settings.region
    )
    about = server_file.read_if_whole(resolved_home)
    url = about["url"] if about else UNKNOWN_URL
    if about is not None:
        _wait_until_admitted(url, Signer(resolved_home, identity, written.key))
    command = [
        *("oci", "--config-file", str(written.file), "--profile", written.name),
        *("--endpoint", url),
        *("data-science", "model-deployment", "list"),
        *("--compartment-id", identity.tenancy_ocid),
    ]
    if as_json:
        output.print_json(
            {
                "file": str(written.file),
                "profile": written.name,
                "key_file": str(written.key_file),
                "fingerprint": written.fingerprint,
                "user": identity.user_ocid,
                "tenancy": identity.tenancy_ocid,
                "compartment": identity.tenancy_ocid,
                "project": identity.project_ocid,
                "endpoint": url,
            }
        )
        return
    output.print_text(f"profile      {written.name} in {written.file}")
    output.print_text(f"compartment  {identity.tenancy_ocid}")
    output.print_text(f"project      {identity.project_ocid}")
    output.print_text(f"endpoint     {url}")
    output.print_text("\nTry it:\n  " + shlex.join(command))


def _wait_until_admitted(url: str, signer: Signer) -> None:
    with output.progress("waiting until the load balancer knows the key"):
        is_known = is_admitted(url, signer)
    if not is_known:
        output.note(
            "The load balancer does not know the key yet: predictions that it signs get 401. It "
            "gets the key from the control plane; `havre status` says whether that is healthy."
        )
