"""Bad input and bad days: what a client is told, and that the next request is served.

The rows of the table in the design, over a whole server, with time limits of seconds.
"""

import contextlib
import gzip
import http.client
import io
import json
import re
import select
import selectors
import stat
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.e2e.load import OK, Load
from tests.e2e.operated_server import (
    SHAPE_COPIES,
    TROUBLED,
    OperatedServer,
    configuration,
    wait_for,
)
from tests.support.small_disk import fill, small_disk

from havre.client import API, ApiError
from havre.domain.limits import MAX_PREDICTION_BYTES
from havre.domain.logs import Category
from havre.reserve import Reserve
from havre.telemetry.files.log_reader import LogReader

PREDICT_S, STREAM_IDLE_S, STREAM_TOTAL_S = 2.0, 1.0, 3.0
AT_ONCE_S = 1.0
QUEUE_PER_COPY = 8
JSON_KIND = {"content-type": "application/json"}
NOBODY = "ocid1.datasciencemodeldeployment.oc1.iad." + "a" * 60


@dataclass(frozen=True)
class Place:
    """The server of these tests and its deployments, by what they are called below."""

    server: OperatedServer
    ids: dict[str, str]

    @property
    def served(self) -> str:
        return self.ids["served"]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    server = OperatedServer(
        HAVRE_PREDICT_TIMEOUT_S=str(PREDICT_S),
        HAVRE_STREAM_IDLE_S=str(STREAM_IDLE_S),
        HAVRE_STREAM_TOTAL_S=str(STREAM_TOTAL_S),
        HAVRE_MAX_REQUESTS_PER_COPY=str(QUEUE_PER_COPY),
        HAVRE_MIN_INSTANCE_QUEUE="0",
    )
    try:
        server.start()
        served = server.deploy()
        broken, work_request = server.create(server.save("def load_model():\n    raise OSError\n"))
        assert server.end_of(work_request)["status"] == "FAILED"
        yield Place(server, {"served": served, "unknown": NOBODY, "not active": broken})
    finally:
        server.server.down()


@pytest.fixture
def connection(place: Place) -> Iterator[http.client.HTTPConnection]:
    """One connection, that is never opened a second time."""
    where = urlsplit(place.server.url)
    connected = http.client.HTTPConnection(where.netloc, timeout=30)
    connected.connect()
    connected.auto_open = 0
    yield connected
    connected.close()


@dataclass(frozen=True)
class Row:
    """``most_s`` bounds the time until the answer; ``deaths`` is how many copies it may cost."""

    request: str
    status: int
    code: str
    message: str
    body: bytes | dict | None = None
    headers: dict = field(default_factory=dict)
    method: str = "POST"
    to: str = "served"
    verb: str = "predict"
    least_s: float = 0.0
    most_s: float = AT_ONCE_S
    deaths: int = 0


FAILED = "The model did not answer"
ROWS = [
    Row(
        "a body over 10 MB", 413, "PayloadTooLarge", "at most 10 MB",
        b"0" * (MAX_PREDICTION_BYTES + 1), most_s=5.0,
    ),
    Row("a body that is not JSON", 400, "CannotParseRequest", "not JSON", b'{"echo": '),
    Row("an empty body", 400, "CannotParseRequest", "body is empty", b""),
    Row("JSON of ten thousand brackets", 400, "CannotParseRequest", "JSON", b"[" * 100_000),
    Row(
        "chunks that are not JSON", 400, "CannotParseRequest", "not JSON", b"1\r\n{\r\n0\r\n\r\n",
        {"transfer-encoding": "chunked"},
    ),
    Row("no length at all", 400, "CannotParseRequest", "body is empty"),
    Row(
        "a gzip that is none", 400, "CannotParseRequest", "not gzip", b"{}",
        {"content-encoding": "gzip"},
    ),
    Row(
        "a gzip of too much", 413, "PayloadTooLarge", "no longer compressed",
        gzip.compress(b" " * (MAX_PREDICTION_BYTES + 1)), {"content-encoding": "gzip"},
    ),
    Row(
        "another encoding", 415, "UnsupportedMediaType", "gzip, deflate and none", b"{}",
        {"content-encoding": "br"},
    ),
    Row("a GET", 405, "MethodNotAllowed", "POST", method="GET"),
    Row("a PUT", 405, "MethodNotAllowed", "POST", b"{}", method="PUT"),
    Row(
        "a deployment that is not there", 404, "NotAuthorizedOrNotFound", "No such", {},
        to="unknown",
    ),
    Row(
        "one that is not active", 404, "NotAuthorizedOrNotFound", "not active", {},
        to="not active",
    ),
    Row(
        "an exception in predict()", 500, "InternalServerError", "ValueError: no such iris",
        {"act": "raise"},
    ),
    Row("sys.exit() in predict()", 500, "InternalServerError", "SystemExit", {"act": "exit"}),
    Row("os._exit() in predict()", 500, "InternalServerError", FAILED, {"act": "leave"}, deaths=1),
    Row("a segmentation fault", 500, "InternalServerError", FAILED, {"act": "crash"}, deaths=1),
    Row("the OOM killer", 500, "InternalServerError", FAILED, {"act": "be killed"}, deaths=1),
    Row(
        "predict() that takes too long", 500, "InternalServerError", FAILED, {"act": "hang"},
        least_s=PREDICT_S, most_s=PREDICT_S + 2, deaths=1,
    ),
    Row(
        "a hang in C that holds the interpreter's lock", 500, "InternalServerError", FAILED,
        {"act": "hang in C"}, least_s=PREDICT_S, most_s=PREDICT_S + 2, deaths=1,
    ),
    Row(
        "a stream asked of a model that does not stream", 409, "ExternalServerIncorrectState",
        "yield", {}, verb="predictWithResponseStream",
    ),
]  # fmt: skip


