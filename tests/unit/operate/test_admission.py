"""Waiting until the load balancer knows a key, and for how long."""

from pathlib import Path

import httpx
import pytest

from havre.auth.identity import load_or_create
from havre.auth.signer import Signer
from havre.home import Home
from havre.operate import admission

URL = "http://127.0.0.1:1"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    home = Home(tmp_path)
    home.make()
    return Signer(home, load_or_create(home))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int | httpx.HTTPError]:
    """What the server says next; the last for ever."""
    left: list[int | httpx.HTTPError] = []

    def post(client: httpx.Client, url: str, **options: object) -> httpx.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, httpx.HTTPError):
            raise answer
        return httpx.Response(answer)

    monkeypatch.setattr(httpx.Client, "post", post)
    monkeypatch.setattr(admission, "POLL_S", 0.0)
    return left


def test_it_waits_until_the_key_is_known(
    signer: Signer, answers: list[int | httpx.HTTPError]
) -> None:
    answers += [401, 401, 404]
    assert admission.is_admitted(URL, signer)
    assert answers == [404]


def test_it_gives_up(signer: Signer, answers: list[int | httpx.HTTPError]) -> None:
    answers += [401]
    assert not admission.is_admitted(URL, signer, within_s=0.0)


def test_there_is_nothing_to_wait_for_where_nobody_answers(
    signer: Signer, answers: list[int | httpx.HTTPError]
) -> None:
    answers += [httpx.ConnectError("refused")]
    assert admission.is_admitted(URL, signer)
