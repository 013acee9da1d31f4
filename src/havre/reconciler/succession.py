"""Who reconciles: takes the lease, renews it, loses it; starts and stops the reconciler with it.

One thread looks at the lease once a second. While it is the holder's, that look also finds what was
wished for at a standby. Where no other home can reach the database the lease is taken once.
"""

import logging
import threading
from collections.abc import Callable

from havre.domain import lease as rules
from havre.domain.errors import HavreError
from havre.domain.lease import RENEW_EVERY_S, Applicant, Lease, Role, Watch
from havre.reconciler.fence import Fence, clock_s
from havre.reconciler.loop import Reconciler
from havre.reconciler.standby import Retreat, unserved
from havre.store import leases
from havre.store.database import Database

logger = logging.getLogger(__name__)


class Succession:
    """``applicant`` says who we are, and where at the moment. ``make_reconciler`` and
    ``make_retreat`` are called anew for each time as holder and as standby.

    ``clock`` is in seconds and only goes forward.
    """

    def __init__(
        self,
        database: Database,
        applicant: Callable[[], Applicant],
        make_reconciler: Callable[[Fence], Reconciler],
        make_retreat: Callable[[], Retreat],
        clock: Callable[[], float] = clock_s,
    ) -> None:
        self._database = database
        self._applicant = applicant
        self._make_reconciler = make_reconciler
        self._make_retreat = make_retreat
        self._clock = clock
        self._holding: tuple[Fence, Reconciler] | None = None
        self._has_held = False
        self._is_settled = False
        self._holder_url = ""
        self._watch = Watch()
        self._retreat = make_retreat()
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="succession", daemon=True)

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
        return self._applicant().url

    def step(self) -> None:
        """One look at the lease. Raises HavreError when the database does not let it."""
        if self._holding is None:
            self._stand_by(self._applicant())
        else:
            self._hold(self._applicant(), *self._holding)

    def _run(self) -> None:
        while not (self._stopping.is_set() or self._is_settled):
            try:
                self.step()
                self._tell("")
            except HavreError as error:
                self._watch.interrupt()
                self._tell(error.message)
            except Exception:
                self._watch.interrupt()
                logger.exception("looking after the lease failed")
            self._stopping.wait(RENEW_EVERY_S)

    def _hold(self, by: Applicant, fence: Fence, reconciler: Reconciler) -> None:
        asked = self._clock()
        with self._database.write() as session:
            renewed = leases.renew(session, by, fence.token)
            waiting = leases.waiting(session)
        if renewed is None:
            logger.warning("another control plane has taken the lease: this one is a standby now")
            fence.close()
            self._holding = None
            self._retreat = self._make_retreat()
            reconciler.stop()
            return
        fence.extend(rules.acts_until(asked, by.term_s))
        for deployment_id in waiting:
            reconciler.wake(deployment_id)

    def _stand_by(self, by: Applicant) -> None:
        with self._database.read() as session:
            lease, now = leases.current(session)
            kept = unserved(session)
        is_ours = lease.holder == by.home_id
        self._holder_url = "" if is_ours else lease.url
        if self._may_take(lease, by, is_held=lease.is_held(now)):
            self._take(by)
        elif not is_ours and lease.is_held(now) and not self._retreat.is_over:
            self._retreat.step(kept)

    def _may_take(self, lease: Lease, by: Applicant, *, is_held: bool) -> bool:
        """Ours at once, when this control plane has just started; another's when it is lost."""
        if by.term_s is None or not lease.holder:
            return True
        if lease.holder == by.home_id and not self._has_held:
            return True
        has_waited = self._watch.has_waited(lease, self._clock(), by.term_s)
        return has_waited and not is_held

    def _take(self, by: Applicant) -> None:
        asked = self._clock()
        with self._database.write() as session:
            taken = leases.take(session, by)
        if taken is None:
            return
        fence = Fence(taken.token, until=rules.acts_until(asked, by.term_s), clock=self._clock)
        reconciler = self._make_reconciler(fence)
        self._holding = fence, reconciler
        self._has_held = True
        self._is_settled = by.term_s is None
        logger.info("this control plane holds the lease (token %d)", taken.token)
        reconciler.start()

    def _tell(self, trouble: str) -> None:
        """Once, not every second."""
        if trouble and not self._trouble:
            logger.warning("looking after the lease: %s", trouble)
        elif self._trouble and not trouble:
            logger.info("looking after the lease succeeds again")
        self._trouble = trouble
