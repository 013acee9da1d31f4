"""``havre``: the command. Each noun has a module here.

To add commands: write ``cli/<noun>.py`` with a function ``register(app)`` that adds them, and name
it in the list below. For ``havre <noun> <verb>``, make a Typer of its own there, like ``env``.
"""

import sys
import tempfile
from pathlib import Path

import httpx
import typer

from havre import full_disk
from havre.cli import (
    captured,
    deployments,
    doctor,
    logs,
    oci_config,
    output,
    quickstart,
    server,
    status,
    top,
    verify,
)
from havre.cli.environments import environments_app
from havre.domain.errors import HavreError

app = typer.Typer(
    name="havre",
    help="Self-hosted model deployment, compatible with OCI Data Science.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (
    *(server, status, quickstart, deployments, top, logs, captured, verify, doctor, oci_config),
):
    module.register(app)
app.add_typer(environments_app, name="env")


def run() -> None:
    """The entry point. An error of ours is one line, and exit code 1.

    So is one of the system, which names the file. An unexpected one is a line, too, with a file
    that holds its traceback.
    """
    try:
        app()
    except HavreError as error:
        output.print_fault(error.message)
        sys.exit(1)
    except (OSError, httpx.HTTPError) as error:
        output.print_fault(_message(error))
        sys.exit(1)
    except Exception as error:
        output.print_unexpected(error)
        sys.exit(1)


def _message(error: OSError | httpx.HTTPError) -> str:
    if isinstance(error, OSError) and full_disk.is_full(error):
        return full_disk.cause(error, Path(error.filename or tempfile.gettempdir()))
    return str(error) or type(error).__name__
