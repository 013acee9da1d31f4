"""Headers by which a client says under what conditions a call should act: if-match, if-none-match,
retry token."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import Depends, Header
from sqlalchemy.orm import Session

from havre.api.services import Services
from havre.contract.base import RequestModel
from havre.domain.errors import EtagMismatch, InvalidParameter
from havre.store.retry_tokens import Receipt, run_once

MAX_TOKEN_LENGTH = 64

IfMatch = Annotated[str | None, Header(alias="if-match")]

IfNoneMatch = Annotated[str | None, Header(alias="if-none-match")]


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


def claims_name(if_none_match: str | None) -> bool:
    """Whether a create is for a name that nothing has: ``if-none-match: *``.

    Raises InvalidParameter for anything but the asterisk: what does not exist has no etag.
    """
    if if_none_match is None:
        return False
    if if_none_match.strip() != "*":
        raise InvalidParameter("if-none-match must be * where something is created")
    return True


async def _retry_token(
    token: Annotated[str | None, Header(alias="opc-retry-token")] = None,
) -> str | None:
    if token is None or not token:
        return None
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise InvalidParameter(
            f"opc-retry-token must be at most {MAX_TOKEN_LENGTH} ASCII characters"
        )
    return token


RetryToken = Annotated[str | None, Depends(_retry_token)]


@contextmanager
def created(
    here: Services,
    token: str | None,
    body: RequestModel | str,
    operation: str,
    act: Callable[[Session, datetime], Receipt],
    *path: str,
) -> Iterator[tuple[Session, Receipt]]:
    """The one transaction of a create: what ``act`` has made, or what it made for this retry token
    before. It is committed when the block is left.

    ``body`` (or a text that stands for it) and the ids in its ``path`` are the request: raises
    RetryTokenInvalid if the token was used for another one.
    """
    now = here.clock()
    text = body if isinstance(body, str) else body.digest_text()
    with here.database.write() as session:
        receipt = run_once(
            session,
            token,
            operation=operation,
            request_digest=hashlib.sha256("\n".join([*path, text]).encode()).hexdigest(),
            now=now,
            act=lambda: act(session, now),
        )
        yield session, receipt
