"""Carries out what the planner decided: one function per action, each safe to repeat."""

from dataclasses import dataclass, field
from pathlib import Path

from havre.balancer.base import Balancer
from havre.domain.instance import InstanceSpec
from havre.domain.ocid import new_short_id
from havre.domain.rollout import (
    Action,
    Cancel,
    Fail,
    NeedAttention,
    Prepare,
    Publish,
    Recover,
    Start,
    Stop,
    Succeed,
    Withdraw,
)
from havre.domain.route import Endpoint, Route
from havre.engines.base import Engine
from havre.reconciler.observation import Observation
from havre.reconciler.preparation import Preparer
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import Snapshot
from havre.reconciler.variables import model_variables
from havre.settings import Settings


@dataclass(frozen=True, slots=True)
class Pass:
    """One look at one deployment: what was read, what was seen, and whom it has stopped."""

    snapshot: Snapshot
    observation: Observation
    stopped: set[str] = field(default_factory=set)


class Actor:
    def __init__(
        self,
        engine: Engine,
        balancer: Balancer,
        preparer: Preparer,
        recorder: Recorder,
        settings: Settings,
        tenancy_id: str,
    ) -> None:
        self._engine = engine
        self._balancer = balancer
        self._preparer = preparer
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
            case Fail(reason):
                self._recorder.fail(snapshot, reason)
                self._preparer.forget(snapshot)
            case Cancel():
                self._recorder.cancel(snapshot)
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
        snapshot = current.snapshot
        is_first = action.goal.revision != getattr(current.observation.route, "revision", None)
        if is_first:
            self._recorder.note(snapshot, "Compute resources are provisioned.", percent=75)
            self._recorder.note(snapshot, "Creating load balancer.", percent=80)
        self._balancer.publish(
            Route(
                deployment_id=snapshot.deployment_id,
                revision=action.goal.revision,
                endpoints=tuple(
                    Endpoint(each, Path(current.observation.statuses[each].socket))
                    for each in action.instances
                ),
                max_requests=action.max_requests,
                bandwidth_mbps=action.goal.bandwidth_mbps,
            )
        )
        if is_first:
            self._recorder.note(snapshot, "Load balancer is provisioned.", percent=95)

    def _stop(self, action: Stop, current: Pass) -> None:
        snapshot = current.snapshot
        self._engine.stop(action.instance_id)
        # While its record is there, a crash in between makes the next pass stop it once more.
        current.stopped.add(action.instance_id)
        alive = set(snapshot.instances) - current.stopped
        self._balancer.retire(snapshot.deployment_id, alive=alive)
        self._recorder.remove_instance(action.instance_id)
        self._recorder.note(snapshot, f"Stopped an instance: {action.why}.")
