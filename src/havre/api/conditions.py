"""Headers by which a client says under what conditions a call should act: if-match, retry token."""

import hashlib
from typing import Annotated, Protocol

from fastapi import Depends, Header

from havre.contract.base import RequestModel
from havre.domain.errors import EtagMismatch, InvalidParameter

LONGEST_TOKEN = 64

IfMatch = Annotated[str | None, Header(alias="if-match")]


class Versioned(Protocol):
    """Every row that has an etag."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...


def etag_of(row: Versioned) -> str:
    """Changes with every change of the row, and is never the same for two rows."""
    return f"{row.id[-12:]}-{row.version}"


def require_match(if_match: str | None, row: Versioned) -> None:
    """Raises EtagMismatch when the row is not the one the client has seen.

    Call it inside the transaction that changes the row, once the row is held.
    """
    if if_match is None:
        return
    stated = {part.strip().removeprefix("W/").strip('"') for part in if_match.split(",")}
    if not stated & {"*", etag_of(row)}:
        raise EtagMismatch(
            f"{row.id} has changed since it was read: its etag is {etag_of(row)}; "
            "read it again and repeat the change"
        )


async def _retry_token(
    token: Annotated[str | None, Header(alias="opc-retry-token")] = None,
) -> str | None:
    if token is None or not token:
        return None
    if len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise InvalidParameter(f"opc-retry-token must be at most {LONGEST_TOKEN} ASCII characters")
    return token


RetryToken = Annotated[str | None, Depends(_retry_token)]


def digest_of(body: RequestModel, *path: str) -> str:
    """Names a request for the comparison of retry tokens."""
    return hashlib.sha256("\n".join([*path, body.digest_text()]).encode()).hexdigest()
