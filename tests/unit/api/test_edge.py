"""The outermost layer, without an API behind it."""

import re

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from havre.api.edge import MAX_BODY_BYTES, Edge, clean_path, is_upload
from havre.balancer.envoy.resources import API_ANYWHERE
from havre.domain.api_versions import API_VERSIONS


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("/20190101/models", "/20190101/models"),
        ("//20190101/models", "/20190101/models"),
        ("/pre/fix/20190101/models/x", "/20190101/models/x"),
        ("/20190101/models/20190101/artifact", "/20190101/models/20190101/artifact"),
        ("/20190101", "/20190101"),
        ("/20190101x/models", "/20190101x/models"),
        ("///healthz", "/healthz"),
        ("", "/"),
        ("/pre\n/20190101/models", "/20190101/models"),
    ],
)
def test_a_path_is_cleaned_of_what_endpoints_put_before_it(path, cleaned):
    assert clean_path(path) == cleaned


@pytest.mark.parametrize("version", API_VERSIONS)
def test_what_the_load_balancer_takes_for_the_api_s_is_cleaned_so(version):
    path = f"/foo/{version}/x"
    assert re.fullmatch(API_ANYWHERE, path)
    assert clean_path(path) == f"/{version}/x"


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def fail(request: Request) -> PlainTextResponse:
    raise RuntimeError("a secret")


async def fail_halfway(request: Request) -> StreamingResponse:
    async def chunks():
        yield b"half"
        raise RuntimeError("a secret")

    return StreamingResponse(chunks())


async def answer_http_exception(request: Request, error: Exception) -> PlainTextResponse:
    assert isinstance(error, HTTPException)
    return PlainTextResponse("refused", error.status_code)


@pytest.fixture
def client():
    routes = [
        Route("/echo", echo, methods=["POST"]),
        Route("/20190101/models/m/artifact", echo, methods=["POST"]),
        Route("/fail", fail),
        Route("/fail-halfway", fail_halfway),
    ]
    return TestClient(
        Starlette(
            routes=routes,
            middleware=[Middleware(Edge)],
            exception_handlers={HTTPException: answer_http_exception},
        )
    )


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("ABC/def-1_2.3:4", "ABC/def-1_2.3:4"),
        ("a" * 500, "a" * 128),
        ("x<script>\ty", "xscripty"),
    ],
)
def test_the_request_id_of_the_client_comes_back_bounded(client, sent, received):
    answer = client.get("/nowhere", headers={"opc-request-id": sent})
    assert answer.headers["opc-request-id"] == received


def test_a_request_without_an_id_gets_one_of_its_own(client):
    ids = {client.get("/nowhere").headers["opc-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(request_id) == 32 for request_id in ids)


def test_the_unexpected_is_logged_but_not_told(client, caplog):
    answer = client.get("/fail", headers={"opc-request-id": "REQUEST1"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "InternalServerError"
    assert "REQUEST1" in answer.json()["message"]
    assert "secret" not in answer.text
    assert "a secret" in caplog.text
    assert "REQUEST1" in caplog.text


def test_half_an_answer_is_not_made_to_look_whole(client):
    with pytest.raises(RuntimeError):
        client.get("/fail-halfway")


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_has_a_limit_unless_it_is_an_artifact(client, chunked):
    def body(size):
        return iter([b"x" * size]) if chunked else b"x" * size

    assert client.post("/echo", content=body(MAX_BODY_BYTES)).text == str(MAX_BODY_BYTES)
    assert client.post("/echo", content=body(MAX_BODY_BYTES + 1)).status_code == 413
    uploaded = client.post("/20190101/models/m/artifact", content=body(MAX_BODY_BYTES + 1))
    assert uploaded.text == str(MAX_BODY_BYTES + 1)


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/20190101/models/m/artifact", True),
        ("/20190101/models/m/customMetadata/a/b/artifact", True),
        ("/20190101/models/m/definedMetadata/k/artifact", True),
        ("/20190101/models/artifact", False),
        ("/20190101/modelDeployments/artifact", False),
        ("/20190101/models/m/n/artifact", False),
        ("/20190101/models/m/artifact/content", False),
    ],
)
def test_only_artifacts_come_unbounded(path, is_one):
    for method in ("POST", "PUT"):
        assert is_upload({"method": method, "path": path}) is is_one
    assert not is_upload({"method": "DELETE", "path": path})


@pytest.mark.parametrize("path", ["/echo%00", "/20190101/%00", "/echo?a=%00"])
def test_nul_characters_stop_at_the_edge(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidParameter")
