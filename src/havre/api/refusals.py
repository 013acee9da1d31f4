"""Refusals that must drain the body first.

A client that is still sending does not see a response on a connection that is closed under it. The
load balancer can hold a small body before it refuses, but not a large one, so it sends those here
and names the refusal in a header, which it removes from what clients send. The body is read in
pieces and discarded.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from havre.balancer.refusals import REFUSAL_HEADER, REFUSALS, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_DRAINED_BYTES = 1024**3
"""Read before the response is sent; a client that sends more is cut."""

_HEADER = REFUSAL_HEADER.encode()


def refusal_of(scope: Scope) -> Refusal | None:
    """Which refusal the load balancer wants for this request, if any."""
    for name, value in scope["headers"]:
        if name == _HEADER:
            return REFUSALS.get(value.decode("latin-1"))
    return None


async def drain_and_refuse(refusal: Refusal, receive: Receive, send: Send) -> None:
    """Respond once the client has sent its whole body."""
    if not await _drain(receive):
        return
    body = json.dumps({"code": refusal.code, "message": refusal.message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drain(receive: Receive) -> bool:
    """Whether the client sent its whole body and waits for a response."""
    size = 0
    while size <= MAX_DRAINED_BYTES:
        message = await receive()
        if message["type"] != "http.request":
            return False
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return True
