"""The transport over both databases: health, errors, and what clients know but is not here."""

import pytest

from havre import __version__
from havre.domain.errors import Unavailable


def test_health_says_the_version(api):
    answer = api.client.get("http://127.0.0.1//healthz")
    assert answer.status_code == 200
    told = answer.json()
    assert told.items() >= {"status": "ok", "version": __version__, "role": "holder"}.items()


def test_health_is_503_without_a_database(api, monkeypatch):
    monkeypatch.setattr(api.database, "read", refuse_to_read)
    answer = api.client.get("/healthz")
    assert (answer.status_code, answer.json()["code"]) == (503, "ServiceUnavailable")


def refuse_to_read():
    raise Unavailable("gone")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "NotFound"),
        ("GET", "/20190101/nouns", 404, "NotFound"),
        ("POST", "/healthz", 405, "MethodNotAllowed"),
        ("POST", "/_refused/413", 404, "NotFound"),
        ("POST", "/20190101/jobs", 501, "MethodNotImplemented"),
        ("GET", "/20190101/jobs/ocid1.x", 501, "MethodNotImplemented"),
        ("DELETE", "/20190101/notebookSessions/x", 501, "MethodNotImplemented"),
        ("POST", "/20190101/models/x/actions/exportArtifact", 501, "MethodNotImplemented"),
        ("POST", "/20190101/models/x/artifactSignatures", 501, "MethodNotImplemented"),
    ],
)
def test_what_is_not_here_is_refused_in_the_one_shape(api, method, path, status, code):
    answer = api.client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert set(answer.json()) == {"code", "message"}
    assert answer.headers["opc-request-id"]


@pytest.mark.parametrize(
    ("noun", "empty"),
    [("jobs", []), ("modelGroups", []), ("containers", []), ("mlApplications", {"items": []})],
)
def test_lists_of_what_is_not_here_are_empty(api, noun, empty):
    answer = api.client.get(f"/20190101/{noun}", params={"compartmentId": "x"})
    assert (answer.status_code, answer.json()) == (200, empty)


def test_the_api_describes_itself_without_the_internet(api):
    assert api.client.get("/openapi.json").json()["info"]["title"] == "havre"
    assert api.client.get("/docs").status_code == 404
