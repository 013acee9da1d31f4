"""Builds of environments that are killed, contended and interrupted."""

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tests.support.small_environment import SMALL, says
from tests.support.supervisor_harness import DEADLINE_S, wait_until

from havre import temporary
from havre.durable import remove_tree, try_lock, try_lock_folder
from havre.environments import build_lock
from havre.environments.builder import EnvironmentBuilder
from havre.environments.confinement import Enclosure
from havre.environments.definition import EnvironmentDefinition
from havre.environments.machine_pythons import Interpreters
from havre.home import Home
from havre.supervisor.identity import identify, is_running

KILLS = 20
KILLING_S = 120.0
"""So long, at most, until one of the kills has met a build in its midst."""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go meanwhile: other users get there."""
    place = Path(tempfile.mkdtemp(prefix="hv", dir="/tmp"))
    place.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    remove_tree(place)


ENSURE = """
import json, sys
from pathlib import Path
from havre.environments.builder import EnvironmentBuilder
from havre.environments.confinement import Enclosure
from havre.environments.definition import EnvironmentDefinition
from havre.environments.machine_pythons import Interpreters
from havre.home import Home
home, definition = Home(Path(sys.argv[1])), EnvironmentDefinition.from_json(json.loads(sys.argv[2]))
builder = EnvironmentBuilder(home, Enclosure(home), Interpreters([]))
print("go", flush=True)
print(builder.ensure(definition, lambda line: print(line, flush=True)).digest, flush=True)
"""


def start_ensure(
    root: Path, definition: EnvironmentDefinition, **variables: str
) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", ENSURE, str(root), json.dumps(definition.to_json())]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )


def is_locked(folder: Path) -> bool:
    if (lock := try_lock_folder(folder)) is not None:
        os.close(lock)
    return lock is None


def test_a_build_killed_at_any_moment_is_never_used_half_done(index: None, tmp_path: Path) -> None:
    chance = random.Random(3)
    builder = EnvironmentBuilder(Home(tmp_path), Enclosure(Home(tmp_path)), Interpreters([]))
    builder.remove(builder.ensure(SMALL, print).digest)
    began = time.monotonic()
    digest = builder.ensure(SMALL, print).digest
    whole_s = time.monotonic() - began
    builder.remove(digest)
    halves = 0
    for number in itertools.count():
        with start_ensure(tmp_path, SMALL) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "go\n"
            time.sleep(chance.random() * whole_s)  # the moment of the kill
            process.send_signal(signal.SIGKILL)
        built = builder.get(digest)
        halves += built is None and (tmp_path / "environments/built" / digest).exists()
        if built is not None:
            assert says(built.interpreter, "import six, attr; print('runs')") == "runs"
            builder.remove(digest)
        is_late = time.monotonic() - began > KILLING_S
        if number >= KILLS and (halves > 0 or is_late):
            break
    assert halves > 0
    built = builder.ensure(SMALL, print)
    assert says(built.interpreter, "import six, attr; print('runs')") == "runs"
    assert [path.name for path in (tmp_path / "environments/built").iterdir()] == [digest]


def test_the_folders_of_a_build_are_removed_when_it_was_killed_and_not_before(
    index: None, tmp_path: Path, place: Path
) -> None:
    def left() -> list[Path]:
        return list(place.glob("havre-held-*"))

    def is_stopped_with_folders(build: subprocess.Popen[str]) -> bool:
        """Not between the making of a folder and its lock: that one may be swept."""
        build.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, build.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if left() and all(map(is_locked, left())):
            return True
        build.send_signal(signal.SIGCONT)
        return False

    for remedy in ("a sweep", "the next build"):
        with start_ensure(tmp_path, SMALL, TMPDIR=str(place)) as process:
            try:
                wait_until(lambda: is_stopped_with_folders(process), "folders of the build")
                living = left()
                temporary.sweep()
                assert left() == living
            finally:
                process.kill()
        assert left() == living
        if remedy == "a sweep":
            # What the build had started ends within moments, and may write until then.
            wait_until(lambda: temporary.sweep() or not left(), "an empty place")
    enclosure = Enclosure(Home(tmp_path))
    EnvironmentBuilder(Home(tmp_path), enclosure, Interpreters([])).ensure(SMALL, print)
    assert left() == []


def test_two_processes_build_the_same_environment_once(index: None, tmp_path: Path) -> None:
    said: list[list[str]] = [[], []]
    processes = [start_ensure(tmp_path, SMALL) for _ in said]
    signals, released = threading.Lock(), threading.Event()

    def follow(number: int) -> None:
        for line in processes[number].stdout or ():
            said[number].append(line.strip())
            with signals:
                # Until the other has come to see it, which it may have by now.
                if line.startswith("building") and not released.is_set():
                    processes[number].send_signal(signal.SIGSTOP)

    def waiting() -> list[str]:
        return [line for line in said[0] + said[1] if line.startswith("waiting")]

    following = [threading.Thread(target=follow, args=(number,)) for number in range(2)]
    for thread in following:
        thread.start()
    try:
        wait_until(waiting, "one to wait for the other")
        with signals:
            released.set()
            for process in processes:
                process.send_signal(signal.SIGCONT)
        for process in processes:
            process.wait(timeout=DEADLINE_S)
    finally:
        for thread, process in zip(following, processes, strict=True):
            process.kill()
            thread.join()
    assert said[0][-1] == said[1][-1]
    starts = [line for lines in said for line in lines if line.startswith("building")]
    assert len(starts) == 1
    [told] = waiting()
    assert re.fullmatch(
        r"waiting: small is being built by process (\d+), for \d+ s; `kill \1` ends it", told
    )
    assert any(str(process.pid) in told for process in processes)


def test_an_interrupted_build_leaves_nothing_that_holds_its_lock(
    index: None, tmp_path: Path
) -> None:
    """SIGINT to the command alone, as an editor's stop button sends it; any moment will do, but
    nothing that is built with has the lock at any.
    """
    builder = EnvironmentBuilder(Home(tmp_path), Enclosure(Home(tmp_path)), Interpreters([]))
    definition = replace(SMALL, requirements=("numpy",))
    for step in ("building", "resolved", "installed"):
        with start_ensure(tmp_path, definition) as process:
            assert process.stdout is not None
            while process.poll() is None:
                if process.stdout.readline().startswith(step):
                    break
            [lock] = (tmp_path / "environments/locks").glob("*.lock")
            for owner in build_lock._who_has_open(lock):
                command = build_lock._command_of(owner.pid)
                is_ours = owner.pid == process.pid or "supervisor.guard" in command
                assert is_ours or not is_running(owner)
            process.send_signal(signal.SIGINT)
        descriptor = try_lock(lock)
        assert descriptor is not None, "it was free when the command had ended"
        os.close(descriptor)
        assert build_lock._who_has_open(lock) == []
    assert builder.ensure(definition, print).slug == "small"


def test_what_a_dead_build_has_left_is_ended_and_no_living_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_lock, "STALE_AFTER_S", 0.3)
    path, said = tmp_path / "lock", list[str]()
    code = "import sys, time; print('up', flush=True); time.sleep(600)"
    with build_lock.held(path, "small", said.append) as lock:
        record = path.read_text()
        left = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[lock], stdout=subprocess.PIPE
        )
        assert left.stdout is not None
        assert left.stdout.readline() == b"up\n"
    died = subprocess.Popen([sys.executable, "-c", ""])
    identity = identify(died.pid)
    assert identity is not None
    died.wait()
    dead = json.loads(record)
    dead["process"] = asdict(identity)
    path.write_text(json.dumps(dead))
    with left, build_lock.held(path, "small", said.append):
        assert left.wait() == -signal.SIGKILL
    assert "waiting: small is being built by process" in said[0]
    assert said[1].startswith("ending what is left")
    assert str(left.pid) in said[1]
