"""``havre``: the command. Each noun has a module here.

To add commands: write ``cli/<noun>.py`` with a function ``register(app)`` that adds them, and name
it in the list below. For ``havre <noun> <verb>``, make a Typer of its own there, like ``env``.
"""

import sys

import typer

from havre.cli import (
    captured,
    deployments,
    doctor,
    logs,
    oci_config,
    output,
    quickstart,
    server,
    top,
    verify,
)
from havre.cli.environments import environments_app
from havre.domain.errors import HavreError

app = typer.Typer(
    name="havre",
    help="Serve models: a catalog, managed HTTP endpoints, a load balancer, on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (server, quickstart, deployments, top, logs, captured, verify, doctor, oci_config):
    module.register(app)
app.add_typer(environments_app, name="env")


def run() -> None:
    """The entry point. A fault with a name of ours is one line, and exit code 1."""
    try:
        app()
    except HavreError as error:
        output.print_fault(error.message)
        sys.exit(1)
