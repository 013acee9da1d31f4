"""Any calls of the API in any order, over a reconciler whose engine has its troubles: all end well.

Each life is a sequence of calls, of passes of the reconciler and of faults. In the end, when the
faults are over, every deployment is in a final state, every change has ended, and what runs is what
is wanted.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.support.api_server import Clock, make_services
from tests.support.databases import migrated_sqlite
from tests.support.deployment_world import CONFIGURATION, add_model, create_request
from tests.unit.reconciler.world import World

from havre.api.app import create_app
from havre.domain.deployment import DeploymentSpec
from havre.domain.states import FINISHED
from havre.engines.fake import Script
from havre.store.database import Database
from havre.store.schema import Deployment, WorkRequest

EXAMPLES = 2 * int(os.environ.get("FUZZ_EXAMPLES", "20"))
FINAL = {"ACTIVE", "INACTIVE", "FAILED", "DELETED"}
MOST_PASSES = 400
DEPLOYMENTS, REQUESTS = "/20190101/modelDeployments", "/20190101/workRequests"

UPDATES = (
    "another name",
    "variables",
    "instances",
    "bandwidth",
    "variables that fail",
    "variables that never load",
)
STEPS = st.one_of(
    st.tuples(st.just("create"), st.integers(1, 3)),
    st.tuples(st.just("update"), st.sampled_from(UPDATES)),
    st.tuples(st.just("update"), st.sampled_from(UPDATES)),
    st.tuples(st.sampled_from(("activate", "deactivate", "delete", "cancel")), st.none()),
    st.tuples(st.just("passes"), st.integers(1, 12)),
    st.tuples(st.just("passes"), st.integers(1, 12)),
    st.tuples(st.just("an instance dies"), st.none()),
    st.tuples(st.just("restart"), st.none()),
)


class Life:
    """Deployments under a client, a reconciler and faults, all moved by hand."""

    def __init__(self, database: Database, root: Path) -> None:
        self.world = World(database)
        services = make_services(database, root, clock=Clock(), woken=[])
        self._model = add_model(services)
        self._client = TestClient(create_app(services), base_url="http://127.0.0.1")
        self._services = services
        self._count = 0
        self.made: list[str] = []

    def step(self, what: str, how: Any, which: int) -> None:
        self._count += 1
        if what == "create":
            self._create(how)
        elif what == "passes":
            self.passes(how)
        elif what == "an instance dies":
            for instance in sorted(self.world.running())[:1]:
                self.world.engine.kill(instance)
        elif what == "restart":
            self.world.restart()
        elif self.made:
            self._change(what, how, self.made[which % len(self.made)])

    def passes(self, count: int) -> None:
        for _ in range(count):
            for deployment in self.made:
                self.world.reconciler.reconcile(deployment)
            self.world.engine.advance(0.5)

    def _create(self, instances: int) -> None:
        body = create_request(self._services, self._model)
        policy = body[CONFIGURATION]["modelConfigurationDetails"]["scalingPolicy"]
        policy["instanceCount"] = instances
        answer = self._client.post(DEPLOYMENTS, json=body)
        assert answer.status_code == 202, answer.text
        self.made.append(answer.json()["id"])

    def _change(self, what: str, how: Any, deployment: str) -> None:
        path = f"{DEPLOYMENTS}/{deployment}"
        if what == "update":
            answer = self._client.put(path, json=self._wish(how))
        elif what == "delete":
            answer = self._client.delete(path)
        elif what == "cancel":
            request = self.world.row(deployment).work_request_id
            answer = self._client.delete(f"{REQUESTS}/{request}")
        else:
            answer = self._client.post(f"{path}/actions/{what}")
        assert answer.status_code in (202, 409), answer.text
        if what == "update" and answer.status_code == 202:
            revision = DeploymentSpec.from_json(self.world.row(deployment).spec).revision
            if how == "variables that fail":
                self.world.engine.script(revision, Script(fails_with="ValueError: bad"))
            elif how == "variables that never load":
                self.world.engine.script(revision, Script(ready_after_s=None))

    def _wish(self, how: str) -> dict[str, Any]:
        if how == "another name":
            return {"displayName": f"n{self._count}"}
        if how.startswith("variables"):
            variables = {"MARK": f"{self._count}"}
            return {
                CONFIGURATION: {
                    "environmentConfigurationDetails": {"environmentVariables": variables}
                }
            }
        model: dict[str, Any] = {"bandwidthMbps": 10 + self._count}
        if how == "instances":
            model = {"scalingPolicy": {"policyType": "FIXED_SIZE", "instanceCount": 2}}
        return {CONFIGURATION: {"modelConfigurationDetails": model}}

    def end(self) -> None:
        """No faults any more; whoever waits for ever calls it off."""
        for deployment in self.made:
            self.world.settle(deployment, passes=40)
            if self.world.state(deployment) not in FINAL:
                self._change("cancel", None, deployment)
            self.world.settle(deployment, passes=MOST_PASSES)
        self.passes(3)

    def assert_all_is_well(self) -> None:
        with self.world.database.read() as session:
            rows = session.scalars(select(Deployment)).all()
            unfinished = select(WorkRequest.id).where(WorkRequest.status.not_in(FINISHED))
            assert session.scalars(unfinished).all() == []
        wanted = 0
        for row in rows:
            assert row.lifecycle_state in FINAL, (row.lifecycle_state, row.lifecycle_details)
            routed = self.world.routed(row.id)
            count = row.spec["instance_count"] if row.lifecycle_state == "ACTIVE" else 0
            assert len(routed) == count == row.current_instances
            assert routed <= self.world.running()
            wanted += count
        assert len(self.world.running()) == wanted
        assert self.world.running() == self.world.recorded()


@contextmanager
def new_life() -> Iterator[Life]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as folder:
        database = migrated_sqlite(Path(folder, "havre.sqlite3"))
        try:
            yield Life(database, Path(folder, "home"))
        finally:
            database.close()


def test_every_sequence_of_api_calls_ends_consistently() -> None:
    @settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(steps=st.lists(st.tuples(STEPS, st.integers(0, 5)), min_size=3, max_size=20))
    def live(steps: list[tuple[tuple[str, Any], int]]) -> None:
        with new_life() as life:
            life.step("create", 2, 0)
            for (what, how), which in steps:
                life.step(what, how, which)
            life.end()
            life.assert_all_is_well()

    live()
