"""The access log of a real Envoy, collected: what an entry says, and that none is lost."""

import contextlib
import http.client
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
from tests.support.envoy_server import (
    EnvoyServer,
    StartUpstream,
    answer_with,
    envoy,  # noqa: F401
    upstreams,  # noqa: F401
    wait_until,
)
from tests.support.small_disk import fill, small_disk

from havre.balancer.envoy.balancer import EnvoyBalancer
from havre.domain.address import UnixAddress
from havre.domain.errors import Unavailable
from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.domain.route import Endpoint, Route
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.logs import access_log
from havre.telemetry.logs.access_log import AccessLog

INSTANCE = "8b1f0c7a55d2"


@pytest.fixture
def deployment(envoy: EnvoyServer, upstreams: StartUpstream) -> Iterator[str]:  # noqa: F811
    with deployed(envoy, upstreams) as deployment_id:
        yield deployment_id


@contextmanager
def deployed(envoy: EnvoyServer, upstreams: StartUpstream) -> Iterator[str]:  # noqa: F811
    socket = envoy.home.instance_sockets / f"{INSTANCE}.sock"
    upstreams(socket, answer_with(b'{"a":1}', x_havre_copy=f"{INSTANCE}/1/r1/412"))
    balancer = EnvoyBalancer(envoy.home)
    balancer.start()
    deployment_id = new_ocid(Kind.DEPLOYMENT)
    balancer.publish(
        Route(deployment_id, "r1", (Endpoint(INSTANCE, UnixAddress(socket)),), 8, 1000)
    )
    yield deployment_id
    balancer.stop()


@pytest.fixture
def store(envoy: EnvoyServer) -> Iterator[LogReader]:  # noqa: F811
    store = LogReader(envoy.home)
    yield store
    store.close()


def collector(envoy: EnvoyServer) -> AccessLog:  # noqa: F811
    counters = Counters()
    return AccessLog(
        envoy.home,
        envoy.admin,
        Converter(envoy.home, counters),
        counters,
        max_bytes=10**9,
        close_after_s=0.0,
    )


