"""`havre logs`: what a deployment was asked, and what its model said."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import typer

from havre.cli import output
from havre.cli.connection import HomeOption, connect, home_of
from havre.cli.deployments import Name
from havre.cli.output import JsonOption
from havre.client import Client
from havre.domain.errors import InvalidParameter
from havre.domain.log_syntax import quote_text

POLL_S = 1.0
OVERLAP = timedelta(seconds=30)
"""How much later than it happened an entry may be found, and still be shown by --follow."""
MOST_AT_ONCE = 10_000

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
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    since: Annotated[
        str, typer.Option(help="How far back: 30s, 10m, 2h, 7d, or a moment in ISO 8601.")
    ] = "1d",
    grep: Annotated[
        str, typer.Option(help="Only entries that contain this text, in capitals or not.")
    ] = "",
    request: Annotated[
        str, typer.Option(help="Only what belongs to the request with this opc-request-id.")
    ] = "",
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=MOST_AT_ONCE, help="The last so many.")
    ] = 100,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the logs of a deployment: requests to it, and what its model printed and logged."""
    client = connect(home_of(home))
    deployment = client.find_deployment(name)
    now = datetime.now(UTC)
    query = _query(deployment, access=access, predict=predict, grep=grep, request=request)
    newest = f"{query} | sort by datetime desc | limit {lines}"
    begin = moment(since, now)
    with output.progress("searching the logs"):
        known = _latest(client, query, now) if follow else []
        found = client.search_logs(newest, since=begin, until=now, most=lines)
    for record in reversed(found):
        _show(record, as_json=as_json)
    if follow:
        try:
            for record in _following(client, query, {_id(each) for each in (*known, *found)}, now):
                _show(record, as_json=as_json)
        except KeyboardInterrupt:
            pass


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


def of_request(request: str) -> str:
    """A condition on entries; what was printed for several requests together names them all."""
    named = quote_text(request)[1:-1]
    shapes = (named, f"{named},*", f"*,{named}", f"*,{named},*")
    conditions = [f"data.opcRequestId = '{shape}'" for shape in shapes]
    return f"({' or '.join(conditions)})"


def _following(client: Client, query: str, seen: set[str], asked: datetime) -> Iterator[Record]:
    """Entries as they come, each once: those of the last moments are asked for again and again."""
    is_away = False
    while True:
        time.sleep(POLL_S)
        try:
            found = _latest(client, query, asked)
        except httpx.TransportError:
            if not is_away:
                output.print_fault("the server does not answer; waiting for it")
            is_away = True
            continue
        is_away, asked = False, datetime.now(UTC)
        yield from (record for record in found if _id(record) not in seen)
        seen = {_id(record) for record in found}


def _latest(client: Client, query: str, asked: datetime) -> list[Record]:
    """What may have come since ``asked``, and a little more; in the order of time."""
    until = datetime.now(UTC) + OVERLAP
    query = f"{query} | sort by datetime"
    return client.search_logs(query, since=asked - OVERLAP, until=until, most=MOST_AT_ONCE)


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
    typer.echo(f"{content['time']}  {output.fit_for_terminal(_tell(content))}")


def _tell(content: Record) -> str:
    data = content["data"]
    if content["type"].endswith(".predict"):
        return f"predict  {data['message']}"
    parts = [f"access   {data.get('status', '-')}"]
    if "totalLatency" in data:
        parts.append(f"{data['totalLatency']:.1f} ms")
    parts.append(f"{data['method']} {data['path'].rpartition('/')[2]}" if "path" in data else "")
    if "instance" in data:
        parts.append(f"{data['instance']}/{data.get('copy', '')}")
    parts.append(data.get("opcRequestId", ""))
    return "  ".join(part for part in parts if part)


def _id(record: Record) -> str:
    identifier: str = record["logContent"]["id"]
    return identifier
