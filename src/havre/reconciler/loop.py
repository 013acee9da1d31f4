"""The reconciler: a pass over each deployment whenever something may have changed, and again.

Level-triggered: a wake-up only asks for a pass, what to do follows from what is observed in it.
Deployments are worked on side by side and never wait for each other; one deployment is in one pass
at a time.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent import futures

from havre.domain.errors import HavreError, StateUnavailable, SystemFault
from havre.reconciler.deps import Deps, Hooks
from havre.reconciler.leftovers import clear_leftovers, existing_deployments
from havre.reconciler.pass_monitor import PassMonitor
from havre.reconciler.preparation import Preparer
from havre.reconciler.queue import WorkQueue
from havre.reconciler.reconcile import Reconcile
from havre.reconciler.snapshot import load
from havre.reconciler.verification import Verifier
from havre.store.schema import InstanceRecord

logger = logging.getLogger(__name__)

WORKERS = 16
WATCH_S = 5.0
STOP_S = 10.0
"""For all running passes to end, when the reconciler stops."""
TROUBLE_PAUSE_S = 1.0
PATIENCE_S = 120.0
"""How long a change waits for an engine or a load balancer that refuses, before it fails."""
CHANGES_PAUSE_S = 1.0


class Reconciler:
    """``verifying`` runs the checks of new revisions; None: threads of its own."""

    def __init__(
        self,
        deps: Deps,
        make_preparer: Callable[[Callable[[str], None]], Preparer],
        *,
        verifying: futures.Executor | None = None,
        hooks: Hooks = Hooks(),
    ) -> None:
        self._deps = deps
        self._hooks = hooks
        self._queue = WorkQueue(deps.clock, hooks.on_pass)
        self._preparer = make_preparer(self.wake)
        self._verifier = Verifier(deps.engine, deps.recorder, self.wake, verifying)
        self._pass_monitor = PassMonitor(self._replace_worker)
        self.reconcile = Reconcile(deps, self._preparer, self._verifier, self._pass_monitor, hooks)
        self._workers: list[threading.Thread] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Look at every deployment, clear away what belongs to none, and keep watching."""
        for number in range(WORKERS):
            self._add_worker(self._work, f"reconcile-{number}")
        self._add_worker(self._first_sweep, "reconcile-first-sweep")
        # These two wait in calls that nothing interrupts: they end with the process.
        _spawn(self._watch_engine, "watch-engine")
        _spawn(self._watch_passes, "watch-passes")

    def wake(self, deployment_id: str) -> None:
        self._queue.add(deployment_id)

    def stop(self) -> None:
        """End the passes that run, start no more. Instances and routes stay as they are."""
        self._stopping.set()
        self._queue.close()
        self._preparer.close()
        self._verifier.close()
        ends_at = time.monotonic() + STOP_S
        for thread in self._workers:
            thread.join(timeout=max(0.0, ends_at - time.monotonic()))

    def _work(self) -> None:
        while (deployment_id := self._queue.take()) is not None:
            try:
                with self._pass_monitor.watching(deployment_id) as watched:
                    delay_s = self._reconcile_safely(deployment_id)
                if delay_s is not None:
                    self._queue.add(deployment_id, delay_s)
            finally:
                self._queue.done(deployment_id)
            if watched.is_replaced:
                return

    def _reconcile_safely(self, deployment_id: str) -> float | None:
        """A pass that never ends its thread: trouble is logged and tried again."""
        try:
            if not self._deps.fence.is_open:
                return TROUBLE_PAUSE_S  # the leader election has logged it, once for all
            return self.reconcile(deployment_id)
        except StateUnavailable as error:
            # No change is to blame, and none may fail for it.
            logger.warning("%s: %s", deployment_id, error.message)
            self.reconcile.memories[deployment_id].trouble_since = None
            self._make_room_to_end(deployment_id)
        except HavreError as error:
            logger.warning("%s: %s", deployment_id, error.message)
            self._make_room_to_end(deployment_id)
            self._report_trouble(deployment_id, error)
        except Exception as error:
            logger.exception("reconciling %s failed", deployment_id)
            self._report_trouble(deployment_id, error)
        return TROUBLE_PAUSE_S

    def _make_room_to_end(self, deployment_id: str) -> None:
        """A full disk must not hold up a deployment that is to be ended: that frees disk space."""
        try:
            with self._deps.database.read() as session:
                snapshot = load(session, deployment_id)
        except HavreError:
            return
        if snapshot is not None and (not snapshot.runs or snapshot.is_canceling):
            self._hooks.make_room()

    def _report_trouble(self, deployment_id: str, error: Exception) -> None:
        """At first a note in the work request's log; after `PATIENCE_S` the change fails."""
        memory, now = self.reconcile.memories[deployment_id], self._deps.clock()
        if memory.trouble_since is None:
            memory.trouble_since = now
        recorder = self._deps.recorder
        try:
            with self._deps.database.read() as session:
                snapshot = load(session, deployment_id)
            if snapshot is None or snapshot.change is None:
                return
            if not snapshot.change.is_started:
                recorder.begin(snapshot)
            if memory.trouble_since == now:
                recorder.note(snapshot, f"Trying again: {error}")
            elif now - memory.trouble_since > PATIENCE_S and snapshot.runs:
                recorder.fail(snapshot, str(error))
        except SystemFault as fault:
            logger.warning("%s: %s", deployment_id, fault.message)
        except Exception:
            logger.exception("%s: reporting trouble failed", deployment_id)

    def _first_sweep(self) -> None:
        while not self._stopping.is_set():
            try:
                clear_leftovers(self._deps)
                deployments = existing_deployments(self._deps.database)
                self._hooks.on_listed(deployments)
                for deployment_id in deployments:
                    self.wake(deployment_id)
                return
            except HavreError as error:
                logger.warning("the first sweep failed, trying again: %s", error.message)
            except Exception:
                logger.exception("the first sweep failed, trying again")
            self._stopping.wait(TROUBLE_PAUSE_S)

    def _watch_engine(self) -> None:
        while not self._stopping.is_set():
            try:
                for instance_id in self._deps.engine.changes():
                    if self._stopping.is_set():
                        return
                    self._wake_owner(instance_id)
            except HavreError as error:
                logger.debug("watching the engine: %s", error.message)
            except Exception:
                logger.exception("watching the engine failed")
            self._stopping.wait(CHANGES_PAUSE_S)

    def _wake_owner(self, instance_id: str) -> None:
        with self._deps.database.read() as session:
            record = session.get(InstanceRecord, instance_id)
        if record is not None:
            self.wake(record.deployment_id)

    def _watch_passes(self) -> None:
        while not self._stopping.wait(WATCH_S):
            self._hooks.on_stuck(self._pass_monitor.report_stuck())

    def _replace_worker(self) -> bool:
        if self._stopping.is_set():
            return False
        self._add_worker(self._work, "reconcile-more")
        return True

    def _add_worker(self, target: Callable[[], None], name: str) -> None:
        self._workers.append(_spawn(target, name))


def _spawn(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
