import asyncio
import json
from typing import Any

import pytest

from havre.api import refusals as module
from havre.api.refusals import drain_and_refuse, refusal_of
from havre.balancer.refusals import REFUSALS, TOO_LARGE


def exchange(messages: list[dict[str, Any]], refusal: str = TOO_LARGE) -> tuple[list[Any], int]:
    """What is sent to a client that sends these messages, and how many of them were not read."""
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(drain_and_refuse(REFUSALS[refusal], receive, send))
    return sent, len(messages)


def body(piece: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": piece, "more_body": more}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_answer_comes_when_the_whole_body_is_read(refusal: str) -> None:
    messages = [body(b"x", more=True)] * 3 + [body(b"x", more=False)]
    (start, content), left = exchange(messages, refusal)
    assert left == 0
    assert start["status"] == REFUSALS[refusal].status
    headers = dict(start["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(content["body"])
    told = {"code": REFUSALS[refusal].code, "message": REFUSALS[refusal].message}
    assert json.loads(content["body"]) == told


def test_a_client_that_leaves_gets_nothing() -> None:
    sent, _ = exchange([body(b"x", more=True), {"type": "http.disconnect"}])
    assert sent == []


def test_an_absurd_body_is_answered_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DRAINED_BYTES", 10)
    (start, _), left = exchange([body(b"x" * 6, more=True)] * 5)
    assert start["status"] == 413
    assert left == 3


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ([(b"x-havre-refusal", TOO_LARGE.encode())], TOO_LARGE),
        ([(b"x-havre-refusal", b"of another version")], None),
        ([(b"x-havre-other", TOO_LARGE.encode())], None),
        ([], None),
    ],
)
def test_the_load_balancer_says_which(headers: list[tuple[bytes, bytes]], refusal: str) -> None:
    assert refusal_of({"headers": headers}) == (REFUSALS[refusal] if refusal else None)
