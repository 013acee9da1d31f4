import errno
import os
from collections.abc import Iterator

import pytest

from havre.supervisor import landlock


@pytest.fixture(autouse=True)
def _ask_anew() -> Iterator[None]:
    for known in (landlock.abi, landlock._version):
        known.cache_clear()
    yield
    for known in (landlock.abi, landlock._version):
        known.cache_clear()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSYS, "this kernel has no Landlock"),
        (errno.EOPNOTSUPP, "Landlock is switched off on this machine"),
        (errno.EPERM, "Landlock is refused to havre (Operation not permitted)"),
    ],
)
def test_why_there_is_none(monkeypatch: pytest.MonkeyPatch, code: int, told: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(landlock, "call", refuse)
    assert (landlock.abi(), landlock.obstacle()) == (0, told)


def test_where_there_is_some_nothing_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "call", lambda *_: 4)
    assert (landlock.abi(), landlock.obstacle()) == (4, "")
