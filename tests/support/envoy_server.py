"""A real Envoy on a home of its own, and copies to route to: for tests of what needs them.

``from tests.support.envoy_server import envoy`` (and ``upstreams``) makes the fixtures known to a
module.
"""

import http.server
import shutil
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from havre.balancer.base import DEFAULT_TIMEOUTS, Timeouts
from havre.balancer.envoy.admin import Admin
from havre.balancer.envoy.bootstrap import envoy_process, write_bootstrap
from havre.domain.errors import Unavailable
from havre.home import Home
from havre.settings import load_settings

DEADLINE_S = 60.0


def wait_until(condition: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Poll until the condition holds; fails the test at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come to hold in time"
        time.sleep(0.01)


class EnvoyServer:
    """A home and the Envoy that serves it. ``port`` is asked of Envoy after each start."""

    def __init__(self, root: Path, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self.home = Home(root)
        self.home.make()
        self.admin = Admin(self.home.balancer_socket)
        self.timeouts = timeouts
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._settings = replace(load_settings(root, environ={}), balancer_threads=2)
        self._log = (self.home.logs / "load-balancer.log").open("ab")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.home.logs / "load-balancer.log").read_text()

    def processor_s(self) -> float:
        """Seconds of processor time that its threads have used: nobody else's are in it."""
        assert self.process is not None
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        used_s = sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
        assert used_s > 0, "this kernel does not tell what threads have used"
        return used_s

    def start(self) -> None:
        """Start it on the same port as before, if there was one; return when it listens."""
        write_bootstrap(self.home, host="127.0.0.1", port=self.port, timeouts=self.timeouts)
        argv, environment = envoy_process(self.home, self._settings)
        self.process = subprocess.Popen(
            argv, env=environment, cwd=self.home.root, stdout=self._log, stderr=self._log
        )
        wait_until(self._listens)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self) -> None:
        self.kill()
        self._log.close()

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log
        try:
            self.port = self.admin.port()
        except Unavailable:
            return False
        return self.admin.is_ready()


@contextmanager
def running_envoy(*, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Iterator[EnvoyServer]:
    """Sockets need a short path, so the home is not below pytest's."""
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    server = EnvoyServer(root, timeouts=timeouts)
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(root)


@pytest.fixture
def envoy() -> Iterator[EnvoyServer]:
    with running_envoy() as server:
        yield server


Answer = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]


class Upstream(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An HTTP server on a Unix socket that answers as it is told, one request per connection.

    ``requests`` are the requests that arrived: method, path, headers, length of the body.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, socket: Path, answer: Answer) -> None:
        self.socket_path = socket
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str], int]] = []
        super().__init__(str(socket), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection cut by the other side is what some tests are about."""


class PortUpstream(http.server.ThreadingHTTPServer):
    """The same on a port of this machine that the system picks."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str], int]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: "Upstream | PortUpstream"
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers, length))
        self.close_connection = True
        self.server.answer(self, body)

    do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Silence."""


def answer_with(body: bytes, *, status: int = 200, **headers: str) -> Answer:
    """Answers every request the same."""

    def answer(handler: http.server.BaseHTTPRequestHandler, _: bytes) -> None:
        sent = {**headers, "content-length": str(len(body)), "connection": "close"}
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in sent.items()]
        # In one piece, as copies send it: some tests count those that come out.
        handler.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


StartUpstream = Callable[[Path, Answer], Upstream]


@pytest.fixture
def upstreams() -> Iterator[StartUpstream]:
    """Starts servers on Unix sockets; they end with the test."""
    with ExitStack() as stack:

        def start(socket: Path, answer: Answer) -> Upstream:
            server = Upstream(socket, answer)
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
            )
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield start
