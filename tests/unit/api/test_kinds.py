"""Connections that are no requests, in front of an API that would serve them."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from havre.api.edge import Edge
from havre.api.signatures import Signatures

LAYERS: list[Callable[[ASGIApp], ASGIApp]] = [
    Edge,
    lambda app: Signatures(app, key_of=lambda _: None, clock=lambda: datetime.now(UTC), tokens={}),
]
both = pytest.mark.parametrize("layer", LAYERS, ids=["edge", "signatures"])


@pytest.fixture
def reached() -> list[str]:
    return []


@pytest.fixture
def app(reached: list[str]) -> Starlette:
    async def open_socket(socket: WebSocket) -> None:
        reached.append(socket.url.path)
        await socket.accept()
        await socket.close()

    return Starlette(routes=[WebSocketRoute("/console/live", open_socket)])


@both
def test_a_websocket_is_closed_before_it_is_open(
    app: Starlette, reached: list[str], layer: Callable[[ASGIApp], ASGIApp]
) -> None:
    app.user_middleware.append(Middleware(layer))
    client = TestClient(app)
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/console/live", headers={"authorization": "Signature x"}),
    ):
        pass
    assert refused.value.code == 1008
    assert reached == []


@both
def test_a_kind_that_nobody_knows_is_not_passed_on(
    layer: Callable[[ASGIApp], ASGIApp],
) -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        passed.append(scope)

    async def never(*_: Any) -> Any:
        pytest.fail("nothing is read and nothing is sent")

    with pytest.raises(RuntimeError, match="'webtransport'"):
        asyncio.run(layer(app)({"type": "webtransport", "headers": []}, never, never))
    assert passed == []


@both
def test_the_server_may_begin_and_end(layer: Callable[[ASGIApp], ASGIApp]) -> None:
    passed: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        passed.append(scope)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with TestClient(layer(app)):
        pass
    assert [scope["type"] for scope in passed] == ["lifespan"]
