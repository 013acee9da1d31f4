"""The lease on SQLite and on PostgreSQL: who reconciles, and who is told that it does not."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from havre.balancer.fake import FakeBalancer
from havre.domain.errors import LeaseLost, StateUnavailable
from havre.domain.lease import MARGIN_S, TERM_S, Candidate, Lease, Role
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import DeploymentState, Operation
from havre.domain.workload import PythonWorkload, to_json
from havre.engines.fake import FakeEngine
from havre.reconciler.fence import Fence, FencedDatabase
from havre.reconciler.leader_election import LeaderElection
from havre.reconciler.standby import StandbyDrain
from havre.store import leases, work_requests
from havre.store.database import Database
from havre.store.schema import Deployment, InstanceRecord, Revision

A, B = Candidate("a", "http://a"), Candidate("b", "http://b")


@dataclass
class Clocks:
    """The database's clock, and one that only goes forward: moved by hand, together."""

    now: datetime = datetime(2026, 3, 4, tzinfo=UTC)
    seconds: float = 1000.0

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(leases, "database_now", lambda _: clocks.now)
    return clocks


def acquire(database: Database, candidate: Candidate) -> Lease | None:
    with database.write() as session:
        return leases.acquire(session, candidate)


def renew(database: Database, candidate: Candidate, token: int) -> Lease | None:
    with database.write() as session:
        return leases.renew(session, candidate, token)


def add_deployment(database: Database) -> str:
    """One that is served by an instance, and has a wish nobody has taken up."""
    deployment_id = new_ocid(Kind.DEPLOYMENT)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with database.write() as session:
        request = work_requests.accept(
            session,
            Operation.MODEL_DEPLOYMENT_UPDATE,
            resource_id=deployment_id,
            resource_kind="deployment",
            resource_uri="",
            compartment_id="c",
            now=now,
        )
        session.add(
            Deployment(
                id=deployment_id,
                compartment_id="c",
                created_by="u",
                time_created=now,
                project_id="p",
                display_name="d",
                lifecycle_state=DeploymentState.UPDATING,
                configuration={},
                model_id="m",
                spec={},
                work_request_id=request.id,
                current_instances=1,
            )
        )
        session.flush()
        session.add(
            InstanceRecord(id="i", deployment_id=deployment_id, revision="r", time_created=now)
        )
        session.add(
            Revision(
                deployment_id=deployment_id,
                revision="r",
                spec={},
                environment="e",
                workload=to_json(PythonWorkload(Path("/p"), "3.11", Path("/there/artifact"))),
                time_created=now,
            )
        )
    return deployment_id


def test_the_databases_clock_is_the_time_of_day_and_goes_on_within_a_transaction(database):
    with database.write() as session:
        first, second = leases.database_now(session), leases.database_now(session)
        while second == first:
            second = leases.database_now(session)
    assert abs((first - datetime.now(UTC)).total_seconds()) < 60
    assert second > first


def test_of_two_homes_one_holds_it_until_it_runs_out(database, clocks):
    held = acquire(database, A)
    assert held == Lease("a", 1, "http://a", clocks.now + timedelta(seconds=TERM_S))
    assert acquire(database, B) is None
    clocks.advance(TERM_S - 0.5)
    assert renew(database, A, 1) is not None
    clocks.advance(TERM_S - 0.5)
    assert acquire(database, B) is None
    clocks.advance(1)
    acquired = acquire(database, B)
    assert acquired is not None
    assert (acquired.holder, acquired.token) == ("b", 2)
    assert renew(database, A, 1) is None
    with database.read() as session:
        assert leases.current(session) == (acquired, clocks.now)


def test_only_the_holders_transactions_go_through(database, clocks):
    first = acquire(database, A)
    fence = Fence(first.token, until=float("inf"))
    fenced = FencedDatabase(database, fence)
    deployment = add_deployment(database)
    with fenced.write() as session:
        session.get_one(Deployment, deployment).display_name = "changed"
    acquire(database, A)  # its own control plane, started anew
    with pytest.raises(LeaseLost, match="nothing was changed"), fenced.write() as session:
        session.get_one(Deployment, deployment).display_name = "changed again"
    with database.read() as session:
        assert session.get_one(Deployment, deployment).display_name == "changed"


def test_taking_it_from_another_home_forgets_what_runs_there(database, clocks):
    deployment = add_deployment(database)
    acquire(database, A)  # the first lease of a database that was there before it had any
    acquire(database, A)

    def known() -> tuple[int, int, int]:
        with database.read() as session:
            return (
                len(session.scalars(select(InstanceRecord)).all()),
                len(session.scalars(select(Revision)).all()),
                session.get_one(Deployment, deployment).current_instances,
            )

    assert known() == (1, 1, 1)
    clocks.advance(TERM_S)
    assert acquire(database, B) is not None
    assert known() == (0, 0, 0)


def test_what_nobody_has_taken_up_is_waiting(database, clocks):
    deployment = add_deployment(database)
    with database.write() as session:
        assert leases.pending(session) == [deployment]
        request = session.get_one(Deployment, deployment).work_request_id
        work_requests.start(session, request, "Begun.", now=clocks.now)
    with database.write() as session:
        assert leases.pending(session) == []
        work_requests.cancel(session, request)
        assert leases.pending(session) == [deployment]


