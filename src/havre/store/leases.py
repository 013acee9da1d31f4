"""The lease in the database: acquired, renewed, and required by every transaction of its holder.

Each function works inside the caller's transaction. A transaction that requires the token keeps
the lease from being acquired by another until it ends; renewing does not disturb it.
"""

from datetime import UTC, datetime

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from havre.domain import lease as rules
from havre.domain.errors import LeaseLost
from havre.domain.lease import Candidate, Lease
from havre.domain.states import WorkRequestState
from havre.store.schema import Deployment, InstanceRecord, LeaseRow, Revision, WorkRequest

_ROW_ID = 1


def current(session: Session) -> tuple[Lease, datetime]:
    """The lease as it stands, and the moment by the database's clock."""
    return _lease(session.get_one(LeaseRow, _ROW_ID)), database_now(session)


def acquire(session: Session, candidate: Candidate) -> Lease | None:
    """Become the holder; None while another home is.

    Another home's records of its instances are deleted in the same transaction: they run where this
    one cannot reach them, and it starts its own.
    """
    row = session.get_one(LeaseRow, _ROW_ID, with_for_update=True)
    before = _lease(row)
    acquired = rules.acquire(before, candidate, database_now(session))
    if acquired is None:
        return None
    _write(row, acquired)
    if before.holder and before.holder != candidate.home_id:
        session.execute(delete(InstanceRecord))
        session.execute(delete(Revision))
        session.execute(update(Deployment).values(current_instances=0))
    return acquired


def renew(session: Session, candidate: Candidate, token: int) -> Lease | None:
    """Extend the lease; None if another has acquired it since."""
    row = session.get_one(LeaseRow, _ROW_ID, with_for_update={"key_share": True})
    renewed = rules.renew(_lease(row), candidate, token, database_now(session))
    if renewed is not None:
        _write(row, renewed)
    return renewed


def require(session: Session, token: int) -> None:
    """Keep the lease under this token until the transaction ends. Raises LeaseLost."""
    statement = select(LeaseRow.token).with_for_update(read=True, key_share=True)
    current_token = session.scalars(statement).one()
    if current_token != token:
        raise LeaseLost(
            f"another control plane has acquired the lease (token {current_token}, not {token}): "
            "nothing was changed"
        )


def pending(session: Session) -> list[str]:
    """Deployments, by id, with a change or a cancellation that the reconciler has not begun."""
    return list(
        session.scalars(
            select(Deployment.id)
            .join(WorkRequest, WorkRequest.id == Deployment.work_request_id)
            .where(WorkRequest.status.in_([WorkRequestState.ACCEPTED, WorkRequestState.CANCELING]))
        )
    )


def database_now(session: Session) -> datetime:
    """The moment by the database's own clock; it goes on within a transaction, too."""
    if session.get_bind().dialect.name == "postgresql":
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now.astimezone(UTC)
    formatted: str = session.execute(
        text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")
    ).scalar_one()
    return datetime.fromisoformat(formatted).replace(tzinfo=UTC)


def _lease(row: LeaseRow) -> Lease:
    return Lease(row.holder, row.token, row.url, row.expires)


def _write(row: LeaseRow, lease: Lease) -> None:
    row.holder, row.token = lease.holder, lease.token
    row.url, row.expires = lease.url, lease.expires
