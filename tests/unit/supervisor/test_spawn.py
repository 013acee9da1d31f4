import os
from pathlib import Path

import pytest

from havre.supervisor.protocol import ProcessSpec
from havre.supervisor.spawn import spawn


def test_a_fork_that_fails_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again and again, for as long as the machine has no process to give."""

    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    place = tmp_path / "a.sock"
    spec = ProcessSpec(
        name="a",
        argv=("/bin/true",),
        environment={},
        folder=str(tmp_path),
        log=str(tmp_path / "a.log"),
        listen=(str(place),),
    )
    before = os.listdir("/proc/self/fd")
    with pytest.raises(BlockingIOError):
        spawn(spec, limits_processes=False, before_exec=lambda _: None)
    assert os.listdir("/proc/self/fd") == before
    assert not place.exists()
