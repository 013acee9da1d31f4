"""Whatever a stranger sends is answered in no time, signed or not."""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from tests.support.worst_runs import LENGTH, LIMIT_S, RUNS, cost_s
from tests.unit.auth.test_signature import KEY, KEY_ID, NOW, signed

from havre.api.conditions import require_match
from havre.api.downloads import parse_range
from havre.api.edge import MAX_TARGET_BYTES, Edge, clean_path
from havre.api.signatures import Signatures
from havre.api.uploads import file_name
from havre.domain.errors import HavreError
from havre.domain.ocid import Kind, is_ocid
from havre.domain.resource_query import MAX_QUERY_LENGTH as MAX_RESOURCE_QUERY_LENGTH
from havre.domain.resource_query import read_resource_query
from havre.queries import mql_parser
from havre.queries.log_parser import MAX_QUERY_LENGTH, parse_query
from havre.store.paging import Order, read_page
from havre.store.schema import Deployment

ORDER = Order("timeCreated", Deployment.time_created, Deployment.id)
SESSION: Any = SimpleNamespace(get_bind=lambda: SimpleNamespace(dialect=SimpleNamespace(name="")))
ROW: Any = SimpleNamespace(id="ocid1.x", version=1)
SEARCH = "query datasciencemodeldeployment resources where "


def page(token: str) -> object:
    return read_page(SESSION, None, ORDER, limit=1, token=token)  # type: ignore[arg-type]


PARSERS: dict[str, Callable[[str], object]] = {
    "path": clean_path,
    "range": lambda run: parse_range(run, 10),
    "range, begun": lambda run: parse_range(f"bytes={run}", 10),
    "if-match": lambda run: require_match(run, ROW),
    "page": page,
    "content-disposition": lambda run: file_name(run, "m", ".zip"),
    "content-disposition, begun": lambda run: file_name(f'filename="{run}', "m", ".zip"),
    "search": read_resource_query,
    "search, begun": lambda run: read_resource_query(SEARCH + run),
    "search, with an end": lambda run: read_resource_query(f"{SEARCH}x{run}x"),
    "metrics query": mql_parser.parse,
    "duration": mql_parser.parse_duration,
    "log query": parse_query,
    "ocid": lambda run: is_ocid(f"ocid1.model.oc1..{run}!", Kind.MODEL),
}


def quietly(act: Callable[[], object]) -> None:
    """It may refuse, in our words."""
    try:
        act()
    except (HavreError, HTTPException):
        pass


@pytest.mark.parametrize("what", PARSERS)
def test_no_text_costs_a_parser_much(what: str) -> None:
    for run in RUNS:
        took_s = cost_s(lambda run=run: quietly(lambda: PARSERS[what](run)))  # type: ignore[misc]
        assert took_s < LIMIT_S, run[:20]


def test_no_query_that_may_be_sent_costs_a_parser_much() -> None:
    """They are read token by token; ten thousand characters are many tokens."""
    for run in RUNS:
        for parse, longest in (
            (mql_parser.parse, mql_parser.MAX_QUERY_LENGTH),
            (parse_query, MAX_QUERY_LENGTH),
            (read_resource_query, MAX_RESOURCE_QUERY_LENGTH),
        ):
            text = run[:longest]
            took_s = cost_s(lambda parse=parse, text=text: quietly(lambda: parse(text)))  # type: ignore[misc]
            assert took_s < 10 * LIMIT_S, run[:20]


async def answer_ok(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def guarded() -> Edge:
    known = {KEY_ID: KEY.public_key()}
    tokens = {"/metrics": "secret"}
    return Edge(Signatures(answer_ok, key_of=known.get, clock=lambda: NOW, tokens=tokens))


EDGE = guarded()


def ask(
    path: bytes = b"/20190101/models",
    query: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> int:
    """The status of what is answered to a GET."""
    statuses: list[int] = []
    scope = {"type": "http", "method": "GET", "path": path.decode("latin-1"), "raw_path": path}
    scope |= {"query_string": query, "headers": list(headers)}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    with contextlib.suppress(StopIteration):  # it waits for nothing
        EDGE(scope, receive, send).send(None)
    return statuses[0]


HEADERS = (
    "authorization",
    "date",
    "x-date",
    "host",
    "opc-request-id",
    "x-content-sha256",
    "cookie",
)


def as_sent(**changes: str) -> tuple[tuple[bytes, bytes], ...]:
    headers = {
        **SIGNED.headers,
        **{k.replace("_", "-"): v for k, v in changes.items()},
    }
    return tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())


SIGNED = signed("GET", None)
TARGET = SIGNED.target.encode()
PATH, _, QUERY = TARGET.partition(b"?")


def test_a_signed_request_is_let_in() -> None:
    assert ask(PATH, QUERY, as_sent()) == 200


@pytest.mark.parametrize("name", HEADERS)
def test_no_header_costs_the_api_much(name: str) -> None:
    for run in RUNS:
        headers = as_sent(**{name: run})
        assert cost_s(lambda headers=headers: ask(PATH, QUERY, headers)) < LIMIT_S, run[:20]  # type: ignore[misc]


def test_a_path_and_query_are_bounded() -> None:
    longest = MAX_TARGET_BYTES - len(b"/20190101/models")
    assert ask(query=b"x" * longest) == 401
    assert ask(query=b"x" * (longest + 1)) == 414
    assert ask(b"/20190101/" + b"x" * MAX_TARGET_BYTES) == 414
    for run in RUNS:
        text = run.encode("latin-1")[:LENGTH]
        assert cost_s(lambda text=text: ask(b"/" + text)) < LIMIT_S  # type: ignore[misc]
        assert cost_s(lambda text=text: ask(query=text)) < LIMIT_S  # type: ignore[misc]


@pytest.mark.parametrize("name", ["authorization", "date", "host"])
def test_what_is_signed_comes_once(name: str) -> None:
    headers = as_sent()
    (own,) = (header for header in headers if header[0] == name.encode())
    assert ask(PATH, QUERY, (*headers, own)) == 401
    assert ask(PATH, QUERY, ((own[0], b"x"), *headers)) == 401
    assert ask(PATH, QUERY, (*headers, (b"accept", b"a"), (b"accept", b"b"))) == 200


def test_a_token_comes_once() -> None:
    bearer = (b"authorization", b"Bearer secret")
    assert ask(b"/metrics", headers=(bearer,)) == 200
    assert ask(b"/metrics", headers=(bearer, bearer)) == 401
    assert ask(b"/metrics", headers=((b"authorization", b"x"), bearer)) == 401
    assert ask(b"/metrics", headers=((b"authorization", "Bearer sécret".encode("latin-1")),)) == 401
