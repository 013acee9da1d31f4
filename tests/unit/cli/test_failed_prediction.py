"""What `havre predict` says of a prediction that failed."""

from typing import Any, cast

import pytest

from havre.cli import failed_prediction
from havre.cli.failed_prediction import explained
from havre.client import ApiError, Client

DEPLOYMENT = {"id": "ocid1.d", "compartmentId": "ocid1.c"}
SILENT = "The model did not answer: its copy (worker process) died or took too long."


class Log:
    """Stands for the server: ``messages`` are what a search finds, after some that find nothing."""

    def __init__(self, *messages: str, after: int = 0) -> None:
        self.asked: list[str] = []
        self._messages = messages
        self._after = after

    def deployment(self, _: str) -> dict[str, Any]:
        return DEPLOYMENT

    def search_logs(self, query: str, **_: Any) -> list[dict[str, Any]]:
        self.asked.append(query)
        if len(self.asked) <= self._after:
            return []
        return [{"logContent": {"data": {"message": each}}} for each in self._messages]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_prediction, "POLL_S", 0.0)


def say(error: ApiError, log: Log) -> str:
    return explained(error, cast("Client", log), DEPLOYMENT["id"], "survive").message


def test_an_exception_is_the_models() -> None:
    log = Log()
    told = say(ApiError(500, "InternalServerError", "KeyError: 'when'", "7E9E"), log)
    assert (
        told == "survive answered 500: KeyError: 'when' (more: havre logs survive --request 7E9E)"
    )
    assert log.asked == [], "its message says enough"


def test_a_copy_that_died_says_how_once_its_keeper_has() -> None:
    line = (
        "2026-11-25T10:00:00.000Z [keeper] request 7E9E: copy 1 (pid 71) died: killed by SIGSEGV: "
        "Segmentation fault at score.py line 3 in predict; another follows"
    )
    log = Log("heard", line, after=2)
    told = say(ApiError(500, "InternalServerError", SILENT, "7E9E"), log)
    assert told == (
        f"survive answered 500: {SILENT[:-1]}: "
        "copy 1 (pid 71) died: killed by SIGSEGV: Segmentation fault at score.py line 3 in predict "
        "(more: havre logs survive --request 7E9E)"
    )
    assert "7E9E" in log.asked[0]


def test_where_nobody_knows_it_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_prediction, "SEARCH_LIMIT_S", 0.0)
    told = say(ApiError(500, "InternalServerError", SILENT, "7E9E"), Log("something else"))
    assert told == f"survive answered 500: {SILENT} (more: havre logs survive --request 7E9E)"


@pytest.mark.parametrize(
    "error",
    [
        ApiError(400, "CannotParseRequest", "the body is not JSON", "7E9E"),
        ApiError(404, "NotFound", "No such resource", "7E9E"),
        ApiError(502, "Unknown", "bad gateway"),
    ],
)
def test_what_is_no_fault_of_the_model_is_told_as_it_is(error: ApiError) -> None:
    assert explained(error, cast("Client", Log()), DEPLOYMENT["id"], "survive") is error
