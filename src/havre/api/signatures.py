"""Every call of the API must be signed, where the server says so."""

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request as AsgiRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from havre.api.edge import REFUSED, is_upload
from havre.api.errors import answer_http_exception, error_response
from havre.auth.signature import KeyOf, Request, has_digest, verify
from havre.domain.errors import NotAuthenticated

OPEN = frozenset({"/healthz"})
"""Asked by whatever watches the server; it tells nothing but whether it is up."""
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Signatures:
    """Answers 401 to what is not signed by a registered key; the rest passes unchanged.

    ``tokens`` are paths that may be read with a bearer token instead.
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
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(REFUSED):
            await self._app(scope, receive, send)
            return
        request = _request(scope)
        if self._has_token(scope, request):
            await self._app(scope, receive, send)
            return
        signs_body = scope["method"] in WITH_BODY and not is_upload(scope)
        try:
            verify(request, self._key_of, now=self._clock(), signs_body=signs_body)
            if signs_body:
                receive = await _checked(receive, request.headers["x-content-sha256"])
        except NotAuthenticated as error:
            await error_response(401, error.code, error.message)(scope, receive, send)
            return
        except HTTPException as error:  # the body is too large
            answer = await answer_http_exception(AsgiRequest(scope), error)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _has_token(self, scope: Scope, request: Request) -> bool:
        token = self._tokens.get(scope["path"])
        stated = request.headers.get("authorization", "")
        return token is not None and hmac.compare_digest(
            stated.encode(), f"Bearer {token}".encode()
        )


def _request(scope: Scope) -> Request:
    query = scope.get("query_string", b"")
    target = scope["raw_path"] + (b"?" + query if query else b"")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return Request(scope["method"], target.decode("latin-1"), headers)


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
    is_told = False

    async def again() -> Message:
        nonlocal is_told
        if is_told:
            return await receive()
        is_told = True
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    return again
