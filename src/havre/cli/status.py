"""``havre status``."""

import typer

from havre.cli import output
from havre.cli.home_option import HomeOption, home_of
from havre.cli.output import JsonOption
from havre.domain.lease import Role
from havre.operate.status import ServerStatus, server_status

NOT_RUNNING = 3
"""Exit code when the server is down."""


def register(app: typer.Typer) -> None:
    app.command()(status)


def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what is running. Exit code 3 when the server is down."""
    server = server_status(home_of(home))
    if as_json:
        output.print_json(server.to_json())
    else:
        _show(server)
    if not server.is_running:
        raise typer.Exit(NOT_RUNNING)


def _show(server: ServerStatus) -> None:
    if not server.is_running:
        output.print_text(f"not running ({server.home})")
        if server.left_running:
            output.print_text(
                f"left by a dead supervisor: {', '.join(server.left_running)}; "
                "`havre up` takes them over, `havre down` ends them"
            )
        return
    output.print_text(
        f"{'healthy' if server.healthy else 'not healthy'}  {server.url}  ({server.home})"
    )
    output.print_text(
        f"supervisor {server.supervisor_pid}, load balancer {server.balancer_pid or 'down'}, "
        f"control plane {server.pid or 'down'}, telemetry {server.telemetry_pid or 'down'}, "
        f"version {server.version}"
    )
    if server.reason:
        output.print_text(server.reason)
    for sentence in server.behind:
        output.print_text(sentence)
    if server.role == Role.STANDBY:
        output.print_text(f"standby; deployments are served by {server.holder}")
    if server.deployments:
        columns = ("displayName", "lifecycleState", "modelDeploymentUrl")
        rows = [[row[column] for column in columns] for row in server.deployments]
        output.print_table(("deployment", "state", "url"), rows, fold=False)
        output.print_reasons(server.deployments)
