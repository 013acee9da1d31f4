"""The access log of a real Envoy: what a line says, and that a rotation loses none."""

import gzip
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.envoy_server import (
    EnvoyServer,
    StartUpstream,
    answer_with,
    envoy,  # noqa: F401
    upstreams,  # noqa: F401
    wait_until,
)

from havre.balancer.access_log import Rotation
from havre.balancer.envoy import EnvoyBalancer
from havre.domain.errors import Unavailable
from havre.domain.ocid import Kind, new_ocid
from havre.domain.route import Endpoint, Route

INSTANCE = "8b1f0c7a55d2"


@pytest.fixture
def deployment(envoy: EnvoyServer, upstreams: StartUpstream) -> Iterator[str]:  # noqa: F811
    socket = envoy.home.instance_sockets / f"{INSTANCE}.sock"
    upstreams(socket, answer_with(b'{"a":1}', x_havre_copy=f"{INSTANCE}/1"))
    balancer = EnvoyBalancer(envoy.home)
    balancer.start()
    deployment_id = new_ocid(Kind.DEPLOYMENT)
    balancer.publish(Route(deployment_id, "r1", (Endpoint(INSTANCE, socket),), 8, 1000))
    yield deployment_id
    balancer.stop()


def test_a_line_says_what_was_asked_and_who_answered(
    envoy: EnvoyServer,  # noqa: F811
    deployment: str,
) -> None:
    answer = requests.post(
        f"{envoy.url}/{deployment}/predict?token=secret",
        data=b"{}",
        headers={"opc-request-id": "mine"},
        timeout=10,
    )
    assert "x-havre-copy" not in answer.headers
    unknown = new_ocid(Kind.DEPLOYMENT)
    requests.post(f"{envoy.url}/{unknown}/predict", data=b"{}", timeout=10)
    requests.get(f"{envoy.url}/healthz", timeout=10)
    log = envoy.home.access_log
    wait_until(lambda: log.exists() and len(lines(log)) == 2)
    served, refused = lines(log)
    assert served["deployment"] == deployment
    assert (served["request"], served["copy"]) == ("mine", f"{INSTANCE}/1")
    assert (served["method"], served["status"], served["flags"]) == ("POST", 200, "-")
    assert (served["bytes_in"], served["bytes_out"]) == (2, 7)
    assert 0 < served["copy_us"] <= (served["total_ms"] + 1) * 1000
    assert served["time"].endswith("Z")
    assert "secret" not in log.read_text()
    assert refused["status"] == 404
    assert refused["path"] == f"/{unknown}/predict"
    assert not {"copy", "copy_us", "deployment"} & refused.keys()
    assert served["id"] != refused["id"]


def test_a_rotation_loses_no_line(envoy: EnvoyServer, deployment: str) -> None:  # noqa: F811
    log = envoy.home.access_log
    rotation = Rotation(log, envoy.admin, max_mb=1)
    ending = threading.Event()

    def ask() -> int:
        sent = 0
        with requests.Session() as session:
            while not ending.is_set():
                session.post(f"{envoy.url}/{deployment}/predict", data=b"{}", timeout=10)
                sent += 1
        return sent

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for turns in range(1, 4):
                wait_until(lambda: log.exists() and log.stat().st_size > 130_000)
                rotation.rotate()
                assert len(compressed(log)) == turns
        finally:
            ending.set()
    sent = sum(each.result() for each in asking)

    def found() -> list[str]:
        whole = [entry["id"] for path in compressed(log) for entry in lines(path)]
        return whole + [entry["id"] for entry in lines(log)]

    wait_until(lambda: len(found()) == sent)
    assert len(set(found())) == sent


def test_the_oldest_goes_and_what_a_crash_left_is_compressed(
    envoy: EnvoyServer,  # noqa: F811
    deployment: str,
) -> None:
    log = envoy.home.access_log
    requests.post(f"{envoy.url}/{deployment}/predict", data=b"{}", timeout=10)
    wait_until(log.exists)
    for number in range(10):
        log.with_suffix(f".{1_700_000_000_000 + number}.jsonl").write_text("{}\n")
    Rotation(log, envoy.admin, max_mb=1).rotate()
    assert [int(path.name.split(".")[1]) % 100 for path in compressed(log)] == [*range(2, 10)]
    assert list(log.parent.glob("access.*.jsonl")) == []
    envoy.kill()
    log.write_bytes(b"x" * 200_000)
    with pytest.raises(Unavailable):
        Rotation(log, envoy.admin, max_mb=1).rotate()
    [closed] = log.parent.glob("access.*.jsonl")  # kept, until a load balancer has another open
    envoy.start()
    requests.post(f"{envoy.url}/{deployment}/predict", data=b"{}", timeout=10)
    wait_until(log.exists)
    Rotation(log, envoy.admin, max_mb=1).rotate()
    assert not closed.exists()
    assert gzip.decompress(compressed(log)[-1].read_bytes()) == b"x" * 200_000


def lines(path: Path) -> list[dict[str, Any]]:
    """Its entries; the last line may be half written yet."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def compressed(log: Path) -> list[Path]:
    return sorted(log.parent.glob("access.*.jsonl.gz"))
