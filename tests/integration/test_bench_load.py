"""The load generator tells right answers from wrong ones and keeps its schedule; a caged server
and its daemons are counted, and ended.
"""

import contextlib
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.load.plan import Exchange, arrivals, http_request
from bench.load.records import Record, Verdict, outcome
from bench.load.run import SOURCE, Generator
from bench.processes import cpu_seconds, tree

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


FAULTS = ("wrong", "429", "500", "broken")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path that was asked; every third of /flaky has a fault."""

    protocol_version = "HTTP/1.1"
    count = 0
    counting = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with Handler.counting:
            Handler.count += 1
            number = Handler.count
        fault = ""
        if self.path == "/flaky" and number % 3 == 0:
            fault = FAULTS[number // 3 % 4]
        if self.path == "/pause":
            time.sleep(0.2)
        if fault == "broken":
            self.close_connection = True
            return
        self.send_response(int(fault) if fault.isdigit() else 200)
        answer = b"ok" + body if fault != "wrong" else b"no" + body
        if self.path == "/chunked":
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for part in (answer[:1], answer[1:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            return
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *ignored: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # all that an open loop opens while this process stands still


@pytest.fixture
def port() -> Iterator[int]:
    Handler.count = 0
    server = Server(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield server.server_port
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("load") / "load"
    words = ["-O1", "-Wall", "-Wextra", "-Werror", "-o", str(built), str(SOURCE)]
    subprocess.run(["cc", *words], check=True)
    return built


@pytest.fixture
def generator(program: Path, tmp_path: Path) -> Generator:
    return Generator(program, tmp_path)


def exchanges(path: str, count: int = 5) -> list[Exchange]:
    bodies = [b"%d" % number * (number + 1) for number in range(count)]
    return [
        Exchange(http_request(path, body), b"ok" + body, b"\xff" * (2 + len(body)))
        for body in bodies
    ]


def run_closed(
    generator: Generator, port: int, path: str, *, at_least: int
) -> tuple[list[Record], float]:
    """For longer, where a machine that stood still has let it send too few."""
    for seconds in (0.5, 5, 30):
        Handler.count = 0
        run = generator.run(port, exchanges(path), connections=3, seconds=seconds)
        if Handler.count >= at_least:
            break
    return run


def test_right_answers_are_counted_with_a_length_and_in_chunks(port, generator) -> None:
    for path in ("/plain", "/chunked"):
        records, cpu_s = run_closed(generator, port, path, at_least=6)
        assert len(records) == Handler.count > 5
        assert {record.verdict for record in records} == {Verdict.CORRECT}
        assert {record.exchange for record in records} == set(range(5))
        assert cpu_s > 0


def test_each_kind_of_fault_is_told(port, generator) -> None:
    records, _ = run_closed(generator, port, "/flaky", at_least=3 * len(FAULTS))
    came_to = outcome(records)
    assert came_to.answered == Handler.count
    kinds = [FAULTS[number // 3 % 4] for number in range(3, Handler.count + 1, 3)]
    assert set(kinds) == set(FAULTS)
    assert came_to.wrong == kinds.count("wrong")
    assert came_to.refused == kinds.count("429")
    assert came_to.failed == kinds.count("500") + kinds.count("broken")


def test_a_byte_under_the_mask_may_differ_and_no_other(port, generator) -> None:
    request = http_request("/plain", b"12")
    masked = [Exchange(request, b"ok1?", b"\xff\xff\xff\x00")]
    strict = [Exchange(request, b"ok1?", b"\xff" * 4)]
    for asked, verdict in ((masked, Verdict.CORRECT), (strict, Verdict.WRONG)):
        records, _ = generator.run(port, asked, connections=1, seconds=0.2)
        assert {record.verdict for record in records} == {verdict}


def test_an_open_loop_does_not_wait_for_answers(port, generator) -> None:
    schedule = arrivals(100, 1, seed=1)
    records, _ = generator.run(port, exchanges("/pause"), schedule=schedule)
    assert len(records) == len(schedule)
    assert {record.verdict for record in records} == {Verdict.CORRECT}
    assert sorted(record.due for record in records) == [round(due.at_s * 1e9) for due in schedule]
    # Ten connections would have made it last twice as long.
    in_flight = max(
        sum(other.sent <= record.sent < other.done for other in records) for record in records
    )
    assert in_flight > 10


def test_a_server_that_is_gone_is_no_success(generator) -> None:
    records, _ = generator.run(1, exchanges("/plain"), connections=2, seconds=0.2)
    assert outcome(records).correct == 0
    assert outcome(records).failed > 0


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    open("daemon", "w").close()
    time.sleep(600)
os.wait()
time.sleep(600)
"""


def test_a_daemon_is_counted_and_ended_with_its_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.cage", str(tmp_path), sys.executable, "-c", DAEMON]
    cage = subprocess.Popen(command, cwd=ROOT)
    try:
        deadline = time.monotonic() + DEADLINE_S
        # Two: when who had started the daemon has ended, and been waited for.
        while not (tmp_path / "daemon").exists() or len(below := tree(cage.pid)) != 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert cpu_seconds(cage.pid) >= 0.18
    finally:
        cage.send_signal(signal.SIGTERM)
        cage.wait(DEADLINE_S)
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            pytest.fail(f"process {pid} is left")
