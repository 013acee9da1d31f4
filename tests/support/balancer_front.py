"""The load balancer as its clients see it: a real Envoy, what publishes to it, and an API behind it
that says what it got.
"""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from tests.support.envoy_server import EnvoyServer, running_envoy, wait_until

from havre.api.refusals import drain_and_refuse, refusal_of
from havre.balancer.base import DEFAULT_TIMEOUTS, OpenTo, Timeouts
from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.domain.address import UnixAddress
from havre.domain.ocid import DEPLOYMENT_OCID_PATTERN, Kind, new_ocid, new_short_id
from havre.domain.route import Endpoint, Route


@dataclass
class Front:
    """The load balancer as its clients see it, and what is behind it."""

    server: EnvoyServer
    balancer: EnvoyBalancer

    def socket(self) -> Path:
        return self.server.home.instance_sockets / f"{new_short_id()}.sock"

    def route(self, *sockets: Path, max_requests: int = 8, bandwidth_mbps: int = 1000) -> str:
        """Publish a new deployment with these endpoints; its id."""
        deployment_id = new_ocid(Kind.DEPLOYMENT)
        endpoints = tuple(Endpoint(socket.stem, UnixAddress(socket)) for socket in sockets)
        self.balancer.publish(Route(deployment_id, "r1", endpoints, max_requests, bandwidth_mbps))
        return deployment_id

    def client(self) -> http.client.HTTPConnection:
        # Less than Envoy waits for a copy, unless a test says otherwise.
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/json"
        content = json.loads(self.body)
        more = {"opcRequestId", "logs"} if self.status == 500 else set()
        assert set(content) == {"code", "message"} | more
        if more:
            request_id = self.headers["opc-request-id"]
            assert content["opcRequestId"] == request_id != ""
            assert re.fullmatch(
                rf"havre logs {DEPLOYMENT_OCID_PATTERN} --request {request_id}", content["logs"]
            )
        assert content["message"]
        return str(content["code"])


def ask(
    client: http.client.HTTPConnection,
    path: str,
    *,
    method: str = "POST",
    body: object = b"{}",
    headers: dict[str, str] | None = None,
    chunked: bool = False,
) -> Answer:
    client.request(method, path, body, headers or {}, encode_chunked=chunked)
    return answer_of(client)


def answer_of(client: http.client.HTTPConnection) -> Answer:
    """To what was sent on it."""
    response = client.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, response.read())


def whole_answer(client: socket.socket) -> bytes:
    """What is answered on a connection, its body included, which may come later than its head."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(65536)
        if not piece:
            return received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    while length is not None and len(body) < int(length[1]):
        piece = client.recv(65536)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body


@contextmanager
def running_front(
    *, timeouts: Timeouts = DEFAULT_TIMEOUTS, names: tuple[str, ...] = (), **options: Any
) -> Iterator[Front]:
    """``names``: further hosts that it is open to; ``options`` are the balancer's."""
    with running_envoy(timeouts=timeouts) as server:
        open_to = OpenTo(server.port, "127.0.0.1", names)
        balancer = EnvoyBalancer(server.home, timeouts=timeouts, open_to=open_to, **options)
        balancer.start()
        api = uvicorn.Server(
            uvicorn.Config(
                _api, uds=str(server.home.api_socket), log_level="warning", lifespan="off"
            )
        )
        thread = threading.Thread(target=api.run)
        thread.start()
        wait_until(lambda: api.started)
        try:
            yield Front(server, balancer)
        finally:
            api.should_exit = True
            thread.join()
            balancer.stop()


async def _api(scope, receive, send) -> None:
    """The control plane, as far as routing goes: says which raw path it got."""
    if refusal := refusal_of(scope):
        await drain_and_refuse(refusal, receive, send)
        return
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    told = {"path": scope["raw_path"].decode(), "size": size, "headers": headers}
    body = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
