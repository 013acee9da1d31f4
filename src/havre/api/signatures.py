"""Every call of the API must be signed, where the server says so."""

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request as AsgiRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from havre.api.edge import is_upload
from havre.api.errors import error_response, http_exception_response
from havre.api.kinds import LIFESPAN, REQUEST, refuse_kind
from havre.auth.signature import KeyOf, Request, has_digest, verify
from havre.domain.errors import NotAuthenticated

OPEN = frozenset({"/healthz"})
"""For whatever watches the server: without a signature it says only whether the server is up, and
whether it is the holder.
"""
STRANGER = "havre.stranger"
"""In the scope of a request that was let in without a signature, where others need one."""
SIGNED_DIGEST = "havre.signed_digest"
"""In the scope of an upload: the hash that its signature covers."""
DIGEST = "x-content-sha256"
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Signatures:
    """Responds 401 to what is not signed by a registered key; the rest passes unchanged.

    Every client gets this far: ``verify`` bounds what it reads. ``tokens`` are
    paths that may be read with a bearer token instead.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        key_of: KeyOf,
        clock: Callable[[], datetime],
        tokens: Mapping[str, str],
    ) -> None:
        self._app = app
        self._key_of = key_of
        self._clock = clock
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == LIFESPAN:
            await self._app(scope, receive, send)
            return
        if scope["type"] != REQUEST:
            await refuse_kind(scope, receive, send)
            return
        request = _request(scope)
        if self._has_token(scope, request):
            await self._app(scope, receive, send)
            return
        signs_body = scope["method"] in WITH_BODY and not is_upload(scope)
        try:
            stated = verify(request, self._key_of, now=self._clock(), signs_body=signs_body)
            if signs_body:
                receive = await _checked(receive, request.headers[DIGEST])
            elif DIGEST in stated.headers:
                scope = {**scope, SIGNED_DIGEST: request.headers[DIGEST]}
        except NotAuthenticated as error:
            if scope["path"] in OPEN:
                await self._app({**scope, STRANGER: True}, receive, send)
                return
            await error_response(401, error.code, error.message)(scope, receive, send)
            return
        except HTTPException as error:  # the body is too large
            response = await http_exception_response(AsgiRequest(scope), error)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_token(self, scope: Scope, request: Request) -> bool:
        token = self._tokens.get(scope["path"])
        if "authorization" in request.repeated:
            return False
        stated = request.headers.get("authorization", "")
        return token is not None and hmac.compare_digest(
            stated.encode(), f"Bearer {token}".encode()
        )


def _request(scope: Scope) -> Request:
    query = scope.get("query_string", b"")
    target = scope["raw_path"] + (b"?" + query if query else b"")
    headers: dict[str, str] = {}
    repeated = set()
    for raw_name, value in scope["headers"]:
        name = raw_name.decode("latin-1")
        if name in headers:
            repeated.add(name)
        headers[name] = value.decode("latin-1")
    return Request(scope["method"], target.decode("latin-1"), headers, frozenset(repeated))


async def _checked(receive: Receive, digest: str) -> Receive:
    """The body read (the edge bounds it), compared with its signed hash, and handed on."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    if not has_digest(bytes(body), digest):
        raise NotAuthenticated("x-content-sha256 is not the hash of the body")
    is_replayed = False

    async def again() -> Message:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return again
