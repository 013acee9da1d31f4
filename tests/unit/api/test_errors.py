"""Errors become status codes in one place, and every error of the tree has one."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from havre.api.errors import install_error_handlers, status_of
from havre.domain import errors
from havre.domain.reported import MAX_MESSAGE_BYTES, shorten
from havre.home import Home
from havre.messages import fit


def family(kind: type) -> list[type]:
    """The tree as drawn in the domain; what clients make of answers is none of it."""
    children = [each for each in kind.__subclasses__() if each.__module__ == errors.__name__]
    return [kind, *(member for child in children for member in family(child))]


@pytest.mark.parametrize("kind", family(errors.HavreError), ids=lambda kind: kind.__name__)
def test_a_status_says_whose_fault_it_is(kind):
    status = status_of(kind("x"))
    if issubclass(kind, errors.SystemFault) or kind is errors.HavreError:
        assert status in {500, 503}
    elif kind is errors.NotImplementedHere:
        assert status == 501
    else:
        assert 400 <= status < 500


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.InvalidParameter("x"), 400, "InvalidParameter"),
        (errors.MissingParameter("x"), 400, "MissingParameter"),
        (errors.LimitExceeded("x"), 400, "LimitExceeded"),
        (errors.RelatedNotFound("x"), 400, "RelatedResourceNotAuthorizedOrNotFound"),
        (errors.NotFound("x"), 404, "NotAuthorizedOrNotFound"),
        (errors.Conflict("x"), 409, "Conflict"),
        (errors.IncorrectState("x"), 409, "IncorrectState"),
        (errors.EtagMismatch("x"), 412, "NoEtagMatch"),
        (errors.Unavailable("x"), 503, "ServiceUnavailable"),
    ],
)
def test_statuses_and_codes_are_those_of_the_original(error, status, code):
    assert (status_of(error), error.code) == (status, code)


LONG = "it begins " + "x" * 100_000 + " and ends"


@pytest.mark.parametrize("kind", family(errors.HavreError), ids=lambda kind: kind.__name__)
def test_files_of_long_messages_are_kept_of_models_and_the_machine_alone(
    kind: type[errors.HavreError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, threading.Thread] = {}

    def fit_here(message: str, folder: Path) -> str:
        threads["fit"] = threading.current_thread()
        return fit(message, folder)

    monkeypatch.setattr("havre.api.errors.fit", fit_here)
    app = FastAPI()
    app.state.services = SimpleNamespace(home=Home(tmp_path))
    install_error_handlers(app)

    @app.get("/")
    async def fail() -> None:
        threads["loop"] = threading.current_thread()
        raise kind(LONG)

    async def numbered(scope, receive, send):
        await app({**scope, "havre.request_id": "1"}, receive, send)

    told = TestClient(numbered).get("/").json()["message"]
    assert len(told.encode()) <= MAX_MESSAGE_BYTES
    files = list(Home(tmp_path).messages.glob("*"))
    if issubclass(kind, (errors.ModelFault, errors.SystemFault)):
        assert [file.read_text() for file in files] == [LONG]
        assert str(files[0]) in told
        assert threads["fit"] is not threads["loop"], "others are served meanwhile"
    else:
        assert files == []
        assert told == shorten(LONG)