OF_THE_MODEL = {"raisedBy", "opcRequestId", "logs"}
"""What else is told of an exception of the model's."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.request)
def test_a_bad_request_is_told_why_and_the_next_is_served(
    place: Place, connection: http.client.HTTPConnection, row: Row
) -> None:
    wait_until_all_copies_are_up(place)
    before = place.server.keeper_of(place.served)
    began = time.monotonic()
    send(connection, row, f"/{place.ids[row.to]}/{row.verb}")
    answer = connection.getresponse()
    told = json.loads(answer.read())
    took_s = time.monotonic() - began

    assert (answer.status, told["code"]) == (row.status, row.code)
    assert {"code", "message"} <= set(told) <= {"code", "message"} | OF_THE_MODEL
    assert answer.headers["content-type"].startswith("application/json")
    assert_is_a_sentence_for_strangers(told["message"], row.message, place)
    assert answer.headers["opc-request-id"]
    if row.message == FAILED:
        assert told["logs"].endswith(f" --request {answer.headers['opc-request-id']}")
    assert row.least_s <= took_s <= row.most_s
    assert ask(connection, place.served, {"echo": 1})["echo"] == 1
    wait_until_all_copies_are_up(place)
    assert place.server.keeper_of(place.served).restarts - before.restarts == row.deaths


def send(connection: http.client.HTTPConnection, row: Row, path: str) -> None:
    connection.putrequest(row.method, path)
    body = json.dumps({"echo": 5, **row.body}).encode() if isinstance(row.body, dict) else row.body
    for name, value in {**JSON_KIND, **row.headers}.items():
        connection.putheader(name, value)
    if body is not None and "transfer-encoding" not in row.headers:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)


def ask(connection: http.client.HTTPConnection, deployment_id: str, data: dict) -> dict:
    """A prediction that succeeds, on this very connection."""
    connection.request("POST", f"/{deployment_id}/predict", json.dumps(data), JSON_KIND)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    assert answer.status == 200, told
    return dict(told)


def assert_is_a_sentence_for_strangers(message: str, part: str, place: Place) -> None:
    assert part in message
    assert len(message) < 600
    assert "Traceback" not in message
    assert str(place.server.home.root) not in message


def wait_until_all_copies_are_up(place: Place) -> None:
    def are_up() -> bool:
        try:
            state = place.server.keeper_of(place.served)
        except AssertionError:
            return False  # it has too much to do to respond in time
        return state.ready == SHAPE_COPIES and state.busy == 0

    wait_for("every copy", are_up)


def test_the_traceback_is_in_the_predict_log_with_the_request_id(
    place: Place, connection: http.client.HTTPConnection
) -> None:
    headers = {**JSON_KIND, "opc-request-id": "FINDME0123456789"}
    path = f"/{place.served}/predict"
    connection.request("POST", path, '{"act": "raise", "echo": "of this kind"}', headers)
    answer = connection.getresponse()
    answer.read()
    assert answer.headers["opc-request-id"] == "FINDME0123456789"
    [instance] = place.server.instances(place.served)

    def entries() -> list[tuple[str, str, int]]:
        with contextlib.closing(LogReader(place.server.home)) as store:
            return store.query(
                "SELECT message, instance, copy FROM entries WHERE request = 'FINDME0123456789'",
                category=Category.PREDICT,
                deployments=[place.served],
                time_from_ms=0,
                time_to_ms=2**53,
            ).rows

    wait_for("the traceback", lambda: len(entries()) == 1)
    [(message, printed_by, copy)] = entries()
    assert (printed_by, copy in (0, 1)) == (instance, True)
    assert "predict() raised ValueError: no such iris of this kind" in message.splitlines()[0]
    assert re.search(r'score.py", line \d+, in predict', message)
    assert message.endswith("ValueError: no such iris of this kind"), "it is one entry"


@pytest.mark.parametrize(
    ("pauses", "least_s", "most_s", "parts"),
    [
        ([0, 0.1, 60], STREAM_IDLE_S, STREAM_IDLE_S + 2.5, 2),
        ([0.5] * 60, STREAM_TOTAL_S, STREAM_TOTAL_S + 2.5, None),
    ],
    ids=["a pause", "the whole"],
)
def test_a_stream_that_takes_too_long_is_cut(
    place: Place,
    connection: http.client.HTTPConnection,
    pauses: list[float],
    least_s: float,
    most_s: float,
    parts: int | None,
) -> None:
    began = time.monotonic()
    body = json.dumps({"act": "stream", "pauses": pauses})
    connection.request("POST", f"/{place.served}/predictWithResponseStream", body, JSON_KIND)
    answer = connection.getresponse()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead) as cut:
        answer.read()
    assert least_s <= time.monotonic() - began <= most_s
    assert parts in (None, cut.value.partial.count(b"data:"))
    wait_until_all_copies_are_up(place)


def test_more_load_than_the_copies_take_is_refused_at_once(place: Place) -> None:
    wait_until_all_copies_are_up(place)
    room, surplus = SHAPE_COPIES * QUEUE_PER_COPY, 10
    hold_s = 0.1  # all that are taken are through before a prediction's time is up
    answers = at_once(place, [{"echo": n, "sleep": hold_s} for n in range(room + surplus)])
    assert Counter(status for status, _, _ in answers) == {200: room, 429: surplus}
    for status, told, took_s in answers:
        if status == 429:
            assert told["code"] == "TooManyRequests"
            assert took_s < AT_ONCE_S
    numbers = sorted(told["echo"] for status, told, _ in answers if status == 200)
    assert len(set(numbers)) == room
    assert Counter(status for status, _, _ in at_once(place, [{"echo": 1}] * room)) == {200: room}


def at_once(place: Place, bodies: list[dict]) -> list[tuple[int, dict, float]]:
    """Send all before reading any answer: status, body and time of each, in order of answering."""
    where = urlsplit(place.server.url)
    with selectors.DefaultSelector() as selector:
        for body in bodies:
            held = http.client.HTTPConnection(where.netloc, timeout=30)
            held.connect()
            selector.register(held.sock, selectors.EVENT_READ, (held, json.dumps(body)))
        for key in selector.get_map().values():
            held, text = key.data
            held.request("POST", f"/{place.served}/predict", text, JSON_KIND)
        sent, answers = time.monotonic(), []
        while selector.get_map():
            for key, _ in selector.select():
                held, _ = key.data
                selector.unregister(key.fileobj)
                answer = held.getresponse()
                answers.append((answer.status, json.loads(answer.read()), time.monotonic() - sent))
                held.close()
    return answers


def test_provisioned_bandwidth_is_shaped_then_refused(
    place: Place, connection: http.client.HTTPConnection
) -> None:
    # 10 Mbps are 1.25 MB/s, of which a second's worth may come at once.
    began = time.monotonic()
    ask(connection, place.served, {"echo": 1, "filling": 3_000_000})
    assert 1.0 < time.monotonic() - began < 6.0
    # Ten seconds' worth is lent: one request of this size uses most of it up.
    largest = b" " * (MAX_PREDICTION_BYTES - 2) + b"{}"
    path = f"/{place.served}/predict"
    where = urlsplit(place.server.url)
    with contextlib.closing(http.client.HTTPConnection(where.netloc, timeout=30)) as other:
        other.request("POST", path, largest, JSON_KIND)
        # It is admitted when it is whole: until then this connection's might be before it.
        assert not select.select([other.sock], [], [], 1.0)[0]
        connection.request("POST", path, largest, JSON_KIND)
        answer = connection.getresponse()
        told = json.loads(answer.read())
    assert (answer.status, told["code"]) == (429, "TooManyRequests")
    assert "bandwidth" in told["message"]
    assert ask(connection, place.served, {"echo": 2})["echo"] == 2


def test_a_model_that_does_not_load_fails_the_work_request_with_the_reason(place: Place) -> None:
    score = (
        "def load_model():\n    raise RuntimeError('the vault is shut')\n\ndef predict(d): ...\n"
    )
    deployment, work_request = place.server.create(place.server.save(score))
    ended = place.server.end_of(work_request)
    assert ended["status"] == "FAILED"
    assert "RuntimeError: the vault is shut" in ended["reason"]
    assert place.server.state(deployment) == "FAILED"
    place.server.delete(deployment)


def test_an_update_whose_model_does_not_load_leaves_the_old_one_serving(place: Place) -> None:
    server = place.server
    deployment = server.deploy(variables={"MARK": "old"})
    bad = server.save("def load_model():\n    raise RuntimeError('nope')\n\ndef predict(d): ...\n")
    with Load(f"{server.url}/{deployment}", keep_alive=2, short_lived=1) as load:
        load.wait_for_more(mark="old")
        work_request = server.client.update_deployment(deployment, configuration(bad))
        ended = server.end_of(work_request)
        load.wait_for_more(mark="old")
    assert ended["status"] == "FAILED"
    assert "RuntimeError: nope" in ended["reason"]
    assert load.failures == []
    assert server.state(deployment) == "ACTIVE"
    assert "nope" in server.client.deployment(deployment)["lifecycleDetails"]
    server.delete(deployment)


MOODY = """
import os, tempfile
from pathlib import Path

