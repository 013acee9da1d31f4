"""Calls carried out once: a retried create gets the first response instead of creating again."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from havre.domain.errors import RetryTokenInvalid
from havre.store.schema import RetryToken

KEPT_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a call created: enough to send the same response again."""

    resource_id: str
    work_request_id: str | None = None


def run_once(
    session: Session,
    token: str | None,
    *,
    operation: str,
    request_digest: str,
    now: datetime,
    act: Callable[[], Receipt],
) -> Receipt:
    """Run ``act``, or return what it created if the token was used within 24 hours.

    The token is claimed before anything is created, in the caller's transaction: of two calls at
    the same time the second waits for the first and finds its receipt. Raises RetryTokenInvalid if
    the token was used for another request.
    """
    if token is None:
        return act()
    session.execute(delete(RetryToken).where(RetryToken.time_created < now - KEPT_FOR))
    if not _claim(session, token, operation, request_digest, now):
        return _recall(session, token, operation, request_digest)
    receipt = act()
    session.execute(
        update(RetryToken)
        .where(RetryToken.token == token, RetryToken.operation == operation)
        .values(resource_id=receipt.resource_id, work_request_id=receipt.work_request_id)
    )
    return receipt


def is_known(session: Session, token: str | None, operation: str) -> bool:
    """Whether a call with this token was carried out before."""
    return token is not None and session.get(RetryToken, (token, operation)) is not None


def _claim(
    session: Session, token: str, operation: str, request_digest: str, now: datetime
) -> bool:
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    claimed = session.execute(
        dialect.insert(RetryToken)
        .values(
            token=token,
            operation=operation,
            request_digest=request_digest,
            resource_id="",
            time_created=now,
        )
        .on_conflict_do_nothing()
        .returning(RetryToken.token)
    )
    return claimed.first() is not None


def _recall(session: Session, token: str, operation: str, request_digest: str) -> Receipt:
    known = session.get_one(RetryToken, (token, operation))
    if known.request_digest != request_digest:
        raise RetryTokenInvalid(
            "this opc-retry-token was used within 24 hours for another request; use a fresh one"
        )
    return Receipt(known.resource_id, known.work_request_id)
