"""Of several who wait for a build that died, none is taken for what it has left."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from havre.environments import build_lock
from havre.environments.build_lock import Owner
from havre.supervisor.identity import identify

WAIT = """
import sys, time
from pathlib import Path
from havre.environments import build_lock
build_lock.STALE_AFTER_S = 0.3
scan = build_lock._who_has_open
build_lock._who_has_open = lambda path: (time.sleep(float(sys.argv[2])), scan(path))[1]
print("up", flush=True)
sys.stdin.readline()
with build_lock.held(Path(sys.argv[1]), "small", lambda _: None):
    time.sleep(0.2)  # the build
    sys.stdin.readline()  # and it goes on until it may end
"""


@pytest.fixture
def dead() -> Owner:
    died = subprocess.Popen([sys.executable, "-c", ""])
    identity = identify(died.pid)
    assert identity is not None
    died.wait()
    return Owner(identity, time.time())


def started(code: str, *arguments: str, lock: int | None = None) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        pass_fds=[] if lock is None else [lock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_late_waiter_ends_nobody_that_holds_the_build_lock(tmp_path: Path, dead: Owner) -> None:
    path = tmp_path / "lock"
    with build_lock.held(path, "small", print):
        pass
    with started(WAIT, str(path), "0") as other:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
        while (owner := build_lock.read(path)) is None or owner.process.pid != other.pid:
            assert other.poll() is None
        build_lock._end(path, dead)
        assert other.poll() is None
        other.communicate("end\n")
        assert other.returncode == 0


def test_many_wait_for_a_dead_build_and_each_has_its_turn(tmp_path: Path, dead: Owner) -> None:
    path = tmp_path / "lock"
    with build_lock.held(path, "small", print) as lock:
        left = started("print('up', flush=True); input()", lock=lock)
    path.write_text(json.dumps(asdict(dead)))
    # Some take longer to find who has it open: the others have ended it meanwhile.
    waiting = [started(WAIT, str(path), f"{number / 10}") for number in range(5)]
    for each in waiting:
        assert each.stdin is not None
        each.stdin.write("go\nend\n")
        each.stdin.flush()
    with left:
        assert [each.communicate(timeout=60) and each.returncode for each in waiting] == [0] * 5
        assert left.wait() == -signal.SIGKILL


def test_a_short_holder_of_the_build_lock_is_named_too(tmp_path: Path, dead: Owner) -> None:
    """Sweeping takes long in a large environment: by the words of the dead it would be ended."""
    path = tmp_path / "lock"
    path.write_text(json.dumps(asdict(dead)))
    with build_lock.held_if_free(path) as is_held:
        assert is_held
        owner = build_lock.read(path)
        assert owner is not None
        assert owner.process.pid == os.getpid()
        with build_lock.held_if_free(path) as is_held_twice:
            assert not is_held_twice
    assert build_lock.read(path) is None
