"""Who reconciles: acquires the lease, renews it, loses it; starts and stops the reconciler with it.

One thread reads the lease once a second. The holder's also finds the changes that were requested at
a standby. Where no other home can reach the database the lease is acquired once.
"""

import logging
import threading
from collections.abc import Callable

from havre.domain import lease as rules
from havre.domain.errors import HavreError
from havre.domain.lease import RENEW_EVERY_S, Candidate, Lease, LeaseObserver, Role
from havre.reconciler.fence import Fence, clock_s
from havre.reconciler.loop import Reconciler
from havre.reconciler.standby import StandbyDrain, not_yet_served_by_holder
from havre.store import leases
from havre.store.database import Database

logger = logging.getLogger(__name__)


class LeaderElection:
    """``candidate`` returns who we are, and our present address. ``make_reconciler`` is called for
    each period as the holder, ``make_standby_drain`` for each as a standby.

    ``clock`` is in seconds and only goes forward.
    """

    def __init__(
        self,
        database: Database,
        candidate: Callable[[], Candidate],
        make_reconciler: Callable[[Fence], Reconciler],
        make_standby_drain: Callable[[], StandbyDrain],
        clock: Callable[[], float] = clock_s,
    ) -> None:
        self._database = database
        self._candidate = candidate
        self._make_reconciler = make_reconciler
        self._make_standby_drain = make_standby_drain
        self._clock = clock
        self._holding: tuple[Fence, Reconciler] | None = None
        self._has_held = False
        self._is_settled = False
        self._holder_url = ""
        self._observer = LeaseObserver()
        self._standby_drain = make_standby_drain()
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leader-election", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Reconcile no more. The lease is left to run out, or to this home's next control plane."""
        self._stopping.set()
        self._thread.join(timeout=2 * RENEW_EVERY_S)
        if self._holding is not None:
            self._holding[1].stop()

    def wake(self, deployment_id: str) -> None:
        """A hint that a deployment has changed; the holder elsewhere finds out by itself."""
        if (holding := self._holding) is not None:
            holding[1].wake(deployment_id)

    @property
    def role(self) -> Role:
        return Role.STANDBY if self._holding is None else Role.HOLDER

    @property
    def url(self) -> str:
        """Where deployments are served: the holder's address, as far as is known."""
        if self._holding is None and self._holder_url:
            return self._holder_url
        return self._candidate().url

    def step(self) -> None:
        """Acquire or renew the lease, or watch it. Raises HavreError when the database refuses."""
        if self._holding is None:
            self._stand_by(self._candidate())
        else:
            self._hold(self._candidate(), *self._holding)

    def _run(self) -> None:
        while not (self._stopping.is_set() or self._is_settled):
            try:
                self.step()
                self._log_once("")
            except HavreError as error:
                self._observer.interrupt()
                self._log_once(error.message)
            except Exception:
                self._observer.interrupt()
                logger.exception("the leader election failed")
            self._stopping.wait(RENEW_EVERY_S)

    def _hold(self, candidate: Candidate, fence: Fence, reconciler: Reconciler) -> None:
        asked = self._clock()
        with self._database.write() as session:
            renewed = leases.renew(session, candidate, fence.token)
            pending = leases.pending(session)
        if renewed is None:
            logger.warning(
                "another control plane has acquired the lease: this one is a standby now"
            )
            fence.close()
            self._holding = None
            self._standby_drain = self._make_standby_drain()
            reconciler.stop()
            return
        fence.extend(rules.acts_until(asked, candidate.term_s))
        for deployment_id in pending:
            reconciler.wake(deployment_id)

    def _stand_by(self, candidate: Candidate) -> None:
        with self._database.read() as session:
            lease, now = leases.current(session)
            not_yet_served = not_yet_served_by_holder(session)
        is_ours = lease.holder == candidate.home_id
        self._holder_url = "" if is_ours else lease.url
        if self._may_acquire(lease, candidate, is_held=lease.is_held(now)):
            self._acquire(candidate)
        elif not is_ours and lease.is_held(now) and not self._standby_drain.is_over:
            self._standby_drain.step(not_yet_served)

    def _may_acquire(self, lease: Lease, candidate: Candidate, *, is_held: bool) -> bool:
        """Our own at once, if this control plane has just started; others' when it has expired."""
        if candidate.term_s is None or not lease.holder:
            return True
        if lease.holder == candidate.home_id and not self._has_held:
            return True
        has_expired = self._observer.has_expired_unrenewed(lease, self._clock(), candidate.term_s)
        return has_expired and not is_held

    def _acquire(self, candidate: Candidate) -> None:
        asked = self._clock()
        with self._database.write() as session:
            acquired = leases.acquire(session, candidate)
        if acquired is None:
            return
        fence = Fence(
            acquired.token, until=rules.acts_until(asked, candidate.term_s), clock=self._clock
        )
        reconciler = self._make_reconciler(fence)
        self._holding = fence, reconciler
        self._has_held = True
        self._is_settled = candidate.term_s is None
        logger.info("this control plane holds the lease (token %d)", acquired.token)
        reconciler.start()

    def _log_once(self, trouble: str) -> None:
        """When trouble begins and when it ends, not every second."""
        if trouble and not self._trouble:
            logger.warning("the lease cannot be read or renewed: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("the lease can be read and renewed again")
        self._trouble = trouble
