"""A reconciler in a world of doubles, moved by hand, that can crash at any call."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from havre.balancer.fake import FakeBalancer
from havre.domain.deployment import DeploymentSpec
from havre.domain.lease import Candidate
from havre.domain.ocid import Kind, new_ocid
from havre.domain.rollout.planner_input import Outcome, Stage
from havre.domain.shape import choose_shape
from havre.domain.states import DeploymentState, WorkRequestState
from havre.domain.workload import PythonWorkload
from havre.engines.fake import FakeEngine
from havre.reconciler.deps import Deps, Hooks
from havre.reconciler.fence import Fence, FencedBalancer, FencedDatabase, FencedEngine
from havre.reconciler.loop import Reconciler
from havre.reconciler.pace import STEADY_S
from havre.reconciler.record import Recorder
from havre.reconciler.snapshot import PreparedRevision, Snapshot
from havre.settings import load_settings
from havre.store import intents, leases
from havre.store.database import Database
from havre.store.schema import Deployment, InstanceRecord, WorkRequest, WorkRequestLog

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = DeploymentSpec(
    model_id="model-1", artifact_digest="a" * 64, shape=choose_shape("VM.Standard2.1")
)


class Crash(BaseException):
    """The control plane dies here."""


class InstantPreparer:
    """Prepares at once, but for revisions that are told to fail."""

    def __init__(self, recorder: Recorder, failures: dict[str, str]) -> None:
        self._recorder = recorder
        self._failures = failures
        self._failed: dict[str, str] = {}

    def outcome(self, snapshot: Snapshot) -> Outcome:
        revision = snapshot.spec.revision
        if revision in snapshot.revisions:
            return Outcome(Stage.DONE)
        if revision in self._failed:
            return Outcome(Stage.FAILED, self._failed[revision])
        return Outcome()

    def begin(self, snapshot: Snapshot) -> None:
        if snapshot.spec.revision in self._failures:
            self._failed[snapshot.spec.revision] = self._failures[snapshot.spec.revision]
            return
        prepared = PreparedRevision(
            PythonWorkload(Path("/bin/python"), "3.11.7", Path("/artifact"))
        )
        self._recorder.add_revision(snapshot, prepared, "environment")

    def forget(self, snapshot: Snapshot) -> None:
        self._failed.pop(snapshot.spec.revision, None)

    def close(self) -> None:
        pass


LOOKS = frozenset(
    {"inspect", "instances", "sample", "recorded", "current", "is_settled", "deployments"}
    | {"active_requests"}
)


class Crashing:
    """Wraps an object: the n-th act on any wrapped one, before or after its effect, is a Crash."""

    def __init__(self, wrapped: Any, fuse: "Fuse") -> None:
        self._wrapped = wrapped
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._wrapped, name)
        if name in LOOKS:
            return method
        if name == "channel":
            return self._channel

        def call(*arguments: Any, **named: Any) -> Any:
            self._fuse.burn(is_after=False)
            result = method(*arguments, **named)
            self._fuse.burn(is_after=True)
            return result

        return call

    def _channel(self, instance_id: str) -> "Crashing | None":
        channel = self._wrapped.channel(instance_id)
        return None if channel is None else Crashing(channel, self._fuse)


@dataclass
class Fuse:
    """``places`` are those to crash at that differ: who dies after an act leaves the same world
    behind as who dies before the next act of the same pass.
    """

    left: int | None = None
    burnt: int = 0
    places: list[int] = field(default_factory=list)
    _is_after: bool = False

    def burn(self, *, is_after: bool) -> None:
        if self._is_after and not is_after:
            self.places.pop()
        self.places.append(self.burnt)
        self._is_after = is_after
        self.burnt += 1
        if self.left is not None:
            if self.left == 0:
                self.left = None
                raise Crash
            self.left -= 1

    def end_pass(self) -> None:
        """What comes next is another time, or another wish."""
        self._is_after = False


class Inline(Executor):
    """Does at once, in the caller's thread, what it is given: a crash in it is the caller's."""

    def submit(self, act: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        act(*arguments, **named)
        return Future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class World:
    """``settings`` are ``HAVRE_*`` variables. Instances are ready at once unless these say more."""

    def __init__(self, database: Database, settings: Mapping[str, str] | None = None) -> None:
        environ = {"HAVRE_MIN_READY_S": "0", **(settings or {})}
        self.settings = load_settings(Path("/nonexistent"), environ=environ)
        self.database = database
        self.engine = FakeEngine()
        self.balancer = FakeBalancer()
        self.fuse = Fuse()
        self.failures: dict[str, str] = {}
        self.listed: list[set[str]] = []
        self.room_made: list[bool] = []
        self.restart()

    def restart(self) -> None:
        """A new control plane in the same world."""
        with self.database.write() as session:
            acquired = leases.acquire(session, Candidate("home", "http://here", None))
        assert acquired is not None
        self.fence = Fence(acquired.token, until=float("inf"), clock=lambda: self.engine.now)
        self.recorder = Recorder(FencedDatabase(self.database, self.fence), lambda: NOW)
        crashing_recorder: Any = Crashing(self.recorder, self.fuse)
        self.deps = Deps(
            database=self.database,
            engine=FencedEngine(Crashing(self.engine, self.fuse), self.fence),  # type: ignore[arg-type]
            balancer=FencedBalancer(Crashing(self.balancer, self.fuse), self.fence),  # type: ignore[arg-type]
            recorder=crashing_recorder,
            fence=self.fence,
            settings=self.settings,
            tenancy_id="tenancy",
            clock=lambda: self.engine.now,
        )
        self.reconciler = Reconciler(
            self.deps,
            make_preparer=lambda _: InstantPreparer(crashing_recorder, self.failures),  # type: ignore[arg-type, return-value]
            verifying=Inline(),
            hooks=Hooks(
                on_listed=self.listed.append, make_room=lambda: self.room_made.append(True)
            ),
        )

    def create(self, *, tags: Mapping[str, str] | None = None, **changes: Any) -> str:
        spec = replace(SPEC, **changes)
        deployment = Deployment(
            id=new_ocid(Kind.DEPLOYMENT),
            compartment_id="compartment",
            created_by="user",
            time_created=NOW,
            project_id="project",
            display_name="name",
            configuration={"of": spec.revision},
            model_id=spec.model_id,
            spec=spec.to_json(),
            freeform_tags=dict(tags or {}),
        )
        with self.database.write() as session:
            intents.create(session, deployment, now=NOW)
        return deployment.id

    def ask(self, deployment_id: str, wish: Callable[..., Any], *arguments: Any) -> None:
        with self.database.write() as session:
            row = session.get(Deployment, deployment_id)
            assert row is not None
            wish(session, row, *arguments, now=NOW)

    def update(
        self, deployment_id: str, *, tags: Mapping[str, str] | None = None, **changes: Any
    ) -> None:
        spec = DeploymentSpec.from_json(self.row(deployment_id).spec)
        spec = replace(spec, **changes)
        fields = {} if tags is None else {"freeform_tags": dict(tags)}
        change = intents.DeploymentChange(
            spec=spec, configuration={"of": spec.revision}, fields=fields
        )
        self.ask(deployment_id, intents.update, change)

    def cancel(self, deployment_id: str) -> None:
        """The change under way."""
        with self.database.write() as session:
            request = session.get(WorkRequest, self.row(deployment_id).work_request_id)
            assert request is not None
            intents.cancel(session, request)

    def settle(self, deployment_id: str, *, passes: int = 60) -> None:
        """Passes, with time going on between them, until nothing moves any more."""
        for _ in range(passes):
            delay_s = self.reconciler.reconcile(deployment_id)
            self.fuse.end_pass()
            if delay_s is None or delay_s == STEADY_S:
                return
            self.engine.advance(max(delay_s, 0.3))

    def row(self, deployment_id: str) -> Deployment:
        with self.database.read() as session:
            row = session.get(Deployment, deployment_id)
            assert row is not None
            return row

    def state(self, deployment_id: str) -> DeploymentState:
        return DeploymentState(self.row(deployment_id).lifecycle_state)

    def work_request(self, deployment_id: str) -> WorkRequest:
        with self.database.read() as session:
            request = session.get(WorkRequest, self.row(deployment_id).work_request_id)
            assert request is not None
            return request

    def outcome(self, deployment_id: str) -> tuple[DeploymentState, WorkRequestState]:
        request = self.work_request(deployment_id)
        return self.state(deployment_id), WorkRequestState(request.status)

    def log(self, deployment_id: str) -> list[str]:
        with self.database.read() as session:
            rows = select(WorkRequestLog.message).where(
                WorkRequestLog.work_request_id == self.row(deployment_id).work_request_id
            )
            return list(session.scalars(rows.order_by(WorkRequestLog.id)))

    def starts(self) -> int:
        return sum(verb == "start" for verb, _ in self.engine.calls)

    def running(self) -> set[str]:
        return {status.id for status in self.engine.instances()}

    def recorded(self) -> set[str]:
        with self.database.read() as session:
            return set(session.scalars(select(InstanceRecord.id)))

    def routed(self, deployment_id: str) -> set[str]:
        route = self.balancer.current(deployment_id)
        if route is None:
            return set()
        return {each.instance_id for part in route.parts for each in part.endpoints}

    def share(self, deployment_id: str) -> int:
        """Percent of the traffic that a canary has."""
        route = self.balancer.current(deployment_id)
        return 0 if route is None or route.canary is None else route.canary.percent
