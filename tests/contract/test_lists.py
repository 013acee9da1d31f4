"""What lists cost the database: as many statements for many rows as for few, each by an index."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, event, insert
from tests.support.api_server import Api
from tests.support.deployment_api import DEPLOYMENTS, REQUESTS, active, request_of
from tests.support.deployment_world import add_model

from havre.api.app import create_app
from havre.domain.ocid import Kind, new_ocid
from havre.domain.states import WorkRequestState
from havre.store.schema import Base, Deployment, WorkRequest, WorkRequestLog

MANY_DEPLOYMENTS = 150
REQUESTS_OF_EACH = 5
FAILED = 150
"""So many work requests have failed, and all of them before the others."""


@dataclass
class Statements:
    """What was asked of a database: SQL and parameters, as its driver gets them."""

    asked: list[tuple[str, Any]] = field(default_factory=list)

    def plans(self, connection: Connection) -> str:
        """How the database finds what each of them asks for, when tables are large: PostgreSQL
        knows that these are not, and would rather read them whole.
        """
        how = "EXPLAIN QUERY PLAN"
        if connection.dialect.name == "postgresql":
            how = "EXPLAIN"
            for way in ("seqscan", "bitmapscan", "sort"):
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        lines = [
            " ".join(str(part) for part in row)
            for statement, parameters in self.asked
            for row in connection.exec_driver_sql(f"{how} {statement}", parameters)
        ]
        return "\n".join(lines)


@contextmanager
def watched() -> Iterator[Statements]:
    seen = Statements()

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        seen.asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def columns_of(row: Base) -> dict[str, Any]:
    return {column.key: getattr(row, column.key) for column in row.__mapper__.column_attrs}


@pytest.fixture
def grown(api: Api) -> Api:
    """Many copies of a deployment and of its work request."""
    model_id = add_model(api.services)
    deployment_id = active(api, model_id)
    request_id = request_of(api, deployment_id)
    now = api.clock()
    with api.database.write() as session:
        deployment = columns_of(session.get_one(Deployment, deployment_id))
        request = columns_of(session.get_one(WorkRequest, request_id))
        made = [
            deployment
            | {
                "id": new_ocid(Kind.DEPLOYMENT),
                "display_name": f"copy-{number}",
                "time_created": now + timedelta(seconds=number),
            }
            for number in range(MANY_DEPLOYMENTS)
        ]
        asked = [
            request
            | {
                "id": new_ocid(Kind.WORK_REQUEST),
                "resource_id": made[number % MANY_DEPLOYMENTS]["id"],
                "time_accepted": now + timedelta(seconds=number),
                "status": WorkRequestState.FAILED
                if number < FAILED
                else WorkRequestState.SUCCEEDED,
            }
            for number in range(MANY_DEPLOYMENTS * REQUESTS_OF_EACH)
        ]
        logged = [
            {"work_request_id": each["id"], "message": "step", "timestamp": now} for each in asked
        ]
        for table, rows in ((Deployment, made), (WorkRequest, asked), (WorkRequestLog, logged)):
            session.execute(insert(table), rows)
    return api


def answered(api: Api, path: str, **query: str) -> tuple[list[Any], Statements]:
    with watched() as statements:
        answer = api.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    rows: list[Any] = answer.json()
    return rows, statements


def plans_of(api: Api, statements: Statements) -> str:
    with api.database.read() as session:
        return statements.plans(session.connection())


@pytest.mark.parametrize("path", [DEPLOYMENTS, REQUESTS])
def test_a_page_of_many_is_one_statement(grown: Api, path: str) -> None:
    rows, statements = answered(grown, path, compartmentId=grown.compartment_id, limit="100")
    assert len(rows) == 100
    assert len(statements.asked) == 1


def test_a_list_of_deployments_leaves_out_what_it_does_not_tell(grown: Api) -> None:
    _, statements = answered(grown, DEPLOYMENTS, compartmentId=grown.compartment_id)
    [(statement, _)] = statements.asked
    assert "configuration" in statement
    assert "serving_spec" not in statement


def test_the_base_url_is_looked_up_once_for_a_page(grown: Api) -> None:
    """Each look reads a file."""
    looked: list[str] = []

    def base_url() -> str:
        looked.append("server.json")
        return "http://127.0.0.1:8080"

    services = replace(grown.services, base_url=base_url)
    with TestClient(create_app(services), base_url="http://127.0.0.1") as client:
        rows = client.get(DEPLOYMENTS, params={"compartmentId": grown.compartment_id}).json()
    assert len(rows) == 100
    assert len(looked) == 1


@pytest.mark.parametrize(
    ("path", "query", "found", "index"),
    [
        (REQUESTS, {}, 100, "ix_work_requests_listing"),
        (REQUESTS, {"resourceId": "of one"}, REQUESTS_OF_EACH, "ix_work_requests_of_resource"),
        (REQUESTS, {"status": "FAILED"}, 100, "ix_work_requests_in_state"),
        (DEPLOYMENTS, {"displayName": "copy-7"}, 1, "ix_deployments_by_name"),
        (DEPLOYMENTS, {}, 100, "ix_deployments_listing"),
    ],
    ids=["all", "of a resource", "in a state", "by name", "all deployments"],
)
def test_a_list_is_read_by_its_index(
    grown: Api, path: str, query: dict[str, str], found: int, index: str
) -> None:
    if "resourceId" in query:
        [deployment], _ = answered(
            grown, DEPLOYMENTS, compartmentId=grown.compartment_id, displayName="copy-7"
        )
        query = {"resourceId": deployment["id"]}
    rows, statements = answered(grown, path, compartmentId=grown.compartment_id, **query)
    assert len(rows) == found
    assert index in plans_of(grown, statements)


def test_the_next_page_is_read_by_the_index_too(grown: Api) -> None:
    query = {"compartmentId": grown.compartment_id, "limit": "100"}
    token = grown.client.get(REQUESTS, params=query).headers["opc-next-page"]
    rows, statements = answered(grown, REQUESTS, **query, page=token)
    assert len(rows) == 100
    assert "ix_work_requests_listing" in plans_of(grown, statements)


def test_the_logs_of_a_work_request_are_read_by_their_index(grown: Api) -> None:
    [request, *_], _ = answered(grown, REQUESTS, compartmentId=grown.compartment_id)
    rows, statements = answered(grown, f"{REQUESTS}/{request['id']}/logs")
    assert len(rows) == 1
    assert "ix_work_request_logs_order" in plans_of(grown, statements)
