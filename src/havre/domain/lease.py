"""The lease: which of the control planes of one database reconciles. Pure.

There is one lease. Its token grows with every taking, so that whoever acts on an older one can be
told from the holder. Its end is a moment of the database's clock, the only one that all share.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

TERM_S = 10.0
"""How long a lease lasts that is not renewed: longer than a control plane that dies takes to be
started again, so that a standby takes over from a home and not from a process."""
RENEW_EVERY_S = 1.0
MARGIN_S = 3.0
"""A holder stops acting this much before others may take the lease: for what it has in hand, and
for clocks that do not run equally fast."""
LOOKS_AT_LEAST_EVERY_S = 5.0
"""A standby that looked more rarely than that has not watched: it slept, or the database did."""


class Role(StrEnum):
    """What a control plane is to the others of its database."""

    HOLDER = "holder"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Lease:
    """``holder`` is a home's id, empty before the first taking; ``url`` is where its server is.

    ``expires`` is None for a lease without end: that of a database which only one home can reach.
    """

    holder: str = ""
    token: int = 0
    url: str = ""
    expires: datetime | None = None

    def is_held(self, now: datetime) -> bool:
        """Whether somebody holds it at this moment of the database's clock."""
        return bool(self.holder) and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class Applicant:
    """A control plane that would hold the lease: its home's id and its server's address.

    ``term_s`` is None where no other home can reach the database.
    """

    home_id: str
    url: str
    term_s: float | None = TERM_S


def take(lease: Lease, by: Applicant, now: datetime) -> Lease | None:
    """The lease in the applicant's hands, under a new token; None while another home holds it.

    A home takes what it holds itself: its control plane has been started anew.
    """
    if by.term_s is not None and lease.holder != by.home_id and lease.is_held(now):
        return None
    return Lease(by.home_id, lease.token + 1, by.url, _end(by, now))


def renew(lease: Lease, by: Applicant, token: int, now: datetime) -> Lease | None:
    """The lease prolonged; None if it was taken since. One that ran out unnoticed is prolonged."""
    if lease.holder != by.home_id or lease.token != token:
        return None
    return replace(lease, url=by.url, expires=_end(by, now))


def acts_until(asked: float, term_s: float | None) -> float:
    """Until when a holder may act, on the clock that read ``asked`` before it asked to renew.

    The database set the end later than that, so that this is before anybody else's turn.
    """
    return float("inf") if term_s is None else asked + term_s - MARGIN_S


@dataclass(slots=True)
class Watch:
    """A standby's patience: a lease is given up for lost only after a whole term without a renewal,
    all of it watched. After the database was away its holder gets the time to renew it first.

    Seconds of a clock that only goes forward.
    """

    _seen: Lease | None = None
    _since: float = 0.0
    _looked: float = 0.0

    def has_waited(self, lease: Lease, now: float, term_s: float) -> bool:
        """Take note of a look; whether this very lease has been watched for a term."""
        has_missed = now - self._looked > LOOKS_AT_LEAST_EVERY_S
        if lease != self._seen or has_missed:
            self._seen, self._since = lease, now
        self._looked = now
        return now - self._since >= term_s

    def interrupt(self) -> None:
        """The database could not be asked: what was renewed meanwhile is not known."""
        self._seen = None


def _end(by: Applicant, now: datetime) -> datetime | None:
    return None if by.term_s is None else now + timedelta(seconds=by.term_s)
