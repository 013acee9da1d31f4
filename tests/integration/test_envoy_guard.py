"""What strangers send to a real Envoy: web pages to a server that asks for no signatures, forged
headers, and what is meant to cost much before a signature is looked at.
"""

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from oci.signer import Signer
from tests.support.balancer_front import Answer, Front, ask, running_front, whole_answer
from tests.support.envoy_server import StartUpstream, Upstream, answer_with, upstreams  # noqa: F401
from tests.support.worst_runs import RUNS

from havre.auth import keys
from havre.auth.keyring import encoded
from havre.balancer.envoy import routing

MIB = 1024 * 1024
PROXY = "models.example.org"
LISTS = "/20190101/projects?compartmentId=x"
SOON_S = 0.1
"""Of processor time: more than anything takes here that does not grow with the square of what is
sent.
"""


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with running_front(names=(PROXY,)) as front:
        yield front


@pytest.fixture
def copies(front: Front, upstreams: StartUpstream) -> Upstream:  # noqa: F811
    return upstreams(front.socket(), answer_with(b"{}"))


@pytest.fixture
def predict(front: Front, copies: Upstream) -> str:
    return f"/{front.route(copies.socket_path)}/predict"


# Who may call a server that asks for no signatures


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:{port}",
        "127.0.0.1:9",  # forwarded from another port
        "127.8.9.10:{port}",
        "localhost",
        "LocalHost:{port}",
        "[::1]:{port}",
        PROXY,
        f"{PROXY}:443",
    ],
)
def test_this_machine_s_names_are_answered(front: Front, predict: str, host: str) -> None:
    client = front.client()
    headers = {"host": host.format(port=front.server.port)}
    assert ask(client, predict, headers=headers).status == 200
    assert ask(client, LISTS, method="GET", body=None, headers=headers).status == 200


FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example:{port}",
    "evil.example.localhost",
    "127.0.0.1@evil.example",
    "notlocalhost",
    "10.0.0.1",
    "0.0.0.0",
    f"x.{PROXY}",
    "modelsXexample.org",
)
FOREIGN_PAGES = (
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": ""},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:9"},
    {"origin": "http://localhost:9"},
    {"origin": "https://127.0.0.1:{port}"},
    {"origin": "http://127.0.0.1:{port}.evil.example"},
    {"origin": "http://evil.example/http://127.0.0.1:{port}"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "Cross-Site"},
    {"sec-fetch-site": "of the future"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:{port}"},
    {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
)
STRANGERS = [*({"host": host} for host in FOREIGN_HOSTS), *FOREIGN_PAGES]


def stated(front: Front, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.format(port=front.server.port) for name, value in headers.items()}


@pytest.mark.parametrize("stranger", STRANGERS, ids=str)
def test_strangers_are_told_what_to_do_and_reach_nothing(
    front: Front, copies: Upstream, predict: str, stranger: dict[str, str]
) -> None:
    client = front.client()
    client.connect()
    connection = client.sock
    headers = {**stated(front, stranger), "opc-request-id": "mine", "content-type": "text/plain"}
    for path, method, body in (
        (predict, "POST", b"{}"),
        (f"/pre/fix{predict}?x=1", "POST", b"{}"),
        (LISTS, "GET", None),
        ("/20190101/modelDeployments/x/actions/deactivate", "POST", b""),
        ("/20190101/models/x/artifact", "POST", b"x" * MIB),
        ("/healthz", "GET", None),
        ("/metrics", "GET", None),
        ("/nowhere", "DELETE", None),
    ):
        answer = ask(client, path, method=method, body=body, headers=headers)
        assert (answer.status, answer.code) == (403, "NotAuthorized"), path
        assert "allowed_hosts" in json.loads(answer.body)["message"]
        assert answer.headers["opc-request-id"] == "mine"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert copies.requests == []
    assert ask(client, predict).status == 200
    assert client.sock is connection


@pytest.mark.parametrize("chunked", [True, False])
def test_a_stranger_who_sends_much_sees_why_not(front: Front, predict: str, chunked: bool) -> None:
    client = front.client()
    headers = {"host": "evil.example"}
    for path in ("/20190101/models/x/artifact", predict):
        body = iter([b"x" * MIB] * 24) if chunked else b"x" * (24 * MIB)
        answer = ask(client, path, body=body, headers=headers, chunked=chunked)
        assert (answer.status, answer.code) == (403, "NotAuthorized")
        assert "allowed_hosts" in json.loads(answer.body)["message"]
    assert ask(client, predict).status == 200


@pytest.mark.parametrize(
    "own",
    [
        {"origin": "http://127.0.0.1:{port}"},
        {"origin": "http://localhost:{port}", "host": "localhost:{port}"},
        {"origin": "http://127.0.0.1:{port}", "sec-fetch-site": "same-origin"},
        {"origin": f"https://{PROXY}", "host": PROXY, "sec-fetch-site": "same-origin"},
        {"origin": f"http://{PROXY}:8443", "host": f"{PROXY}:8443"},
        {"sec-fetch-site": "none"},
        {"user-agent": "Oracle-PythonSDK/2.150", "referer": "http://evil.example/"},
    ],
    ids=str,
)
def test_own_pages_and_programs_are_answered(
    front: Front, predict: str, own: dict[str, str]
) -> None:
    client = front.client()
    assert ask(client, predict, headers=stated(front, own)).status == 200
    assert ask(client, LISTS, method="GET", body=None, headers=stated(front, own)).status == 200


def test_two_origins_are_none(front: Front, predict: str) -> None:
    own = f"origin: http://127.0.0.1:{front.server.port}\r\n"
    for headers in (own * 2, f"{own}origin: http://evil.example\r\n"):
        answer = exchange(front, predict, headers)
        assert answer.startswith(b"HTTP/1.1 403 "), answer


def exchange(front: Front, path: str, headers: str, *, version: str = "1.1") -> bytes:
    """The beginning of what is answered to a POST whose headers are just these."""
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        head = f"POST {path} HTTP/{version}\r\n{headers}content-length: 2\r\n\r\n"
        client.sendall(
            head.replace("\r\n", "\r\nhost: localhost\r\n", "host:" not in head).encode()
        )
        client.sendall(b"{}")
        return whole_answer(client)


def test_without_a_host_there_is_no_page(front: Front, predict: str) -> None:
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        client.sendall(f"POST {predict} HTTP/1.0\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        assert client.recv(65536).startswith(b"HTTP/1.0 200 ")
    host = "host: evil.example\r\n"
    assert exchange(front, predict, host, version="1.0").startswith(b"HTTP/1.0 403 ")
    absolute = exchange(front, f"http://evil.example{predict}", "host: localhost\r\n")
    assert absolute.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_a_connection_stays_http(front: Front, predict: str, host: str) -> None:
    upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    answer = exchange(front, predict, f"host: {host}\r\n{upgrade}")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"WebSocket" in answer


# What the parts of a server say to one another is not for clients to say


FORGED = ("x-havre-path", "x-havre-body-sha256", "x-havre-refusal", "x-havre-copy", "X-Havre-New")


@pytest.mark.parametrize("name", FORGED)
def test_our_own_headers_are_taken_off(
    front: Front, copies: Upstream, predict: str, name: str
) -> None:
    headers = {name: "too-large"}
    client = front.client()
    assert ask(client, predict, headers=headers).status == 200
    assert name.lower() not in copies.requests[-1][2]
    assert ask(client, f"/pre{predict}?x=1", headers=headers).status == 200
    assert copies.requests[-1][2].get(name.lower()) in (None, f"/pre{predict}?x=1")
    for path in (LISTS, "/20190101/models/x/artifact", "/healthz"):
        answer = ask(client, path, headers=headers)
        assert answer.status == 200
        assert name.lower() not in json.loads(answer.body)["headers"]


@pytest.mark.parametrize("before", ["", "/x", "/%5f", "//"])
def test_no_path_leads_to_the_refusals(front: Front, before: str) -> None:
    for refused in ("_refused/413", "%5frefused/413", "_refused/413/20160918"):
        answer = ask(front.client(), f"{before}/{refused}")
        if answer.status == 200:  # an API's version is in it: the API says what it is
            assert json.loads(answer.body)["path"].endswith("/20160918")
        else:
            assert (answer.status, answer.code) == (404, "NotAuthorizedOrNotFound")


# What is not finished, and what is no HTTP/1.1


def unfinished(front: Front, path: str, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n"
        with contextlib.suppress(ConnectionError):  # it may be answered before it is sent
            client.sendall(head.encode() + sent)
        return whole_answer(client)


def test_an_upload_that_is_never_finished_was_not_sent_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "API_IDLE_S", 1)
    with running_front() as front:
        front.route()  # publishes with that
        for path in ("/20190101/models/x/artifact", "/pre/20190101/projects", "/healthz"):
            for sent in (b"", b"x" * 10):
                answer = unfinished(front, path, sent)
                assert answer.startswith(b"HTTP/1.1 408 "), answer
                assert b'"RequestTimeout"' in answer


def test_an_upload_to_an_api_that_is_away_is_told_so(front: Front) -> None:
    """Envoy tries again to reach the API, for which it must hold what has come, and cannot."""
    socket_path = front.server.home.api_socket
    aside = socket_path.with_name("aside.sock")
    socket_path.rename(aside)
    try:
        for size in (10, 30 * MIB):
            for _ in range(8):
                answer = unfinished(front, "/pre/20190101/models/x/artifact", b"x" * size)
                assert answer.startswith(b"HTTP/1.1 503 "), answer
                assert b"The API is not up" in answer
    finally:
        aside.rename(socket_path)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /20190101/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n", 501),
        ("POST /20190101/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked, x\r\n", 501),
        ("POST /20190101/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: identity\r\n", 501),
        (
            "POST /20190101/x HTTP/1.1\r\nhost: localhost\r\n"
            "content-length: 99999999\r\ntransfer-encoding: gzip\r\n",
            400,
        ),
    ],
)
def test_what_will_never_work_is_not_to_be_tried_again(
    front: Front, head: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", front.server.port), timeout=30) as client:
        client.sendall(f"{head}\r\n".encode())
        answer = whole_answer(client)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"try again" not in answer


# Before a signature is looked at


@pytest.fixture(scope="module")
def key():
    return keys.new_key()


@pytest.fixture(scope="module")
def signed_front(key) -> Iterator[Front]:
    known = {f"t/u/{keys.fingerprint(key.public_key())}": encoded(key.public_key())}
    with running_front(keys=lambda: known) as front:
        yield front


@pytest.fixture
def signed_predict(signed_front: Front, upstreams: StartUpstream) -> tuple[str, Upstream]:  # noqa: F811
    copies = upstreams(signed_front.socket(), answer_with(b"{}"))
    return f"/{signed_front.route(copies.socket_path)}/predict", copies


@pytest.fixture
def signer(key) -> Signer:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    fingerprint = keys.fingerprint(key.public_key())
    return Signer("t", "u", fingerprint, None, private_key_content=pem)


def test_the_signed_hash_reaches_the_copy_whatever_is_forged(
    signed_front: Front, signed_predict: tuple[str, Upstream], signer: Signer
) -> None:
    path, copies = signed_predict
    url = f"{signed_front.server.url}{path}"
    headers = {"x-havre-body-sha256": "forged"}
    answer = requests.post(url, data=b"{}", headers={**headers, "content-type": "a/b"}, auth=signer)
    assert answer.status_code == 200
    arrived = copies.requests[-1][2]
    assert arrived["x-havre-body-sha256"] == arrived["x-content-sha256"]


@pytest.mark.parametrize("name", ["authorization", "date", "host", "content-type"])
def test_what_is_signed_comes_once(
    signed_front: Front, signed_predict: tuple[str, Upstream], signer: Signer, name: str
) -> None:
    path, copies = signed_predict
    asked = requests.Request(
        "POST", f"{signed_front.server.url}{path}", {"content-type": "a/b"}, data=b"{}"
    )
    headers = {k.lower(): v for k, v in signer(asked.prepare()).headers.items()}
    headers.setdefault("host", f"127.0.0.1:{signed_front.server.port}")

    def send(*more: str) -> bytes:
        lines = [f"{name}: {value}" for name, value in headers.items()] + list(more)
        with socket.create_connection(
            ("127.0.0.1", signed_front.server.port), timeout=10
        ) as client:
            client.sendall("\r\n".join([f"POST {path} HTTP/1.1", *lines, "", "{}"]).encode())
            return client.recv(65536)

    assert send().startswith(b"HTTP/1.1 200 ")
    assert send("accept: a", "accept: b").startswith(b"HTTP/1.1 200 ")
    assert send(f"{name}: {headers[name]}").startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))
    assert len(copies.requests) == 2