SULKS = Path(tempfile.gettempdir()) / "sulks"

def load_model():
    def leave():
        if SULKS.exists():
            os._exit(9)
    os.register_at_fork(after_in_child=leave)

def predict(data, model=load_model()):
    if data["echo"] == "sulk":
        SULKS.touch()
        os._exit(9)
    return {"echo": data["echo"], "mark": ""}
"""


def test_copies_that_never_stay_up_need_attention_and_come_back(place: Place) -> None:
    server = place.server
    deployment = server.deploy(MOODY)
    [instance] = server.instances(deployment)
    at = f"{server.url}/{deployment}"
    with Load(at, keep_alive=2, short_lived=0, echo="sulk") as load:
        # The number of a request gives way to what the model is told.
        wait_for("NEEDS_ATTENTION", lambda: server.state(deployment) == "NEEDS_ATTENTION")
    assert load.counts[OK] == 0
    assert "copies keep dying" in server.client.deployment(deployment)["lifecycleDetails"]
    # Its replacement has a temporary folder of its own, and so another mood.
    wait_for("ACTIVE", lambda: server.state(deployment) == "ACTIVE")
    assert instance not in server.instances(deployment)
    with Load(at, keep_alive=2, short_lived=0) as load:
        load.wait_for_more()
    assert load.failures == []
    server.delete(deployment)


def hostile_archives() -> dict[str, bytes]:
    def archive(*entries: tuple[zipfile.ZipInfo, bytes]) -> bytes:
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as target:
            target.writestr("score.py", TROUBLED)
            for info, content in entries:
                target.writestr(info, content, zipfile.ZIP_DEFLATED)
        return held.getvalue()

    link = zipfile.ZipInfo("model.bin")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return {
        "a path upwards": archive((zipfile.ZipInfo("../../escaped.txt"), b"x")),
        "an absolute path": archive((zipfile.ZipInfo("/tmp/havre-escaped.txt"), b"x")),
        "a link": archive((link, b"/etc/passwd")),
        "a bomb": archive((zipfile.ZipInfo("zeros"), b"\0" * 300_000_000)),
        "no archive": b"PK\3\4 but not really",
    }


@pytest.mark.parametrize("kind", hostile_archives())
def test_a_hostile_archive_is_refused_and_nothing_escapes(
    place: Place, tmp_path: Path, kind: str
) -> None:
    server = place.server
    archive = tmp_path / "artifact.zip"
    archive.write_bytes(hostile_archives()[kind])
    reason = why_not_deployed(server, archive)
    assert len(reason) > 20
    assert str(server.home.root) not in reason
    assert not Path("/tmp/havre-escaped.txt").exists()
    assert list(server.home.root.rglob("escaped.txt")) == []


def why_not_deployed(server: OperatedServer, archive: Path) -> str:
    """Refused as it is uploaded, or when it is unpacked: the reason given either way."""
    try:
        _, work_request = server.create(server.save_archive(archive))
    except ApiError as refused:
        return refused.message
    ended = server.end_of(work_request)
    assert ended["status"] == "FAILED"
    return str(ended["reason"])


def changes_of(server: OperatedServer, model: str, deployment: str) -> list[Callable[[], object]]:
    """One of each kind that makes no room: create, update, upload. None can be refused but for the
    database or the disk.
    """
    client, variables = server.client, {"MARK": "never"}
    return [
        lambda: server.create(model),
        lambda: client.create_model("another"),
        lambda: client.update_deployment(deployment, configuration(model, variables=variables)),
        lambda: server.save(f"x = {'y' * 200_000!r}\n"),
    ]


def endings_of(
    server: OperatedServer, model: str, deployment: str, work_request: str
) -> list[Callable[[], object]]:
    """One of each kind that makes room: delete and cancel."""
    client = server.client
    cancel = f"{API}/workRequests/{work_request}"
    return [
        lambda: client.delete_deployment(deployment),
        lambda: client.delete_model(model),
        lambda: client._check(client._http.delete(cancel)),
    ]


def refusals(changes: list[Callable[[], object]]) -> list[str]:
    """Ask for all at once: each is refused with 503, and soon. The messages."""

    def refusal(change: Callable[[], object]) -> str:
        began = time.monotonic()
        with pytest.raises(ApiError) as refused:
            change()
        assert (refused.value.status, refused.value.code) == (503, "ServiceUnavailable")
        assert time.monotonic() - began < 10
        return refused.value.message

    with ThreadPoolExecutor(len(changes)) as pool:
        return list(pool.map(refusal, changes))


SLOW = f"import time\ntime.sleep(2)\n{TROUBLED}"


def test_a_locked_database_refuses_changes_and_stops_no_prediction(place: Place) -> None:
    server = place.server
    model, other = server.save(), server.deploy()
    begun, work_request = server.create(server.save(SLOW))
    wait_for("its start", lambda: server.instances(begun))
    with Load(f"{server.url}/{place.served}", keep_alive=4, short_lived=1) as load:
        with server.hold_the_database():
            changes = changes_of(server, model, other)
            endings = endings_of(server, model, other, work_request)
            for message in refusals([*changes, *endings]):
                assert "locked" in message
            assert server.state(place.served) == "ACTIVE"  # reading needs no lock
            load.wait_for_more()
        # What was under way goes on by itself, and nothing of what was refused has come true.
        assert server.end_of(work_request)["status"] == "SUCCEEDED"
        assert server.state(other) == "ACTIVE"
        for each in (begun, other, server.deploy()):
            server.delete(each)
    assert load.failures == []


@pytest.fixture
def on_a_small_disk() -> Iterator[OperatedServer]:
    """A server whose home is a file system of 48 MB."""
    server = OperatedServer()
    root = server.home.root
    with small_disk(root, megabytes=48):
        try:
            server.start()
            yield server
        finally:
            server.server.down()
    root.rmdir()


def test_a_full_disk_refuses_changes_and_what_runs_runs_on(
    on_a_small_disk: OperatedServer,
) -> None:
    server = on_a_small_disk
    deployment, other, idle = server.deploy(), server.deploy(), server.deploy()
    model = server.save()
    begun, work_request = server.create(server.save(SLOW))
    wait_for("its start", lambda: server.instances(begun))
    wait_for("the reserve", lambda: Reserve(server.home.reserve).is_whole)
    filling = server.home.root / "filling"
    with Load(f"{server.url}/{deployment}", keep_alive=4, short_lived=1) as load:
        fill(filling)
        refusals(changes_of(server, model, other))
        assert server.state(deployment) == "ACTIVE"
        load.wait_for_more()
        # Whoever wants to make room may, though nothing is free.
        server.client.delete_deployment(other)
        deactivate = f"{API}/modelDeployments/{idle}/actions/deactivate"
        server.client._check(server.client._http.post(deactivate))
        server.client.delete_model(model)
        wait_for("its deletion", lambda: server.state(other) == "DELETED")
        wait_for("its end", lambda: server.state(idle) == "INACTIVE")
        filling.unlink()
        assert server.end_of(work_request)["status"] == "SUCCEEDED"
        wait_for("the reserve again", lambda: Reserve(server.home.reserve).is_whole)
        for each in (begun, idle, server.deploy()):
            server.delete(each)
    assert load.failures == []
