"""`havre logs`: the requests to a deployment, and what its model printed and logged."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import typer

from havre.cli import output, role
from havre.cli.deployments import Name
from havre.cli.home_option import HomeOption, home_of
from havre.cli.log_conditions import of_request
from havre.cli.output import JsonOption
from havre.client import Client
from havre.domain.errors import InvalidParameter
from havre.operate.connection import connect
from havre.queries.log_parser import quote_text

POLL_S = 1.0
OVERLAP = timedelta(seconds=30)
"""Up to how long after it happened an entry may become searchable and still be followed."""
MAX_LINES = 10_000

_SPAN = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Record = dict[str, Any]


def register(app: typer.Typer) -> None:
    app.command()(logs)


def logs(
    name: Name,
    access: Annotated[bool, typer.Option("--access", help="Only requests.")] = False,
    predict: Annotated[
        bool, typer.Option("--predict", help="Only what score.py printed and logged.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow new entries, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str, typer.Option(help="Only entries since: 30s, 10m, 2h or 7d ago, or an ISO 8601 time.")
    ] = "1d",
    grep: Annotated[
        str, typer.Option(help="Only entries that contain this text (case-insensitive).")
    ] = "",
    request: Annotated[
        str, typer.Option(help="Only entries of the request with this opc-request-id.")
    ] = "",
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=MAX_LINES, help="Show the last N entries.")
    ] = 100,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the logs of a deployment: requests to it, and what its model printed and logged.

    The logs of a deleted deployment are kept as long as those of any other.
    """
    client = connect(home_of(home))
    role.warn_if_standby(client, "logs")
    deployment = find_deployment_or_deleted(client, name)
    now = datetime.now(UTC)
    query = _query(deployment, access=access, predict=predict, grep=grep, request=request)
    newest = f"{query} | sort by datetime desc | limit {lines}"
    begin = moment(since, now)
    with output.progress("searching the logs"):
        known = _latest(client, query, now) if follow else []
        records = client.search_logs(newest, since=begin, until=now, max_entries=lines)
    for record in reversed(records):
        _show(record, as_json=as_json)
    if follow:
        try:
            for record in _following(
                client, query, {_id(record) for record in (*known, *records)}, now
            ):
                _show(record, as_json=as_json)
        except KeyboardInterrupt:
            pass


def find_deployment_or_deleted(client: Client, name: str) -> dict[str, Any]:
    """The deployment, or a deleted one of that name; a note says when it is a deleted one."""
    deployment = client.find_deployment_or_deleted(name)
    if deployment["lifecycleState"] == "DELETED":
        output.errors.print(
            f"{output.one_line(deployment['displayName'])} was deleted; these are the entries left "
            f"of {deployment['id']}",
            markup=False,
        )
    return deployment


def _query(
    deployment: dict[str, Any], *, access: bool, predict: bool, grep: str, request: str
) -> str:
    conditions = [f"source = {quote_text(deployment['id'])}"]
    if access != predict:
        conditions.append(f"type = '*.{'access' if access else 'predict'}'")
    if request:
        conditions.append(of_request(request))
    if grep:
        conditions.append(f"contains_ci(logContent, {quote_text(grep)})")
    return f'search "{deployment["compartmentId"]}" | where {" and ".join(conditions)}'


def _following(
    client: Client, query: str, shown_ids: set[str], asked: datetime
) -> Iterator[Record]:
    """New entries, each of them once; those of the last moments are searched for repeatedly."""
    is_away = False
    while True:
        time.sleep(POLL_S)
        try:
            records = _latest(client, query, asked)
        except httpx.TransportError:
            if not is_away:
                output.print_fault("the server does not answer; waiting for it")
            is_away = True
            continue
        is_away, asked = False, datetime.now(UTC)
        yield from (record for record in records if _id(record) not in shown_ids)
        shown_ids = {_id(record) for record in records}


def _latest(client: Client, query: str, asked: datetime) -> list[Record]:
    """Entries since ``asked`` and a little before that, in the order of time."""
    until = datetime.now(UTC) + OVERLAP
    query = f"{query} | sort by datetime"
    return client.search_logs(query, since=asked - OVERLAP, until=until, max_entries=MAX_LINES)


def moment(text: str, now: datetime) -> datetime:
    """What --since means. Raises InvalidParameter."""
    if match := _SPAN.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParameter(
            f"--since {text!r} must be a span like 30s, 10m, 2h or 7d, or a moment like "
            "2026-11-25T10:00:00Z"
        ) from None
    return moment if moment.tzinfo else moment.astimezone()


def _show(record: Record, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record))
        return
    content = record["logContent"]
    when = re.sub(r"(\.\d{3})\d+", r"\1", content["time"])
    typer.echo(f"{when}  {output.fit_for_terminal(_format(content))}")


def _format(content: Record) -> str:
    data = content["data"]
    if content["type"].endswith(".predict"):
        return f"predict  {data['message']}"
    parts = [f"access   {data.get('status', '-')}"]
    if "totalLatency" in data:
        parts.append(f"{data['totalLatency']:.1f} ms")
    if "heldBack" in data:
        parts.append(f"held back {data['heldBack']:.0f} ms")
    parts.append(f"{data['method']} {data['path'].rpartition('/')[2]}" if "path" in data else "")
    if "instance" in data:
        parts.append(f"{data['instance']}/{data.get('copy', '')}")
    parts.append(data.get("opcRequestId", ""))
    return "  ".join(part for part in parts if part)


def _id(record: Record) -> str:
    identifier: str = record["logContent"]["id"]
    return identifier
