"""How quickly the API answers when a home holds much.

    python -m bench.api_time [--deployments 1000] [--work-requests 100000] [--repeats 200]

Fills a home's database directly with copies of one real deployment (INACTIVE, so that nothing runs
for them) and with finished work requests of them, three log lines each. Then starts the server and
asks each call one by one over HTTP, through the load balancer, with a client that takes next to no
time itself. Prints milliseconds.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from sqlalchemy import insert, inspect, select

from bench.figures import percentile
from bench.own_server import OwnServer, own_server, write_artifact
from bench.start_time import SMALLEST
from havre.domain.ocid import Kind, new_ocid
from havre.store.database import Database, sqlite_url
from havre.store.schema import Base, Deployment, WorkRequest, WorkRequestLog

API = "/20190101"
LOG_LINES = 3
AT_ONCE = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployments", type=int, default=1000)
    parser.add_argument("--work-requests", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, own_server() as server:
        with server.up():
            make_template(server, Path(scratch))
        fill(server, options.deployments, options.work_requests)
        with server.up():
            measure(server, options.repeats)


def make_template(server: OwnServer, scratch: Path) -> None:
    """One real deployment, deactivated."""
    deployment = server.create(server.save(write_artifact(scratch / "a", SMALLEST)), copies=1)
    server.wait_until_active(deployment)
    url = f"{server.client.url}{API}/modelDeployments/{deployment['id']}/actions/deactivate"
    request = httpx.post(url, trust_env=False).raise_for_status().headers["opc-work-request-id"]
    for _ in server.client.follow(request):
        pass


def fill(server: OwnServer, deployments: int, work_requests: int) -> None:
    database = Database(sqlite_url(server.home.database))
    first = datetime.now(UTC) - timedelta(days=30)
    with database.write() as session:
        deployment = columns(session.scalars(select(Deployment)).one())
        request = columns(session.scalars(select(WorkRequest)).all()[0])
        made = [
            deployment
            | {
                "id": new_ocid(Kind.DEPLOYMENT),
                "display_name": f"bench-{number}",
                "time_created": first + timedelta(minutes=number),
            }
            for number in range(deployments - 1)
        ]
        asked = [
            request
            | {
                "id": new_ocid(Kind.WORK_REQUEST),
                "resource_id": made[number % len(made)]["id"],
                "time_accepted": first + timedelta(seconds=number),
            }
            for number in range(work_requests)
        ]
        logged = (
            {
                "work_request_id": one["id"],
                "message": f"step {number}",
                "timestamp": one["time_accepted"],
            }
            for one in asked
            for number in range(LOG_LINES)
        )
        for table, rows in ((Deployment, made), (WorkRequest, asked), (WorkRequestLog, logged)):
            for some in chunks(rows):
                session.execute(insert(table), some)
    database.close()


def measure(server: OwnServer, repeats: int) -> None:
    compartment = server.client.compartment_id
    address = urlsplit(server.client.url).netloc
    with closing(HTTPConnection(address)) as http:

        def ask(method: str, path: str, body: str | None = None) -> bytes:
            headers = {"content-type": "application/json"} if body else {}
            http.request(method, API + path, body, headers)
            answer = http.getresponse()
            content = answer.read()
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise SystemExit(f"{method} {path}: {answer.status} {content.decode()}")
            return content

        def get(path: str, **query: str) -> bytes:
            return ask("GET", f"{path}?{urlencode(query)}" if query else path)

        some = json.loads(get("/modelDeployments", compartmentId=compartment, limit="100"))
        requests = json.loads(get("/workRequests", compartmentId=compartment, limit="100"))
        deployments = itertools.cycle(one["id"] for one in some)
        asked = itertools.cycle(one["id"] for one in requests)
        calls: dict[str, Callable[[], object]] = {
            "get a deployment": lambda: get(f"/modelDeployments/{next(deployments)}"),
            "list 100 deployments": lambda: get(
                "/modelDeployments", compartmentId=compartment, limit="100"
            ),
            "list deployments by name": lambda: get(
                "/modelDeployments", compartmentId=compartment, displayName="bench-500"
            ),
            "get a work request": lambda: get(f"/workRequests/{next(asked)}"),
            "list 100 work requests": lambda: get(
                "/workRequests", compartmentId=compartment, limit="100"
            ),
            "list a deployment's work requests": lambda: get(
                "/workRequests", compartmentId=compartment, resourceId=next(deployments)
            ),
            "list the failed work requests": lambda: get(
                "/workRequests", compartmentId=compartment, status="FAILED"
            ),
            "list a work request's logs": lambda: get(f"/workRequests/{next(asked)}/logs"),
            "change a deployment's tags": lambda: ask(
                "PUT", f"/modelDeployments/{next(deployments)}", '{"freeformTags": {"a": "b"}}'
            ),
        }
        for name, call in calls.items():
            times = sorted(milliseconds(call) for _ in range(repeats))
            p50, p99 = percentile(times, 50), percentile(times, 99)
            print(f"{name:<36} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms", flush=True)


def milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def columns(row: Base) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in inspect(type(row)).column_attrs}


def chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    waiting = iter(rows)
    while some := list(itertools.islice(waiting, AT_ONCE)):
        yield some


if __name__ == "__main__":
    main()
