"""Export to a receiver that reads OTLP as strictly as Protobuf does, and does what real ones do."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from tests.support.copy_instance import DEADLINE_S, wait_until

from havre.domain.errors import InvalidParameter, SettingInvalid
from havre.domain.latency import BUCKETS, Latency
from havre.domain.logs import Category
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.settings_table import check_collector
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter
from havre.telemetry.metrics.figures import DeploymentFigures, Figures, state_file
from havre.telemetry.otlp.logs import LogExport
from havre.telemetry.otlp.metrics import MetricExport
from havre.telemetry.otlp.sender import OtlpSender, read_headers

SECRET = "Bearer not-to-be-told"


class Receiver:
    """``answers`` are given one after the other, then 200s; what was taken is kept, parsed."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.logs: list[Any] = []
        self.metrics: list[Any] = []
        self.asked = 0
        self.headers: list[dict[str, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.asked += 1
                receiver.headers.append({key.lower(): each for key, each in self.headers.items()})
                body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
                assert self.headers["content-type"] == "application/json"
                status, headers, told = 200, {}, b"{}"
                if receiver.answers:
                    status, headers, told = receiver.answers.pop(0)
                if status == 200 and self.path == "/v1/logs":
                    request = Parse(body, ExportLogsServiceRequest())
                    for each in request.resource_logs:
                        for scope in each.scope_logs:
                            receiver.logs += [
                                (each.resource, scope.scope.name, record)
                                for record in scope.log_records
                            ]
                elif status == 200 and self.path == "/v1/metrics":
                    receiver.metrics.append(Parse(body, ExportMetricsServiceRequest()))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def messages(self) -> list[str]:
        return [record.body.string_value for _, _, record in self.logs]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of}


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr("havre.telemetry.otlp.sender.INITIAL_PAUSE_S", 0.01)
    monkeypatch.setattr("havre.telemetry.otlp.sender.MAX_PAUSE_S", 0.05)
    receiver = Receiver()
    yield receiver
    receiver.close()


class Place:
    """A home whose closed files come from here."""

    def __init__(self, root: Path, receiver: Receiver) -> None:
        self.home = Home(root)
        self.home.make()
        self.home.telemetry.mkdir(exist_ok=True)
        self.deployment = new_ocid(Kind.DEPLOYMENT)
        self.converter = Converter(self.home, Counters())
        self.headers = root / "headers"
        self.headers.write_text(f"# for the collector\nAuthorization: {SECRET}\n")
        self.counters = Counters()
        self._number = int(time.time() * 1000) + 10**6
        self._receiver = receiver

    def sender(self) -> OtlpSender:
        return OtlpSender(self._receiver.url, str(self.headers))

    def export(self) -> Callable[[], None]:
        exporter = LogExport(
            self.home, self.sender(), self.counters, is_stopping=lambda: False, interval_s=0.0
        )
        exporter.collect(int(time.time() * 1000))
        return lambda: exporter.collect(int(time.time() * 1000))

    def segment(self, *messages: str, request: str = "R1", at_once: bool = False) -> int:
        folder = layout.segments_folder(self.home, Category.PREDICT, self.deployment)
        folder.mkdir(parents=True, exist_ok=True)
        self._number += 10_000
        lines = [
            {
                "deployment": self.deployment,
                "id": f"{message}-id",
                "message": message,
                "time": self._number - 9000 + (0 if at_once else place),
                **({"position": (self._number - 9000) * 1000 + place} if at_once else {}),
                "ingested": self._number - 5000,
                "request": request,
                "instance": "8b1f0c7a55d2",
                "copy": 1,
                "revision": "r1",
            }
            for place, message in enumerate(messages)
        ]
        closed = folder / layout.closed_name(self._number)
        closed.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self.converter.convert(Category.PREDICT, closed, self._number)
        return self._number

    def access_segment(self) -> None:
        folder = layout.closed_folder(self.home, Category.ACCESS, "")
        folder.mkdir(exist_ok=True)
        line = {
            "id": "a-uuid",
            "time": "2026-11-25T10:00:00.250Z",
            "deployment": self.deployment,
            "request": "R7",
            "method": "POST",
            "path": f"/{self.deployment}/predict",
            "protocol": "HTTP/1.1",
            "status": 503,
            "flags": "UO",
            "total_ms": 12,
            "copy_us": 900,
            "bytes_in": 2,
            "bytes_out": 7,
            "copy": "8b1f0c7a55d2/0/r1/412",
        }
        self._number += 10_000
        closed = folder / layout.closed_name(self._number)
        closed.write_text(json.dumps(line) + "\n")
        self.converter.convert(Category.ACCESS, closed, self._number)


@pytest.fixture
def place(tmp_path: Path, receiver: Receiver) -> Iterator[Place]:
    place = Place(tmp_path / "h", receiver)
    yield place
    place.converter.close()


def test_entries_of_both_logs_arrive_as_the_protocol_has_them(
    place: Place, receiver: Receiver
) -> None:
    look = place.export()
    place.access_segment()
    place.segment("hello", 'Traceback (most recent call last):\n  File "x"\nValueError: 1')
    wait_until(lambda: look() or len(receiver.logs) == 3)
    (resource, scope, asked), (_, other, hello), (_, _, failed) = receiver.logs
    assert (scope, other) == ("havre.access", "havre.predict")
    assert attributes(resource.attributes) == {
        "service.name": "havre",
        "havre.deployment.id": place.deployment,
    }
    assert asked.time_unix_nano == 1_795_600_800_250_000_000
    assert (asked.severity_text, asked.body.string_value[:5]) == ("ERROR", "POST ")
    told = attributes(asked.attributes)
    assert told["http.response.status_code"] == 503
    assert (told["havre.total_ms"], told["havre.copy_ms"]) == (12.0, 0.9)
    assert (told["log.record.uid"], told["havre.request.id"]) == ("a-uuid", "R7")
    assert (hello.severity_text, failed.severity_text) == ("INFO", "ERROR")
    assert attributes(hello.attributes)["havre.copy"] == 1
    assert {each["authorization"] for each in receiver.headers} == {SECRET}


def test_lines_of_one_millisecond_are_sent_as_they_were_printed(
    place: Place, receiver: Receiver
) -> None:
    look = place.export()
    wanted = [f"line {number}" for number in range(20)]
    place.segment(*wanted, at_once=True)
    wait_until(lambda: look() or len(receiver.logs) == 20)
    assert receiver.messages() == wanted
    records = [record for _, _, record in receiver.logs]
    times = [record.time_unix_nano for record in records]
    assert times == sorted(set(times)), "collectors sort by it"
    positions = [attributes(record.attributes)["havre.position"] for record in records]
    assert [position * 1000 for position in positions] == times


def test_a_collector_that_is_away_gets_everything_once_it_is_back(
    place: Place, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    place.segment("from before it was switched on")
    place.export()
    progress = place.home.telemetry / "otlp.json"
    assert receiver.logs, "its number is in the future here"
    receiver.logs.clear()
    receiver.answers = [
        (503, {}, b""),
        (429, {"retry-after": "0"}, b"no"),
        (401, {}, SECRET.encode()),
    ]
    look = place.export()
    place.segment("one")
    place.segment("two")
    wait_until(lambda: look() or receiver.messages() == ["one", "two"])
    assert receiver.asked == 6
    assert place.counters[Counter.EXPORT_FAILED, "logs"] == 3
    # Another process goes on where this one was.
    look = place.export()
    place.segment("three")
    wait_until(lambda: look() or "three" in receiver.messages())
    look()
    assert receiver.messages() == ["one", "two", "three"]
    assert SECRET not in caplog.text + progress.read_text()
    assert "it responded with 503" in caplog.text


def test_what_is_refused_is_counted_and_holds_nothing_up(place: Place, receiver: Receiver) -> None:
    look = place.export()
    receiver.answers = [
        (400, {}, b"not for me"),
        (200, {}, b'{"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}'),
    ]
    place.segment("bad", "worse")
    place.segment("half", "good")
    place.segment("good")
    wait_until(lambda: look() or receiver.messages() == ["half", "good", "good"])
    assert place.counters[Counter.EXPORT_REJECTED, "logs"] == 3
    assert place.counters[Counter.EXPORTED, "logs"] == 2


def test_segments_that_were_merged_meanwhile_are_not_sent_again(
    place: Place, receiver: Receiver
) -> None:
    look = place.export()
    place.segment("one")
    wait_until(lambda: look() or receiver.messages() == ["one"])
    place.segment("two")
    folder = layout.segments_folder(place.home, Category.PREDICT, place.deployment)
    parts = layout.segments(folder)
    place.converter.merge(Category.PREDICT, parts)
    for part in parts:
        part.path.unlink()
    wait_until(lambda: look() or len(receiver.logs) > 1)
    assert receiver.messages() == ["one", "two"]


def test_metrics_arrive_by_the_names_that_prometheus_sees(place: Place, receiver: Receiver) -> None:
    latency = Latency((3, *[0] * (BUCKETS - 2), 2), 1.5)
    figures = Figures(
        collected_ms=1_764_100_000_000,
        unrouted=4,
        deployments={
            place.deployment: DeploymentFigures(
                requests={"2xx": 5, "5xx": 1}, latency=latency, copies=2, cpu_s=1.25
            )
        },
    )
    state_file(place.home).parent.mkdir(parents=True)
    state_file(place.home).write_text(json.dumps({"figures": figures.to_json()}))
    exporter = MetricExport(place.home, place.sender(), place.counters, interval_s=0.0)
    exporter.collect(0)
    exporter.collect(0)
    [request] = receiver.metrics
    [of_resource] = request.resource_metrics
    found = {each.name: each for each in of_resource.scope_metrics[0].metrics}
    requests = found["havre_predict_requests"].sum
    assert (requests.is_monotonic, requests.aggregation_temporality) == (True, 2)
    by_code = {attributes(each.attributes)["code"]: each.as_double for each in requests.data_points}
    assert (by_code["2xx"], by_code["5xx"], by_code["4xx"]) == (5, 1, 0)
    [copies] = found["havre_copies"].gauge.data_points
    assert attributes(copies.attributes) == {"havre.deployment.id": place.deployment}
    assert (copies.as_double, copies.time_unix_nano) == (2, 1_764_100_000_000_000_000)
    [seen] = found["havre_predict_duration_seconds"].histogram.data_points
    assert (seen.count, seen.sum, seen.bucket_counts[0]) == (5, 1.5, 3)
    assert len(seen.bucket_counts) == len(seen.explicit_bounds) + 1
    assert found["havre_unrouted_requests"].sum.data_points[0].as_double == 4


def telemetry(place: Place, url: str, before: str = "") -> subprocess.Popen[bytes]:
    """The process; ``before``: code it runs first."""
    run = "import runpy; runpy.run_module('havre.telemetry', run_name='__main__', alter_sys=True)"
    (place.home.root / "havre.toml").write_text(
        f'otlp_url = "{url}"\notlp_headers_file = "{place.headers}"\n'
    )
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{run}", "--home", str(place.home.root)],
        stderr=subprocess.PIPE,
    )


def test_the_telemetry_process_exports_when_a_collector_is_named(
    place: Place, receiver: Receiver
) -> None:
    process = telemetry(place, receiver.url)
    try:
        wait_until(lambda: (place.home.telemetry / "otlp.json").exists())
        place.segment("from a process")
        wait_until(lambda: receiver.messages() == ["from a process"] and receiver.metrics)
    finally:
        process.terminate()
        _, told = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, told) == (0, b"")


def test_the_telemetry_process_ends_while_the_collector_leaves_it_waiting(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patient = "import havre.telemetry.otlp.sender as sender; sender.TIMEOUT_S = 600.0"
        process = telemetry(place, f"http://127.0.0.1:{silent.getsockname()[1]}", patient)
        try:
            wait_until(lambda: (place.home.telemetry / "otlp.json").exists())
            place.segment("from a process")
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1)
                process.terminate()
                _, told = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, told) == (0, b"")


def test_headers_and_urls_that_are_wrong_are_told_without_what_is_in_them(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text(SECRET.replace(":", ""))
    with pytest.raises(SettingInvalid) as refused:
        read_headers(str(file))
    assert "line 1" in refused.value.message
    assert SECRET not in refused.value.message
    for url in (f"http://me:{SECRET[-4:]}@here", "http://here?key=told", "here:4318", "ftp://here"):
        with pytest.raises(InvalidParameter) as wrong:
            check_collector(url)
        assert "told" not in wrong.value.message
    check_collector("https://here.example:4318/otlp")
    check_collector("")
