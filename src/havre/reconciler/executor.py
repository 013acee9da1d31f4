"""Carries out what the planner decided: every action is safe to repeat."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from havre.domain.instance import InstanceSpec
from havre.domain.ocid import new_short_id
from havre.domain.rollout.actions import (
    Action,
    Cancel,
    EndHungKeeper,
    Fail,
    MarkNeedsAttention,
    MarkRecovered,
    Prepare,
    Publish,
    Share,
    Start,
    Stop,
    Succeed,
    Verify,
    Withdraw,
)
from havre.domain.rollout.policy import RolloutPolicy
from havre.domain.route import CanaryShare, Endpoint, Route
from havre.engines.variables import model_variables
from havre.environments.libraries import lent_variables
from havre.reconciler.default_environment import with_default_environment_note
from havre.reconciler.deps import Deps
from havre.reconciler.observation import Observation
from havre.reconciler.preparation import Preparer
from havre.reconciler.snapshot import Snapshot
from havre.reconciler.verification import Verifier


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over one deployment: what was read, what was observed, and what it has stopped."""

    snapshot: Snapshot
    raw: Observation
    policy: RolloutPolicy
    stopped: set[str] = field(default_factory=set)


class Executor:
    def __init__(self, deps: Deps, preparer: Preparer, verifier: Verifier) -> None:
        self._engine = deps.engine
        self._balancer = deps.balancer
        self._preparer = preparer
        self._verifier = verifier
        self._recorder = deps.recorder
        self._settings = deps.settings
        self._tenancy_id = deps.tenancy_id

    def carry_out(self, action: Action, current: Pass) -> None:
        """Raises HavreError when engine or load balancer refuse; the next pass tries again."""
        snapshot = current.snapshot
        match action:
            case Prepare():
                self._preparer.begin(snapshot)
            case Start():
                self._start(action, snapshot)
            case Verify(instance_id):
                serving = sorted(current.raw.serving)
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
                if prepared := snapshot.revisions.get(snapshot.spec.revision):
                    reason = with_default_environment_note(reason, prepared)
                self._recorder.fail(snapshot, reason)
                self._preparer.forget(snapshot)
                self._verifier.forget(snapshot.deployment_id)
            case Cancel():
                self._recorder.cancel(snapshot)
                self._verifier.forget(snapshot.deployment_id)
            case EndHungKeeper(instance_id):
                if (channel := self._engine.channel(instance_id)) is not None:
                    channel.end_keeper()
                    self._recorder.note(
                        snapshot,
                        "A keeper hung and was ended: the copies of its instance go on serving "
                        "until another is ready.",
                    )
            case MarkNeedsAttention(reason):
                self._recorder.need_attention(snapshot, reason)
            case MarkRecovered():
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
            workload=prepared.workload,
            user=spec.environment_variables,
            lent=lent_variables(
                prepared.workload.interpreter,
                spec.environment_variables.get("LD_LIBRARY_PATH", ""),
            ),
        )
        # A revision that serves, or did until the machine went down, has been proven.
        serving = snapshot.serving_spec
        is_new = serving is None or serving.revision != action.revision
        for _ in range(action.instances):
            instance_id = new_short_id()
            # Recorded before it is started, so that one left behind by a crash in between is known.
            self._recorder.add_instance(snapshot, instance_id, action.revision)
            self._engine.start(
                InstanceSpec(
                    id=instance_id,
                    deployment_id=snapshot.deployment_id,
                    revision=action.revision,
                    workload=prepared.workload,
                    copies=spec.copies,
                    cpus=spec.shape.cpus,
                    memory_bytes=spec.shape.memory_bytes,
                    variables=variables,
                    predict_timeout_s=self._settings.predict_timeout_s,
                    stream_idle_s=self._settings.stream_idle_s,
                    stream_total_s=self._settings.stream_total_s,
                    start_timeout_s=self._settings.start_timeout_s,
                    min_ready_s=self._settings.min_ready_s if is_new else 0.0,
                )
            )

    def _publish(self, action: Publish, current: Pass) -> None:
        snapshot, before, share = current.snapshot, current.raw.route, action.canary
        is_first = before is None or action.target.revision != before.revision
        had_share = before is not None and before.canary is not None
        if not had_share and (is_first or share is not None):
            self._recorder.note(snapshot, "Compute resources are provisioned.", percent=75)
            self._recorder.note(snapshot, "Creating load balancer.", percent=76)
        self._balancer.publish(
            Route(
                deployment_id=snapshot.deployment_id,
                revision=action.target.revision,
                endpoints=_endpoints(action.instances, current),
                max_requests=action.max_requests,
                bandwidth_mbps=action.target.bandwidth_mbps,
                is_idempotent=action.target.is_idempotent,
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
        # Before it stops answering: a request whose body is still on the way, or held back by the
        # bandwidth, goes where its cluster leads once it is complete.
        self._balancer.retire(snapshot.deployment_id, alive=alive)
        # The record goes last: after a crash in between the next pass stops it again.
        self._engine.stop(action.instance_id)
        self._recorder.remove_instance(action.instance_id)
        self._recorder.note(snapshot, f"Stopped an instance: {action.why}.")


def _canary(share: Share, current: Pass) -> CanaryShare:
    return CanaryShare(
        revision=share.target.revision,
        endpoints=_endpoints(share.instances, current),
        max_requests=share.max_requests,
        percent=share.percent,
    )


def _endpoints(instances: Iterable[str], current: Pass) -> tuple[Endpoint, ...]:
    statuses = current.raw.statuses
    return tuple(Endpoint(instance_id, statuses[instance_id].address) for instance_id in instances)


def _progress(percent: int) -> float:
    """How far the change is, in percent, when a canary has this share."""
    return 76 + 0.19 * percent
