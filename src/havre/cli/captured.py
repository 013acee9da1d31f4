"""`havre captured`: requests and responses that a deployment's copies have captured."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from havre.cli import output, role, served
from havre.cli.deployments import Name
from havre.cli.home_option import HomeOption, home_of
from havre.cli.logs import find_deployment_or_deleted, moment
from havre.cli.output import JsonOption
from havre.domain.errors import InvalidParameter, SystemFault
from havre.home import Home
from havre.operate.connection import connect
from havre.telemetry.logs.captures import Captures

MAX_LINES = 1000
WIDEST_BODY = 60
COLUMNS = ("time", "status", "ms", "request", "response")


def register(app: typer.Typer) -> None:
    app.command()(captured)


def captured(
    name: Name,
    since: Annotated[
        str, typer.Option(help="Only requests since: 30s, 10m, 2h or 7d ago, or an ISO 8601 time.")
    ] = "1d",
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=MAX_LINES, help="Show the last N requests.")
    ] = 20,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Export the period to a new Parquet file.",
            metavar="FILE.parquet",
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show captured requests to a deployment, with their responses.

    The tag havre-capture turns capturing on. Bodies are read from the server's home folder; they
    never go over the network.
    """
    resolved_home = home_of(home)
    client = connect(resolved_home, to_predict=True)
    role.warn_if_standby(client, "captured requests")
    deployment = served.find(resolved_home, client, name, look=find_deployment_or_deleted)
    now = datetime.now(UTC)
    begin, end = _epoch_ms(moment(since, now)), _epoch_ms(now)
    if to is not None:
        with output.progress(f"writing {to}"):
            count = _export(resolved_home, deployment, begin, end, to)
        output.print_text(f"{count} requests are in {to}.")
        return
    captures = Captures(resolved_home)
    try:
        requests = captures.last(deployment, from_ms=begin, to_ms=end, limit=lines)
    finally:
        captures.close()
    if as_json:
        for request in requests:
            typer.echo(json.dumps(request))
    else:
        output.print_table(COLUMNS, [_row(request) for request in requests], fold=False)


def _export(home: Home, deployment: str, begin: int, end: int, to: Path) -> int:
    if to.exists():
        raise InvalidParameter(f"--to: {to} exists already; name a new file, or remove it")
    captures = Captures(home)
    try:
        return captures.export(deployment, to.absolute(), from_ms=begin, to_ms=end)
    except OSError as error:
        raise SystemFault(f"{to} cannot be written: {error}") from error
    finally:
        captures.close()


def _row(captured: dict[str, Any]) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(captured["time"] / 1000))
    return (
        when,
        str(captured["status"]),
        f"{captured['model_us'] / 1000:.1f}",
        _body(captured, "request"),
        _body(captured, "response"),
    )


def _body(captured: dict[str, Any], name: str) -> str:
    text, size = captured[name], captured[f"{name}_bytes"]
    if text is None:
        if size is None:
            return "(a stream)" if captured["is_stream"] else ""
        return f"({size} bytes)" if size else ""
    text = " ".join(text.split())
    return text if len(text) <= WIDEST_BODY else text[: WIDEST_BODY - 1] + "…"


def _epoch_ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)
