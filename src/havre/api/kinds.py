"""Kinds of connections: the API serves requests, and refuses what it does not know.

A layer that passes on what it does not know lets it past every check of the layers.
"""

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

REQUEST = "http"
LIFESPAN = "lifespan"
"""Not from a client: the server begins and ends."""
POLICY_VIOLATION = 1008


async def refuse_kind(scope: Scope, receive: Receive, send: Send) -> None:
    """Close a WebSocket before it is open: its client gets 403. Raises RuntimeError for any other
    kind; the server cuts that connection.
    """
    if scope["type"] != "websocket":
        raise RuntimeError(f"the API does not serve connections of the kind {scope['type']!r}")
    await WebSocketClose(POLICY_VIOLATION, "there are no WebSockets here")(scope, receive, send)