def test_nothing_that_strangers_send_holds_others_up(
    signed_front: Front, signed_predict: tuple[str, Upstream], key
) -> None:
    path, copies = signed_predict
    known = f't/u/{keys.fingerprint(key.public_key())}"'
    parameters = f'keyId="{known},algorithm="rsa-sha256"'

    def took_s(request: tuple[str, dict[str, str]]) -> float:
        """Of Envoy's processor time, as nobody else's use of this machine is in it."""
        target, headers = request
        client = signed_front.client()
        began = signed_front.server.processor_s()
        answer: Answer = ask(client, target, headers={**headers, "content-type": "a/b"})
        taken = signed_front.server.processor_s() - began
        client.close()
        assert answer.status in (401, 404), answer
        return taken

    sent: list[tuple[str, dict[str, str]]] = []
    for run in RUNS:
        if not run.isascii():
            continue
        value = run[:58_000].strip()
        sent += [
            (path, {"authorization": f"Signature {value}"}),
            (path, {"authorization": f'Signature {parameters},headers="{value}"'}),
            (f"/x{path}", {"authorization": value}),
        ]
        if not set(run) & {"?", " ", "\t"} and "/2019" not in run:
            sent.append((f"/{run[:50_000]}{path}", {}))
    times = [took_s(request) for request in sent]
    assert copies.requests == []
    assert sorted(times)[len(times) * 9 // 10] < SOON_S
    assert sum(times) < len(times) * SOON_S / 4
