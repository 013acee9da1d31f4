"""The lease: which of the control planes of one database reconciles. Pure.

There is one lease. Its token grows each time it is acquired, which distinguishes the holder from
whoever acts on an older one. It ends by the database's clock, the only one that all share.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

TERM_S = 10.0
"""How long a lease lasts that is not renewed: longer than a control plane that dies takes to be
started again, so that a standby takes over from a home and not from a process."""
RENEW_EVERY_S = 1.0
MARGIN_S = 3.0
"""A holder stops acting this much before others may take the lease: for what it has begun, and for
clocks that do not run equally fast."""
MAX_GAP_S = 5.0
"""A standby that did not read the lease for longer has missed something: it slept, or the database
was away."""


class Role(StrEnum):
    """What a control plane is to the others of its database."""

    HOLDER = "holder"
    STANDBY = "standby"


@dataclass(frozen=True, slots=True)
class Lease:
    """``holder`` is a home's id, empty before anyone has held it; ``url`` is its server's address.

    ``expires`` is None for a lease without end: that of a database which only one home can reach.
    """

    holder: str = ""
    token: int = 0
    url: str = ""
    expires: datetime | None = None

    def is_held(self, now: datetime) -> bool:
        """Whether it has a holder at this moment of the database's clock."""
        return bool(self.holder) and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A control plane that would hold the lease: its home's id and its server's address.

    ``term_s`` is None where no other home can reach the database.
    """

    home_id: str
    url: str
    term_s: float | None = TERM_S


def acquire(lease: Lease, candidate: Candidate, now: datetime) -> Lease | None:
    """The lease, held by the candidate under a new token; None while another home holds it.

    A home may acquire what it holds itself: its control plane was restarted.
    """
    if candidate.term_s is not None and lease.holder != candidate.home_id and lease.is_held(now):
        return None
    return Lease(candidate.home_id, lease.token + 1, candidate.url, _end(candidate, now))


def renew(lease: Lease, candidate: Candidate, token: int, now: datetime) -> Lease | None:
    """The lease, extended; None if another has acquired it since. One that has merely run out is
    extended, too."""
    if lease.holder != candidate.home_id or lease.token != token:
        return None
    return replace(lease, url=candidate.url, expires=_end(candidate, now))


def acts_until(asked: float, term_s: float | None) -> float:
    """Until when a holder may act, on the clock that read ``asked`` before it renewed.

    The database sets the end of the term after that, so no other can have acquired it by then.
    """
    return float("inf") if term_s is None else asked + term_s - MARGIN_S


@dataclass(slots=True)
class LeaseObserver:
    """Watches the lease for a standby: it has expired only after a whole term without a renewal,
    all of it observed. After the database was away its holder gets the time to renew it first.

    Seconds of a clock that only goes forward.
    """

    _observed: Lease | None = None
    _since: float = 0.0
    _read_at: float = 0.0

    def has_expired_unrenewed(self, lease: Lease, now: float, term_s: float) -> bool:
        """Note what was read now; returns whether this very lease has been observed for a term."""
        has_gap = now - self._read_at > MAX_GAP_S
        if lease != self._observed or has_gap:
            self._observed, self._since = lease, now
        self._read_at = now
        return now - self._since >= term_s

    def interrupt(self) -> None:
        """The database could not be read: a renewal may have been missed."""
        self._observed = None


def _end(candidate: Candidate, now: datetime) -> datetime | None:
    return None if candidate.term_s is None else now + timedelta(seconds=candidate.term_s)