def test_a_transaction_under_way_holds_off_the_next_holder_and_not_a_renewal(database, clocks):
    if database.is_sqlite:
        pytest.skip("SQLite has one writer")
    held = acquire(database, A)
    clocks.advance(TERM_S)
    fenced = FencedDatabase(database, Fence(held.token, until=float("inf")))
    acquired: list[Lease | None] = []
    with fenced.write():
        beside = threading.Thread(target=lambda: acquired.append(acquire(database, B)))
        beside.start()
        beside.join(timeout=0.5)
        assert beside.is_alive()
    beside.join(timeout=10)
    assert [each.holder for each in acquired if each] == ["b"]
    with FencedDatabase(database, Fence(acquired[0].token, until=float("inf"))).write():
        assert renew(database, B, acquired[0].token) is not None


@dataclass
class Doubled:
    """Stands where the reconciler does."""

    fence: Fence
    events: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.events.append("start")

    def stop(self) -> None:
        self.events.append("stop")

    def wake(self, deployment_id: str) -> None:
        self.events.append(deployment_id)


class Home:
    """A control plane of a home: what decides who reconciles, moved by hand."""

    def __init__(self, database: Database, clocks: Clocks, who: Candidate) -> None:
        self.reconcilers: list[Doubled] = []
        self.engine, self.balancer = FakeEngine(), FakeBalancer()

        def make(fence: Fence) -> Doubled:
            self.reconcilers.append(Doubled(fence))
            return self.reconcilers[-1]

        self.election = LeaderElection(
            database,
            lambda: who,
            make,  # type: ignore[arg-type]
            lambda: StandbyDrain(
                self.engine,
                self.balancer,
                drain_timeout_s=60.0,
                stream_total_s=300.0,
                clock=lambda: clocks.seconds,
            ),
            clock=lambda: clocks.seconds,
        )
        self.step = self.election.step

    @property
    def may_act(self) -> bool:
        return self.election.role is Role.HOLDER and self.reconcilers[-1].fence.is_open


@pytest.fixture
def homes(database: Database, clocks: Clocks) -> Iterator[tuple[Home, Home]]:
    return Home(database, clocks, A), Home(database, clocks, B)


def test_a_standby_takes_over_when_the_holder_is_silent_for_a_term(homes, clocks):
    a, b = homes
    a.step()
    for _ in range(20):
        a.step()
        b.step()
        clocks.advance(1)
        assert (a.election.role, b.election.role) == (Role.HOLDER, Role.STANDBY)
        assert b.election.url == a.election.url == "http://a"
    silent_s = 0
    while b.election.role is Role.STANDBY:
        b.step()
        clocks.advance(1)
        silent_s += 1
        assert not (a.may_act and b.may_act)
    assert silent_s <= TERM_S + 2
    assert b.election.url == "http://b"
    a.step()
    assert a.election.role is Role.STANDBY
    assert a.reconcilers[0].events[-1] == "stop"
    a.step()
    assert a.election.url == "http://b"
    assert len(a.reconcilers) == len(b.reconcilers) == 1


def test_a_control_plane_that_is_started_anew_takes_its_lease_back_at_once(homes, database, clocks):
    a, b = homes
    a.step()
    b.step()
    clocks.advance(1)
    again = Home(database, clocks, A)
    again.step()
    assert again.election.role is Role.HOLDER
    a.step()
    assert a.election.role is Role.STANDBY
    assert not a.reconcilers[0].fence.is_open
    for _ in range(10):  # and they do not take it from each other for ever
        for each in (a, b, again):
            each.step()
        clocks.advance(1)
    assert again.election.role is Role.HOLDER


def test_wishes_at_a_standby_wake_the_holder(homes, database):
    a, b = homes
    a.step()
    b.step()
    deployment = add_deployment(database)
    b.election.wake(deployment)
    a.step()
    assert a.reconcilers[0].events == ["start", deployment]
    a.election.wake("another")
    assert a.reconcilers[0].events[-1] == "another"


def test_a_database_that_was_away_changes_no_holder(homes, database, clocks, monkeypatch):
    a, b = homes
    a.step()
    b.step()

    def away() -> None:
        raise StateUnavailable("away")

    def look(home: Home) -> None:
        """As the thread does."""
        try:
            home.step()
        except StateUnavailable:
            home.election._observer.interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(database, "read", away)
        patch.setattr(database, "write", away)
        for seconds in range(30):
            look(a)
            look(b)
            assert a.may_act == (seconds < TERM_S - MARGIN_S)
            clocks.advance(1)
    for _ in range(int(TERM_S)):  # back: the standby is first to see it, and waits
        look(b)
        clocks.advance(0.5)
    look(a)
    assert a.may_act
    assert a.election.role is Role.HOLDER
    assert b.election.role is Role.STANDBY
    assert len(a.reconcilers) == 1


def test_a_home_of_its_own_holds_the_lease_for_good(database, clocks):
    own = Home(database, clocks, Candidate("own", "http://own", term_s=None))
    own.step()
    clocks.advance(1e6)
    assert own.may_act
    moved = Home(database, clocks, Candidate("copy", "http://copy", term_s=None))
    moved.step()
    assert moved.may_act
