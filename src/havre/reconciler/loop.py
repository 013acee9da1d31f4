"""The reconciler: for each deployment, load, look, plan, act; then again, until all is true.

Level-triggered: a wake-up only says "look", what to do follows from what is there. Deployments are
worked on side by side and never wait for each other; one deployment is in one pass at a time.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from sqlalchemy import select

from havre.balancer.base import Balancer
from havre.domain.actions import Action, Succeed
from havre.domain.errors import EngineFault, HavreError, StateUnavailable, SystemFault
from havre.domain.instance import InstanceStatus
from havre.domain.policy import RolloutPolicy
from havre.domain.rollout import plan
from havre.domain.states import DeploymentState, InstancePhase
from havre.engines.base import Engine
from havre.reconciler import observation
from havre.reconciler.actions import Actor, Pass
from havre.reconciler.fence import Fence
from havre.reconciler.memory_note import memory_note
from havre.reconciler.observation import Memory
from havre.reconciler.pace import next_look_s
from havre.reconciler.preparation import Preparer
from havre.reconciler.queue import WorkQueue
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import Snapshot, load, policy_of, wanted
from havre.reconciler.verification import Verifier
from havre.settings import Settings
from havre.store.database import Database
from havre.store.schema import Deployment, InstanceRecord

logger = logging.getLogger(__name__)

WORKERS = 16
TROUBLE_PAUSE_S = 1.0
PATIENCE_S = 120.0
"""How long a change waits for an engine or a load balancer that refuses, before it fails."""
CHANGES_PAUSE_S = 1.0


class Reconciler:
    """``clock`` is a monotonic clock in seconds. ``verifying`` runs the checks of new revisions;
    None: threads of its own. ``on_pass`` is told of each pass how late it begins, in seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        engine: Engine,
        balancer: Balancer,
        recorder: Recorder,
        fence: Fence,
        make_preparer: Callable[[Callable[[str], None]], Preparer],
        settings: Settings,
        tenancy_id: str,
        clock: Callable[[], float] = time.monotonic,
        verifying: Executor | None = None,
        on_pass: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._engine = engine
        self._balancer = balancer
        self._recorder = recorder
        self._fence = fence
        self._settings = settings
        self._clock = clock
        self._queue = WorkQueue(clock, on_pass)
        self._preparer = make_preparer(self.wake)
        self._verifier = Verifier(engine, recorder, self.wake, verifying)
        self._actor = Actor(
            engine, balancer, self._preparer, self._verifier, recorder, settings, tenancy_id
        )
        self._memories: defaultdict[str, Memory] = defaultdict(Memory)
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        """Look at every deployment, clear away what belongs to none, and keep watching."""
        for number in range(WORKERS):
            self._spawn(self._work, f"reconcile-{number}")
        self._spawn(self._watch_engine, "watch-engine")
        self._spawn(self._begin, "reconcile-first-look")

    def wake(self, deployment_id: str) -> None:
        self._queue.add(deployment_id)

    def stop(self) -> None:
        """End the passes that run, start no more. What runs, runs on."""
        self._stopping.set()
        self._queue.close()
        self._preparer.close()
        self._verifier.close()
        for thread in self._threads:
            if thread.name.startswith("reconcile"):
                thread.join(timeout=10)

    def reconcile(self, deployment_id: str) -> float | None:
        """One pass; returns in how many seconds to look again, None if never."""
        with self._database.read() as session:
            snapshot = load(session, deployment_id)
        if snapshot is None:
            self._memories.pop(deployment_id, None)
            self._verifier.forget(deployment_id)
            return None
        memory = self._memories[deployment_id]
        begins = snapshot.change is not None and not snapshot.change.is_started
        if begins:
            # What failed before may be mended by this very change.
            memory.start_at_once(snapshot.spec.revision)
            memory.proven |= snapshot.instances.keys()
        policy = policy_of(snapshot, self._settings)
        looked = observation.look(snapshot, self._engine, self._balancer)
        wish = wanted(snapshot, policy, self._settings, looked.statuses.values())
        now = self._clock()
        prepared = self._preparer.state(snapshot)
        verified = self._verifier.state(snapshot)
        seen = observation.seen(
            snapshot,
            looked,
            memory,
            self._balancer,
            preparation=prepared.state,
            preparation_reason=prepared.reason,
            verification=verified.state,
            verification_reason=verified.reason,
            settings=self._settings,
            now=now,
        )
        actions = plan(wish, seen)
        if begins and actions != [Succeed()]:
            self._recorder.begin(snapshot)
        self._announce(snapshot, looked.statuses.values(), memory)
        self._recorder.count_instances(snapshot, _answering(looked))
        self._keep_requests(looked, policy)
        current = Pass(snapshot, looked, policy)
        self._carry_out(actions, current)
        memory.trouble_since = None
        memory.quiet_passes = 0 if actions else memory.quiet_passes + 1
        if not actions and not snapshot.runs and not snapshot.instances:
            return None
        return next_look_s(
            wish,
            seen,
            actions,
            quiet_passes=memory.quiet_passes,
            pause_s=min(memory.backing_off(now).values(), default=0.0),
        )

    def _carry_out(self, actions: Iterable[Action], current: Pass) -> None:
        """All of them: none builds on another of the same pass, so that a refusal stops no repair.

        Raises the first refusal in the end.
        """
        refusals = []
        for action in actions:
            logger.debug("%s: %s", current.snapshot.deployment_id, action)
            try:
                self._actor.carry_out(action, current)
            except HavreError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def _work(self) -> None:
        while (deployment_id := self._queue.take()) is not None:
            try:
                delay_s = self._guarded(deployment_id)
                if delay_s is not None:
                    self._queue.add(deployment_id, delay_s)
            finally:
                self._queue.done(deployment_id)

    def _guarded(self, deployment_id: str) -> float | None:
        """A pass that never ends its thread: trouble is logged and tried again."""
        try:
            if not self._fence.is_open:
                return TROUBLE_PAUSE_S  # who renews the lease has told it, once for all
            return self.reconcile(deployment_id)
        except StateUnavailable as error:
            # No change is to blame, and none may fail for it.
            logger.warning("%s: %s", deployment_id, error.message)
            self._memories[deployment_id].trouble_since = None
        except HavreError as error:
            logger.warning("%s: %s", deployment_id, error.message)
            self._lose_patience(deployment_id, error)
        except Exception as error:
            logger.exception("reconciling %s failed", deployment_id)
            self._lose_patience(deployment_id, error)
        return TROUBLE_PAUSE_S

    def _lose_patience(self, deployment_id: str, error: Exception) -> None:
        """After a while the one who waits for the change is told."""
        memory, now = self._memories[deployment_id], self._clock()
        if memory.trouble_since is None:
            memory.trouble_since = now
        try:
            with self._database.read() as session:
                snapshot = load(session, deployment_id)
            if snapshot is None or snapshot.change is None:
                return
            if not snapshot.change.is_started:
                self._recorder.begin(snapshot)
            if memory.trouble_since == now:
                self._recorder.note(snapshot, f"Trying again: {error}")
            elif now - memory.trouble_since > PATIENCE_S and snapshot.runs:
                self._recorder.fail(snapshot, str(error))
        except SystemFault as fault:
            logger.warning("%s: %s", deployment_id, fault.message)
        except Exception:
            logger.exception("%s: telling of trouble failed", deployment_id)

    def _announce(
        self, snapshot: Snapshot, statuses: Iterable[InstanceStatus], memory: Memory
    ) -> None:
        """Tell once, in the work request's log, what a fresh instance has to say."""
        for status in statuses:
            if status.phase is not InstancePhase.READY or status.id in memory.announced:
                continue
            memory.announced.add(status.id)
            if snapshot.change is None or status.revision != snapshot.spec.revision:
                continue
            for note in (*status.notes, *memory_note(status, snapshot.spec)):
                self._recorder.note(snapshot, note)
            self._recorder.note(
                snapshot, f"An instance is ready: {status.copies_ready} copies.", percent=60
            )

    def _keep_requests(self, looked: observation.Observation, policy: RolloutPolicy) -> None:
        """Have the instances that serve keep requests for the replay of the next change, or not,
        and capture those that the tags ask for.
        """
        most = 0 if policy.replay is None else policy.replay.requests
        for instance_id in sorted(looked.serving & looked.statuses.keys()):
            status = looked.statuses[instance_id]
            if status.phase is not InstancePhase.READY:
                continue
            try:
                if status.recording != most:
                    self._engine.record(instance_id, most)
                if status.capture != policy.capture:
                    self._engine.capture(instance_id, policy.capture)
            except EngineFault as error:
                logger.info("%s keeps no live requests yet: %s", instance_id, error.message)

    def _begin(self) -> None:
        while not self._stopping.is_set():
            try:
                self._clear_leftovers()
                for deployment_id in self._deployments():
                    self.wake(deployment_id)
                return
            except HavreError as error:
                logger.warning("the first look failed, trying again: %s", error.message)
            except Exception:
                logger.exception("the first look failed, trying again")
            self._stopping.wait(TROUBLE_PAUSE_S)

    def _clear_leftovers(self) -> None:
        """Instances and routes that no record knows: left by a crash, or by a deleted database.

        The world is listed before the records are read: what is started meanwhile has a record.
        """
        running = [status.id for status in self._engine.instances()]
        routed = self._balancer.deployments()
        with self._database.read() as session:
            known = set(session.scalars(select(InstanceRecord.id)))
        deployments = self._deployments()
        for instance_id in set(running) - known:
            logger.warning("stopping instance %s, which no record knows", instance_id)
            self._engine.stop(instance_id)
        for deployment_id in routed - deployments:
            self._balancer.withdraw(deployment_id)
            self._balancer.retire(deployment_id, alive=())

    def _deployments(self) -> set[str]:
        with self._database.read() as session:
            rows = select(Deployment.id).where(
                Deployment.lifecycle_state != DeploymentState.DELETED
            )
            return set(session.scalars(rows))

    def _watch_engine(self) -> None:
        while not self._stopping.is_set():
            try:
                for instance_id in self._engine.changes():
                    if self._stopping.is_set():
                        return
                    self._wake_owner(instance_id)
            except HavreError as error:
                logger.debug("watching the engine: %s", error.message)
            except Exception:
                logger.exception("watching the engine failed")
            self._stopping.wait(CHANGES_PAUSE_S)

    def _wake_owner(self, instance_id: str) -> None:
        with self._database.read() as session:
            record = session.get(InstanceRecord, instance_id)
        if record is not None:
            self.wake(record.deployment_id)

    def _spawn(self, target: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()


def _answering(looked: observation.Observation) -> int:
    return sum(
        looked.statuses[each].phase in {InstancePhase.READY, InstancePhase.DEGRADED}
        for each in looked.serving
        if each in looked.statuses
    )
