"""Calls that tests of the deployments API share."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from fastapi.testclient import TestClient
from tests.support.deployment_world import create_request, settle

from havre.api.app import create_app
from havre.domain.capacity import Machine
from havre.domain.shape import GIB

DEPLOYMENTS = "/20190101/modelDeployments"
REQUESTS = "/20190101/workRequests"


def create(api, model_id, **fields) -> str:
    answer = api.client.post(DEPLOYMENTS, json=create_request(api.services, model_id, **fields))
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def active(api, model_id, **fields) -> str:
    deployment_id = create(api, model_id, **fields)
    settle(api.services, deployment_id)
    return deployment_id


def get(api, deployment_id):
    answer = api.client.get(f"{DEPLOYMENTS}/{deployment_id}")
    assert answer.status_code == 200
    return answer.json()


def refused(answer, status, code, *words):
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    for word in words:
        assert word in answer.json()["message"]


def at_once(*calls):
    """The answers of calls that start together."""
    barrier = threading.Barrier(len(calls))

    def call(action):
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def listed(api, **query):
    answer = api.client.get(DEPLOYMENTS, params={"compartmentId": api.compartment_id, **query})
    assert answer.status_code == 200, answer.text
    assert "opc-next-page" not in answer.headers
    return [row["id"] for row in answer.json()]


def request_of(api, deployment_id) -> str:
    query = {"compartmentId": api.compartment_id, "resourceId": deployment_id}
    return api.client.get(REQUESTS, params=query).json()[0]["id"]


def small(api, *, threads, gpus=0, memory_gb=8, **settings) -> TestClient:
    """A client of the same API on a machine of this size."""
    services = replace(
        api.services,
        machine=Machine(threads=threads, memory_bytes=memory_gb * GIB, gpus=gpus),
        settings=replace(api.services.settings, **settings),
    )
    return TestClient(create_app(services))