def collect(collector: AccessLog) -> None:
    collector.collect(time.time_ns() // 1_000_000)


def entries(store: LogReader, *deployments: str, sql: str = "") -> list[dict[str, Any]]:
    answer = store.query(
        sql or "SELECT * FROM entries ORDER BY time, id",
        category=Category.ACCESS,
        deployments=deployments or None,
        time_from_ms=0,
        time_to_ms=2**53,
        limit=1_000_000,
        time_limit_s=60,
    )
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def test_an_entry_says_what_was_asked_and_who_answered(
    envoy: EnvoyServer,  # noqa: F811
    deployment: str,
    store: LogReader,
) -> None:
    url = f"{envoy.url}/{deployment}/predict"
    headers = {"opc-request-id": "mine", "x-envoy-original-path": "/forged"}
    answer = requests.post(f"{url}?token=secret", data=b"{}", headers=headers, timeout=10)
    assert "x-havre-copy" not in answer.headers
    requests.get(url, timeout=10)
    announce_too_much(envoy, f"/{deployment}/predict?token=secret")
    unknown = new_ocid(Kind.DEPLOYMENT)
    requests.post(f"{envoy.url}/{unknown}/predict", data=b"{}", timeout=10)
    for of_the_api in ("healthz", f"20190101/modelDeployments/{deployment}"):
        requests.get(f"{envoy.url}/{of_the_api}", timeout=10)
    wait_until(lambda: len(entries(store)) == 4)
    served, wrong_method, too_large = entries(store, deployment)
    [lost] = entries(store, unknown)
    assert "secret" not in envoy.home.access_log.read_text()
    assert (served["request"], served["deployment"]) == ("mine", deployment)
    assert (served["instance"], served["copy"], served["revision"]) == (INSTANCE, 1, "r1")
    assert (served["method"], served["status"], served["flags"]) == ("POST", 200, None)
    assert (served["bytes_in"], served["bytes_out"]) == (2, 7)
    assert (served["path"], served["protocol"]) == (f"/{deployment}/predict", "HTTP/1.1")
    assert served["message"] == "POST /predict 1.1"
    assert 0 < served["copy_ms"] <= served["total_ms"] + 1
    assert served["model_ms"] == 0.412
    assert abs(served["time"] - time.time() * 1000) < 60_000
    assert served["ingested"] >= served["time"]
    # No control plane is here to read the large body away.
    assert (wrong_method["status"], too_large["status"], lost["status"]) == (405, 503, 404)
    for refused in (wrong_method, too_large, lost):
        assert {refused[each] for each in ("instance", "copy", "copy_ms", "model_ms")} == {None}
    assert len({each["id"] for each in (served, wrong_method, too_large, lost)}) == 4
    # The same when they have moved on, and there is one folder for all that leads nowhere.
    before = entries(store)
    collecting = collector(envoy)
    wait_until(lambda: collect(collecting) or segments(envoy) == 2)
    assert layout.closed_files(envoy.home.telemetry / "access") == {}
    assert entries(store) == before
    folders = {path.name for path in (envoy.home.telemetry / "access").iterdir() if path.is_dir()}
    assert folders == {deployment, layout.UNROUTED}


def test_collecting_under_load_loses_and_doubles_no_entry(
    envoy: EnvoyServer,  # noqa: F811
    deployment: str,
    store: LogReader,
) -> None:
    collecting = collector(envoy)
    ending = threading.Event()

    def ask() -> int:
        sent = 0
        with requests.Session() as session:
            while not ending.is_set():
                session.post(f"{envoy.url}/{deployment}/predict", data=b"{}", timeout=10)
                sent += 1
        return sent

    def look() -> int:
        looks = 0
        while not ending.is_set():
            [found] = entries(store, sql="SELECT count(*) n, count(DISTINCT id) ids FROM entries")
            assert found["n"] == found["ids"]
            looks += 1
        return looks

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        looking = pool.submit(look)
        try:
            wait_until(lambda: collect(collecting) or segments(envoy) >= 4)
        finally:
            ending.set()
    sent = sum(each.result() for each in asking)
    assert looking.result() > 0
    wait_until(lambda: len(entries(store, deployment)) == sent)
    assert len({each["id"] for each in entries(store, deployment)}) == sent


def test_a_file_waits_until_the_load_balancer_has_left_it(
    envoy: EnvoyServer,  # noqa: F811
    deployment: str,
    store: LogReader,
) -> None:
    url = f"{envoy.url}/{deployment}/predict"
    requests.post(url, data=b"{}", timeout=10)
    wait_until(lambda: len(entries(store)) == 1)
    # Whoever closed it was killed before Envoy was asked to leave it.
    place = envoy.home.telemetry / "access"
    place.mkdir()
    envoy.home.access_log.rename(place / layout.closed_name(7))
    requests.post(url, data=b"{}", timeout=10)
    wait_until(lambda: len(entries(store)) == 2)  # into the closed file
    collecting = collector(envoy)
    wait_until(lambda: collect(collecting) or segments(envoy) == 1)
    assert len(entries(store)) == 2
    # A load balancer that is not there cannot say that it has left a file.
    requests.post(url, data=b"{}", timeout=10)
    wait_until(lambda: len(entries(store)) == 3)
    envoy.kill()
    with pytest.raises(Unavailable):
        wait_until(lambda: collect(collecting) or False)
    collect(collecting)
    assert (segments(envoy), len(layout.closed_files(place))) == (1, 1)
    envoy.start()
    wait_until(lambda: collect(collecting) or segments(envoy) == 2)
    assert len(entries(store)) == 3


def test_a_full_disk_loses_entries_and_says_so_and_no_prediction(
    upstreams: StartUpstream,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(access_log, "INTERVAL_S", 0.0)
    monkeypatch.setattr(access_log, "RETRY_S", 0.1)
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    with ExitStack() as stack:
        stack.callback(root.rmdir)
        stack.enter_context(small_disk(root, megabytes=8))
        envoy = stack.enter_context(contextlib.closing(EnvoyServer(root)))
        envoy.start()
        with deployed(envoy, upstreams) as deployment:
            store, collecting = LogReader(root_home := Home(root)), collector(envoy)
            url = f"{envoy.url}/{deployment}/predict"

            def ask() -> int:
                return requests.post(url, data=b"{}", timeout=10).status_code

            def told() -> list[dict[str, Any]]:
                collect(collecting)
                return entries(
                    store, deployment, sql="SELECT * FROM entries WHERE message LIKE '%lost%'"
                )

            assert ask() == 200
            wait_until(lambda: root_home.access_log.stat().st_size > 0)
            assert told() == []
            filling = root / "filling"
            fill(filling)
            wait_until(lambda: ask() == 200 and envoy.admin.failed_writes() > 0)
            with pytest.raises((OSError, duckdb.Error)):
                wait_until(lambda: told() != [])
            filling.unlink()
            wait_until(lambda: ask() == 200 and told() != [])
            [notice] = told()
            assert (notice["deployment"], notice["status"]) == (deployment, None)
            assert "writes of the access log failed" in notice["message"]
            known = entries(store, deployment)
            assert len({each["id"] for each in known}) == len(known)
            store.close()


def announce_too_much(envoy: EnvoyServer, path: str) -> None:  # noqa: F811
    connection = http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=10)
    connection.request("POST", path, body=b"", headers={"content-length": "99999999999"})
    connection.getresponse().read()
    connection.close()


def segments(envoy: EnvoyServer) -> int:  # noqa: F811
    return len(list(envoy.home.telemetry.glob("access/*/*.parquet")))
