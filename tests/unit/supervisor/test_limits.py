"""The supervisor notices when somebody lowers its limits."""

import resource

import pytest

from havre.supervisor.limits import OwnLimits

OPEN_FILES = resource.RLIMIT_NOFILE


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[int, int]]:
    """The limits of a process, which may not raise a hard one."""
    limits: dict[int, tuple[int, int]] = {}

    def change(kind: int, wanted: tuple[int, int]) -> None:
        if (wanted[1] % (1 << 64)) > (limits[kind][1] % (1 << 64)):  # none is -1
            raise ValueError("not allowed to raise maximum limit")
        limits[kind] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits.setdefault(kind, (1024, 4096)))
    monkeypatch.setattr(resource, "setrlimit", change)
    return limits


def test_what_can_be_undone_is(machine: dict[int, tuple[int, int]]) -> None:
    told: list[str] = []
    own = OwnLimits(told.append)
    own.restore()
    assert told == []
    machine[OPEN_FILES] = (64, 4096)
    own.restore()
    assert machine[OPEN_FILES] == (1024, 4096)
    assert len(told) == 1
    assert "open files to 64/4096; it is 1024/4096 again" in told[0]


def test_raised_limits_stay(machine: dict[int, tuple[int, int]]) -> None:
    told: list[str] = []
    own = OwnLimits(told.append)
    for raised in ((2048, 8192), (8192, resource.RLIM_INFINITY)):
        machine[OPEN_FILES] = raised
        own.restore()
        assert machine[OPEN_FILES] == raised
    machine[OPEN_FILES] = (4096, resource.RLIM_INFINITY)
    own.restore()
    assert machine[OPEN_FILES] == (8192, resource.RLIM_INFINITY)
    assert len(told) == 1


def test_what_cannot_be_undone_is_told_once(machine: dict[int, tuple[int, int]]) -> None:
    told: list[str] = []
    own = OwnLimits(told.append)
    machine[OPEN_FILES] = (64, 64)
    for _ in range(3):
        own.restore()
    assert len(told) == 1
    assert "open files from 1024/4096 to 64/64" in told[0]
    assert "havre up" in told[0]
