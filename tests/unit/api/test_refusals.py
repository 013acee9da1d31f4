import asyncio
import json
from typing import Any

import pytest

from havre.api import refusals as module
from havre.api.refusals import refusals


def exchange(path: str, messages: list[dict[str, Any]]) -> tuple[list[Any], int]:
    """What is sent to a client that sends these messages, and how many of them were not read."""
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(refusals({"type": "http", "path": path}, receive, send))
    return sent, len(messages)


def body(piece: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": piece, "more_body": more}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/_refused/413", 413, "PayloadTooLarge"),
        ("/_refused/200", 404, "NotAuthorizedOrNotFound"),
        ("/_refused/", 404, "NotAuthorizedOrNotFound"),
    ],
)
def test_the_answer_comes_when_the_whole_body_is_read(path: str, status: int, code: str) -> None:
    (start, content), left = exchange(path, [body(b"x", more=True)] * 3 + [body(b"x", more=False)])
    assert left == 0
    assert start["status"] == status
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(content["body"])
    assert json.loads(content["body"])["code"] == code


def test_a_client_that_leaves_gets_nothing() -> None:
    sent, _ = exchange("/_refused/413", [body(b"x", more=True), {"type": "http.disconnect"}])
    assert sent == []


def test_an_absurd_body_is_answered_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_AT_MOST", 10)
    (start, _), left = exchange("/_refused/413", [body(b"x" * 6, more=True)] * 5)
    assert start["status"] == 413
    assert left == 3
