"""Refusals that must read a body away first.

A client that is still sending does not see an answer on a connection that is closed under it. The
load balancer can hold a small body before it refuses, but not a large one, so it sends those here:
to ``/_refused/<status>``, a path that no client can name. The body is read in pieces and dropped.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

READ_AT_MOST = 1024**3
"""Bytes read for the sake of an answer; a client that sends more is cut."""

_REFUSALS = {
    "413": ("PayloadTooLarge", "The body of a prediction is at most 10 MB."),
}
_NOT_FOUND = ("404", ("NotAuthorizedOrNotFound", "No such resource."))


async def refusals(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application for paths that begin with ``/_refused/``."""
    stated = str(scope["path"]).rpartition("/")[2]
    status, (code, message) = (stated, _REFUSALS[stated]) if stated in _REFUSALS else _NOT_FOUND
    if not await _read_away(receive):
        return
    body = json.dumps({"code": code, "message": message}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _read_away(receive: Receive) -> bool:
    """Whether the client sent its whole body and waits for an answer."""
    size = 0
    while size <= READ_AT_MOST:
        message = await receive()
        if message["type"] != "http.request":
            return False
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return True
