"""One port per home, and nobody else's."""

import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest
from tests.support.supervisor_harness import DEADLINE_S, SupervisorHarness, wait_until

from havre.domain.errors import SettingInvalid
from havre.supervisor import port
from havre.supervisor.protocol import BALANCER, Phase, Restart

LISTENS_SHARED = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print("up", flush=True)
while True:
    caller, _ = listener.accept()
    caller.sendall(b"balancer")
    caller.close()
"""


@pytest.fixture
def second_bench() -> Iterator[SupervisorHarness]:
    second = SupervisorHarness()
    yield second
    second.close()


def start_balancer(harness: SupervisorHarness) -> int:
    number = int(str(harness.server()["port"]))
    spec = harness.spec(
        BALANCER,
        sys.executable,
        "-S",
        "-c",
        LISTENS_SHARED,
        str(number),
        restart=Restart.ALWAYS,
    )
    harness.client.start(spec)
    wait_until(lambda: harness.log(BALANCER))
    return number


def ask(number: int) -> bytes:
    with socket.create_connection(("127.0.0.1", number), timeout=DEADLINE_S) as caller:
        return caller.recv(100)


@pytest.mark.parametrize("options", [[], [socket.SO_REUSEADDR]], ids=["plain", "reuse address"])
def test_a_reserved_port_is_refused_to_other_programs(options: list[int]) -> None:
    with port.reserve("127.0.0.1", 0) as reservation, socket.socket() as other:
        for option in options:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(reservation.getsockname())


def test_a_reserved_port_answers_nobody_until_the_balancer_listens(
    harness: SupervisorHarness,
) -> None:
    harness.launch()
    number = int(str(harness.server()["port"]))
    with pytest.raises(ConnectionRefusedError):
        ask(number)
    start_balancer(harness)
    assert {ask(number) for _ in range(50)} == {b"balancer"}


def test_a_port_in_time_wait_can_be_reserved() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as caller:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first keeps the port in TIME_WAIT
            assert caller.recv(1) == b""
    port.reserve("127.0.0.1", address[1]).close()


@pytest.mark.parametrize("other_listens", [True, False])
def test_a_taken_port_is_refused_with_a_remedy(
    harness: SupervisorHarness, other_listens: bool
) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        if other_listens:
            other.listen()
        else:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        number = other.getsockname()[1]
        program = harness.launch("--port", str(number), wait=False)
        assert program.wait(timeout=DEADLINE_S) == 1
        assert program.stderr is not None
        message = program.stderr.read()
    assert f"port {number} on 127.0.0.1 is taken" in message
    assert "--port 0" in message
    assert "Traceback" not in message
    assert not harness.home.server_file.exists()


def test_two_homes_run_side_by_side_but_not_on_one_port(
    harness: SupervisorHarness, second_bench: SupervisorHarness
) -> None:
    harness.launch()
    number = str(harness.server()["port"])
    assert second_bench.launch("--port", number, wait=False).wait(timeout=DEADLINE_S) == 1
    second_bench.launch()
    harness.client.start(harness.spec("i-a", "/bin/sleep", "600"))
    second_bench.client.start(second_bench.spec("i-a", "/bin/sleep", "601"))
    first, second = harness.status("i-a"), second_bench.status("i-a")
    assert first.pid != second.pid
    harness.client.shutdown()
    assert second_bench.status("i-a") == second


def test_the_next_supervisor_keeps_the_port_of_a_balancer_that_serves_on(
    harness: SupervisorHarness, second_bench: SupervisorHarness
) -> None:
    harness.launch()
    number = start_balancer(harness)
    harness.crash()
    assert ask(number) == b"balancer"
    refused = harness.launch("--port", "1", wait=False)
    assert refused.wait(timeout=DEADLINE_S) == 1
    assert refused.stderr is not None
    assert "havre down" in refused.stderr.read()
    assert second_bench.launch("--port", str(number), wait=False).wait(timeout=DEADLINE_S) == 1
    harness.launch("--port", "0")
    assert harness.server()["port"] == number
    assert harness.status(BALANCER).adopted
    assert ask(number) == b"balancer"


def test_a_dead_balancer_is_not_revived_on_another_port(harness: SupervisorHarness) -> None:
    """Its files still name the old one; whoever asked for the new port writes new ones first."""
    harness.launch()
    start_balancer(harness)
    harness.crash()
    for pid in harness.leftovers():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not harness.leftovers())
    harness.launch("--port", "0")
    assert harness.status(BALANCER).phase is Phase.EXITED


@pytest.mark.parametrize(
    ("host", "number", "text"),
    [
        ("no.such.host.invalid", 0, "not a name or IPv4 address"),
        ("::1", 0, "not a name or IPv4 address"),
        ("192.0.2.1", 0, "not an address of this machine"),
        ("127.0.0.1", 65536, "port must be 0 to 65535"),
        ("127.0.0.1", -1, "port must be 0 to 65535"),
    ],
)
def test_an_impossible_address_is_explained(host: str, number: int, text: str) -> None:
    with pytest.raises(SettingInvalid, match=text):
        port.reserve(host, number)
