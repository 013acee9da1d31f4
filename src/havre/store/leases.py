"""The lease in the database: taken, renewed, and asked for by every transaction that needs it.

Each function works inside the caller's transaction. A transaction that has asked for the token
keeps the lease from being taken until it ends; renewing disturbs it not.
"""

from datetime import UTC, datetime

from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from havre.domain import lease as rules
from havre.domain.errors import LeaseLost
from havre.domain.lease import Applicant, Lease
from havre.domain.states import WorkRequestState
from havre.store.schema import Deployment, InstanceRecord, LeaseRow, Revision, WorkRequest

_ONE = 1


def current(session: Session) -> tuple[Lease, datetime]:
    """The lease as it stands, and the moment by the database's clock."""
    return _lease(session.get_one(LeaseRow, _ONE)), database_now(session)


def take(session: Session, by: Applicant) -> Lease | None:
    """Become the holder; None while another home is.

    What another home has recorded of its instances is forgotten in the same transaction: they run
    where this one cannot see them, and it starts its own.
    """
    row = session.get_one(LeaseRow, _ONE, with_for_update=True)
    before = _lease(row)
    taken = rules.take(before, by, database_now(session))
    if taken is None:
        return None
    _write(row, taken)
    if before.holder and before.holder != by.home_id:
        session.execute(delete(InstanceRecord))
        session.execute(delete(Revision))
        session.execute(update(Deployment).values(current_instances=0))
    return taken


def renew(session: Session, by: Applicant, token: int) -> Lease | None:
    """Prolong the lease; None if it was taken since."""
    row = session.get_one(LeaseRow, _ONE, with_for_update={"key_share": True})
    renewed = rules.renew(_lease(row), by, token, database_now(session))
    if renewed is not None:
        _write(row, renewed)
    return renewed


def require(session: Session, token: int) -> None:
    """Keep the lease under this token until the transaction ends. Raises LeaseLost."""
    statement = select(LeaseRow.token).with_for_update(read=True, key_share=True)
    now = session.scalars(statement).one()
    if now != token:
        raise LeaseLost(
            f"another control plane has taken the lease (token {now}, not {token}): "
            "nothing was changed"
        )


def waiting(session: Session) -> list[str]:
    """Deployments, by id, with a wish that the reconciler has not taken up."""
    return list(
        session.scalars(
            select(Deployment.id)
            .join(WorkRequest, WorkRequest.id == Deployment.work_request_id)
            .where(WorkRequest.status.in_([WorkRequestState.ACCEPTED, WorkRequestState.CANCELING]))
        )
    )


def database_now(session: Session) -> datetime:
    """The moment by the database's own clock, while a transaction goes on, too."""
    if session.get_bind().dialect.name == "postgresql":
        now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        return now.astimezone(UTC)
    told: str = session.execute(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")).scalar_one()
    return datetime.fromisoformat(told).replace(tzinfo=UTC)


def _lease(row: LeaseRow) -> Lease:
    return Lease(row.holder, row.token, row.url, row.expires)


def _write(row: LeaseRow, lease: Lease) -> None:
    row.holder, row.token = lease.holder, lease.token
    row.url, row.expires = lease.url, lease.expires
