"""One pass over one deployment: load, observe, plan, carry out."""

import logging
from collections import defaultdict
from collections.abc import Iterable

from havre.domain.errors import EngineFault, HavreError
from havre.domain.instance import InstanceStatus
from havre.domain.rollout.actions import Action, Succeed
from havre.domain.rollout.planner import plan
from havre.domain.rollout.policy import RolloutPolicy
from havre.domain.states import InstancePhase
from havre.reconciler import observation
from havre.reconciler.deps import Deps, Hooks
from havre.reconciler.executor import Executor, Pass
from havre.reconciler.memory_note import memory_note
from havre.reconciler.observation import Observation, observed_of
from havre.reconciler.pace import next_pass_s
from havre.reconciler.pass_monitor import PassMonitor
from havre.reconciler.preparation import Preparer
from havre.reconciler.remembered import Memory
from havre.reconciler.snapshot import Snapshot, desired_of, load, policy_of
from havre.reconciler.verification import Verifier

logger = logging.getLogger(__name__)


class Reconcile:
    """Callable with a deployment's id. One deployment is in one pass at a time."""

    def __init__(
        self,
        deps: Deps,
        preparer: Preparer,
        verifier: Verifier,
        pass_monitor: PassMonitor,
        hooks: Hooks,
    ) -> None:
        self._deps = deps
        self._preparer = preparer
        self._verifier = verifier
        self._pass_monitor = pass_monitor
        self._on_named = hooks.on_named
        self._executor = Executor(deps, preparer, verifier)
        self.memories: defaultdict[str, Memory] = defaultdict(Memory)

    def __call__(self, deployment_id: str) -> float | None:
        """One pass; returns in how many seconds the next is due, None if never."""
        deps = self._deps
        with deps.database.read() as session:
            snapshot = load(session, deployment_id)
        if snapshot is None:
            self.memories.pop(deployment_id, None)
            self._verifier.forget(deployment_id)
            self._on_named(deployment_id, "")
            return None
        self._on_named(deployment_id, snapshot.display_name)
        memory = self.memories[deployment_id]
        begins = snapshot.change is not None and not snapshot.change.is_started
        if begins:
            assert snapshot.change is not None
            memory.begin_change(
                snapshot.change.id, snapshot.spec.revision, snapshot.instances.keys()
            )
        policy = policy_of(snapshot, deps.settings)
        self._pass_monitor.at("observing its instances and its route")
        raw = observation.look(snapshot, deps.engine, deps.balancer)
        self._pass_monitor.at("planning")
        desired = desired_of(snapshot, policy, deps.settings, raw.statuses.values())
        now = deps.clock()
        observed = observed_of(
            snapshot,
            raw,
            memory,
            preparation=self._preparer.outcome(snapshot),
            verification=self._verifier.outcome(snapshot),
            settings=deps.settings,
            now=now,
        )
        actions = plan(desired, observed)
        if begins and actions != [Succeed()]:
            deps.recorder.begin(snapshot)
        self._announce(snapshot, raw.statuses.values(), memory)
        deps.recorder.count_instances(snapshot, _answering(raw))
        self._pass_monitor.at("configuring the recording of live requests")
        self._configure_recording(raw, policy)
        self._carry_out(actions, Pass(snapshot, raw, policy))
        memory.trouble_since = None
        memory.quiet_passes = 0 if actions else memory.quiet_passes + 1
        if not actions and not snapshot.runs and not snapshot.instances:
            return None
        return next_pass_s(
            desired,
            observed,
            actions,
            quiet_passes=memory.quiet_passes,
            is_silent=bool(memory.silences),
            pause_s=min(memory.backing_off(now).values(), default=0.0),
        )

    def _carry_out(self, actions: Iterable[Action], current: Pass) -> None:
        """All of them: none depends on another of the same pass, so that no refusal stops a repair.

        Raises the first refusal in the end.
        """
        refusals = []
        for action in actions:
            logger.debug("%s: %s", current.snapshot.deployment_id, action)
            self._pass_monitor.at(str(action))
            try:
                self._executor.carry_out(action, current)
            except HavreError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def _announce(
        self, snapshot: Snapshot, statuses: Iterable[InstanceStatus], memory: Memory
    ) -> None:
        """Write the notes of an instance that has become ready to the work request's log, once."""
        for status in statuses:
            if status.phase is not InstancePhase.READY or status.id in memory.announced:
                continue
            memory.announced.add(status.id)
            if snapshot.change is None or status.revision != snapshot.spec.revision:
                continue
            for note in (*status.notes, *memory_note(status, snapshot.spec)):
                self._deps.recorder.note(snapshot, note)
            self._deps.recorder.note(
                snapshot, f"An instance is ready: {status.copies_ready} copies.", percent=60
            )

    def _configure_recording(self, raw: Observation, policy: RolloutPolicy) -> None:
        """Have the instances that serve keep requests for the replay of the next change, or not,
        and capture those that the tags ask for.
        """
        kept = 0 if policy.replay is None else policy.replay.requests
        for instance_id in sorted(raw.serving & raw.statuses.keys()):
            status = raw.statuses[instance_id]
            channel = self._deps.engine.channel(instance_id)
            if channel is None or status.phase is not InstancePhase.READY:
                continue
            try:
                if status.recording != kept:
                    channel.record(kept)
                if status.capture != policy.capture:
                    channel.capture(policy.capture)
            except EngineFault as error:
                logger.info("%s records no live requests yet: %s", instance_id, error.message)


def _answering(raw: Observation) -> int:
    return sum(
        raw.statuses[instance_id].phase in {InstancePhase.READY, InstancePhase.DEGRADED}
        for instance_id in raw.serving & raw.statuses.keys()
    )
