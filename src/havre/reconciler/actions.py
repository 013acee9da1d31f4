"""Carries out what the planner decided: one function per action, each safe to repeat."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from havre.balancer.base import Balancer
from havre.domain.actions import (
    Action,
    Cancel,
    Fail,
    NeedAttention,
    Prepare,
    Publish,
    Recover,
    Share,
    Start,
    Stop,
    Succeed,
    Verify,
    Withdraw,
)
from havre.domain.instance import InstanceSpec
from havre.domain.ocid import new_short_id
from havre.domain.policy import RolloutPolicy
from havre.domain.route import Canary, Endpoint, Route
from havre.engines.base import Engine
from havre.reconciler.observation import Observation
from havre.reconciler.preparation import Preparer
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import Snapshot
from havre.reconciler.variables import model_variables
from havre.reconciler.verification import Verifier
from havre.settings import Settings


@dataclass(frozen=True, slots=True)
class Pass:
    """One look at one deployment: what was read, what was seen, and whom it has stopped."""

    snapshot: Snapshot
    observation: Observation
    policy: RolloutPolicy
    stopped: set[str] = field(default_factory=set)


class Actor:
    def __init__(
        self,
        engine: Engine,
        balancer: Balancer,
        preparer: Preparer,
        verifier: Verifier,
        recorder: Recorder,
        settings: Settings,
        tenancy_id: str,
    ) -> None:
        self._engine = engine
        self._balancer = balancer
        self._preparer = preparer
        self._verifier = verifier
        self._recorder = recorder
        self._settings = settings
        self._tenancy_id = tenancy_id

    def carry_out(self, action: Action, current: Pass) -> None:
        """Raises HavreError when the outside world does not let it; the next pass tries again."""
        snapshot = current.snapshot
        match action:
            case Prepare():
                self._preparer.begin(snapshot)
            case Start():
                self._start(action, snapshot)
            case Verify(instance_id):
                serving = sorted(current.observation.serving)
                self._verifier.begin(snapshot, instance_id, serving, current.policy.replay)
            case Publish():
                self._publish(action, current)
            case Withdraw():
                self._balancer.withdraw(snapshot.deployment_id)
                self._recorder.note(
                    snapshot, "The load balancer sends it no more requests.", percent=30
                )
            case Stop():
                self._stop(action, current)
            case Succeed():
                self._recorder.succeed(snapshot)
                self._verifier.forget(snapshot.deployment_id)
            case Fail(reason):
                self._recorder.fail(snapshot, reason)
                self._preparer.forget(snapshot)
                self._verifier.forget(snapshot.deployment_id)
            case Cancel():
                self._recorder.cancel(snapshot)
                self._verifier.forget(snapshot.deployment_id)
            case NeedAttention(reason):
                self._recorder.need_attention(snapshot, reason)
            case Recover():
                self._recorder.recover(snapshot)

    def _start(self, action: Start, snapshot: Snapshot) -> None:
        spec = snapshot.spec_of(action.revision)
        prepared = snapshot.revisions[action.revision]
        self._recorder.note(
            snapshot,
            f"Creating compute resources: {action.instances} x {spec.shape.name} "
            f"({spec.shape.ocpus:g} OCPU, {spec.shape.memory_gb:g} GB), "
            f"{spec.copies} copies of the model each.",
            percent=45,
        )
        variables = model_variables(
            deployment_id=snapshot.deployment_id,
            tenancy_id=self._tenancy_id,
            python_version=prepared.python_version,
            interpreter=prepared.interpreter,
            user=spec.environment_variables,
        )
        for _ in range(action.instances):
            instance_id = new_short_id()
            # Recorded before it is started: what a crash leaves behind in between is known.
            self._recorder.add_instance(snapshot, instance_id, action.revision)
            self._engine.start(
                InstanceSpec(
                    id=instance_id,
                    deployment_id=snapshot.deployment_id,
                    revision=action.revision,
                    artifact=prepared.artifact_folder,
                    interpreter=prepared.interpreter,
                    copies=spec.copies,
                    cpus=spec.shape.cpus,
                    memory_bytes=spec.shape.memory_bytes,
                    environment=variables,
                    predict_timeout_s=self._settings.predict_timeout_s,
                    stream_idle_s=self._settings.stream_idle_s,
                    stream_total_s=self._settings.stream_total_s,
                    start_timeout_s=self._settings.start_timeout_s,
                )
            )

    def _publish(self, action: Publish, current: Pass) -> None:
        snapshot, before, share = current.snapshot, current.observation.route, action.canary
        is_first = action.goal.revision != getattr(before, "revision", None)
        had_share = before is not None and before.canary is not None
        if not had_share and (is_first or share is not None):
            self._recorder.note(snapshot, "Compute resources are provisioned.", percent=75)
            self._recorder.note(snapshot, "Creating load balancer.", percent=76)
        self._balancer.publish(
            Route(
                deployment_id=snapshot.deployment_id,
                revision=action.goal.revision,
                endpoints=_endpoints(action.instances, current),
                max_requests=action.max_requests,
                bandwidth_mbps=action.goal.bandwidth_mbps,
                is_idempotent=action.goal.is_idempotent,
                canary=None if share is None else _canary(share, current),
            )
        )
        for note in action.notes:
            percent = 0 if share is None else share.percent
            self._recorder.note(snapshot, note, percent=_progress(percent))
        if is_first:
            self._recorder.note(snapshot, "Load balancer is provisioned.", percent=95)

    def _stop(self, action: Stop, current: Pass) -> None:
        snapshot = current.snapshot
        current.stopped.add(action.instance_id)
        alive = set(snapshot.instances) - current.stopped
        # Before it takes no more: a request whose body is still on the way, or held back by the
        # bandwidth, goes where its cluster leads once it is whole.
        self._balancer.retire(snapshot.deployment_id, alive=alive)
        # While its record is there, a crash in between makes the next pass stop it once more.
        self._engine.stop(action.instance_id)
        self._recorder.remove_instance(action.instance_id)
        self._recorder.note(snapshot, f"Stopped an instance: {action.why}.")


def _canary(share: Share, current: Pass) -> Canary:
    return Canary(
        revision=share.goal.revision,
        endpoints=_endpoints(share.instances, current),
        max_requests=share.max_requests,
        percent=share.percent,
    )


def _endpoints(instances: Iterable[str], current: Pass) -> tuple[Endpoint, ...]:
    statuses = current.observation.statuses
    return tuple(Endpoint(each, Path(statuses[each].socket)) for each in instances)


def _progress(percent: int) -> float:
    """Percent of the change that are done when a canary has this share."""
    return 76 + 0.19 * percent
