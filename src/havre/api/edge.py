"""What happens to every request before routing and after: ids, paths, limits, last resort.

Plain ASGI: it sees each request once and copies nothing but one chunk at a time.
"""

import logging
import re
import secrets

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from havre.api.errors import error_response, unexpected_response
from havre.api.kinds import LIFESPAN, REQUEST, refuse_kind
from havre.api.refusals import drain_and_refuse, refusal_of
from havre.domain.api_versions import API_VERSIONS
from havre.domain.errors import InvalidParameter

MAX_BODY_BYTES = 5 * 1024**2
MAX_REQUEST_ID = 128
MAX_TARGET_BYTES = 16 * 1024
"""Of a path and its query."""
REQUEST_ID = "opc-request-id"

_VERSIONED = re.compile(rf"^.*?(/(?:{'|'.join(API_VERSIONS)})(?:/.*)?)$", re.DOTALL)
_UPLOAD = re.compile(
    r"/20190101/models/[^/]+/(?:artifact|(?:custom|defined)Metadata/.+/artifact)", re.DOTALL
)
_UNFIT_FOR_AN_ID = re.compile(r"[^A-Za-z0-9._/:-]")

_log = logging.getLogger(__name__)


class Edge:
    """The outermost layer of the API."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == LIFESPAN:
            await self._app(scope, receive, send)
            return
        if scope["type"] != REQUEST:
            await refuse_kind(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope = {**scope, "path": clean_path(scope["path"]), "havre.request_id": request_id}
        has_started = False
        query = scope.get("query_string", b"")

        async def send_with_id(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        if refusal := refusal_of(scope):
            await drain_and_refuse(refusal, receive, send_with_id)
            return
        if len(scope.get("raw_path", b"")) + len(query) > MAX_TARGET_BYTES:
            message = f"the path and query may have {MAX_TARGET_BYTES} bytes"
            await error_response(414, "UriTooLong", message)(scope, receive, send_with_id)
            return
        if "\x00" in scope["path"] or b"%00" in query:
            message = "the path and query may not contain NUL characters"
            await error_response(400, InvalidParameter.code, message)(scope, receive, send_with_id)
            return
        try:
            await self._app(scope, _bounded(scope, receive), send_with_id)
        except Exception:
            _log.exception("%s %s (%s) failed", scope["method"], scope["path"], request_id)
            if has_started:
                raise  # the server cuts the connection: half a response must not look whole
            await unexpected_response(request_id)(scope, receive, send_with_id)


def clean_path(path: str) -> str:
    """Without what endpoints of clients put before an API version, or duplicate slashes."""
    if match := _VERSIONED.match(path):
        return match[1]
    return "/" + path.lstrip("/")


def is_upload(scope: Scope) -> bool:
    """Whether the body is an artifact's bytes: as long as it likes, and never in memory."""
    return scope["method"] in {"POST", "PUT"} and _UPLOAD.fullmatch(scope["path"]) is not None


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID.encode():
            stated = _UNFIT_FOR_AN_ID.sub("", value[:1024].decode("latin-1"))[:MAX_REQUEST_ID]
            if stated:
                return stated
    return secrets.token_hex(16).upper()


def _bounded(scope: Scope, receive: Receive) -> Receive:
    if is_upload(scope):
        return receive
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                # This kind of exception alone passes through the framework's body parser.
                raise HTTPException(413, f"a body may have {MAX_BODY_BYTES} bytes")
        return message

    return receive_bounded
