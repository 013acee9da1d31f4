"""What a hostile model cannot use up, and what it cannot leave behind."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hostile.harness import IsolationHarness, can_find_all, has_private_view, needs_root
from tests.hostile.model import DAEMON
from tests.support.supervisor_harness import SupervisorHarness, runs, wait_until

from havre.engines.confinement import PROCESSES, PROCESSES_PER_COPY
from havre.supervisor.cgroups import OURS, Cgroups, find_trees

TREES = find_trees(is_root=os.geteuid() == 0)
needs_cgroups = pytest.mark.skipif(
    bool(Cgroups(TREES, Path("/")).missing), reason="needs control groups"
)

HOG = "kept = []\nwhile True: kept.append(bytearray(1 << 22))"
SPIN = """
import time
began, used = time.monotonic(), time.process_time()
while time.monotonic() < began + 1.5: pass
answer = (time.process_time() - used) / 1.5
"""
BOMB = """
import os, time
answer = 0
while answer < 3000:
    try:
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
    except OSError:
        break
    answer += 1
"""


@pytest.fixture
def isolation(harness: SupervisorHarness) -> Iterator[IsolationHarness]:
    isolation = IsolationHarness(harness)
    yield isolation
    for status in isolation.engine.instances():
        isolation.engine.stop(status.id)  # a bomb outlives what the harness finds by its variables
    assert groups_of(isolation) == []


def groups_of(isolation: IsolationHarness) -> list[str]:
    """Names of the control groups that this home has now."""
    own = Cgroups(TREES, isolation.home.root)
    folders = [tree.base / OURS / own.home_id for tree in TREES]
    return [path.name for folder in folders for path in folder.glob("i-*")]


@needs_cgroups
def test_a_memory_hog_is_ended_alone_and_the_log_says_why(isolation: IsolationHarness) -> None:
    model = isolation.run("a", copies=2, memory_bytes=200 << 20)
    neighbour = isolation.run("b")
    status, _ = model.request(HOG)
    assert status == 0, "the load balancer makes a 500 of it"
    assert model.does("answer = 'served'") == "served"
    after = wait_until(lambda: now if (now := model.now()).copies_ready == 2 else None)
    assert after.pid == model.status.pid, "the keeper lives"
    assert after.restarts == 1
    assert [note for note in after.notes if "out of memory" in note]
    assert "out of memory" in model.log()
    assert neighbour.now().restarts == 0


@needs_cgroups
def test_a_model_that_is_too_large_to_load_says_so(isolation: IsolationHarness) -> None:
    spec = isolation.spec("a", score=HOG, memory_bytes=100 << 20)
    isolation.engine.start(spec)
    reason = wait_until(
        lambda: now.reason if (now := isolation.engine.inspect(spec.id)).phase == "FAILED" else ""
    )
    assert "out of memory" in reason
    assert "probably" not in reason
    # The supervisor of another home removes the groups in which nothing is left.
    Cgroups(TREES, isolation.home.root / "another").clean(())
    assert groups_of(isolation) == []
    assert isolation.engine.inspect(spec.id).reason == reason


@needs_cgroups
def test_processor_time_beyond_the_shape_is_not_given(isolation: IsolationHarness) -> None:
    model = isolation.run("a", cpus=0.25)
    share = model.does(SPIN)
    assert share < 0.4, "a quarter of a hardware thread"


@needs_cgroups
def test_a_fork_bomb_is_bounded_and_ended_with_its_instance(isolation: IsolationHarness) -> None:
    model = isolation.run("a")
    neighbour = isolation.run("b")
    assert 50 < model.does(BOMB) < PROCESSES + PROCESSES_PER_COPY
    assert neighbour.does("import os; p = os.fork() or os._exit(0); answer = 1") == 1
    began = time.monotonic()
    isolation.engine.stop(model.spec.id)
    assert time.monotonic() - began < 60, "not as long as those that it has started"
    assert [name for name in groups_of(isolation) if "aaa" in name] == []


@pytest.mark.skipif(not can_find_all, reason="needs control groups, or users of models' own")
def test_what_left_its_group_goes_with_the_instance(isolation: IsolationHarness) -> None:
    model = isolation.run("a")
    daemon = model.does(DAEMON)
    assert runs(daemon)
    assert os.getsid(daemon) != os.getsid(model.status.pid)
    isolation.engine.stop(model.spec.id)
    assert not runs(daemon)


@needs_cgroups
def test_what_left_its_group_is_found_after_a_crash_of_the_supervisor(
    isolation: IsolationHarness,
) -> None:
    model = isolation.run("a")
    daemon = model.does(DAEMON)
    isolation.supervised.crash()
    os.kill(model.status.pid, 9)
    # Even the record may be lost: then it is nobody's, and goes when the next one comes.
    (isolation.home.processes / f"i-{model.spec.id}.json").unlink()
    isolation.supervised.launch()
    wait_until(lambda: not runs(daemon), "the end of what nobody knows")
    assert groups_of(isolation) == []


@needs_root
def test_files_go_with_the_instance(isolation: IsolationHarness) -> None:
    model = isolation.run("a")
    write = "import os; open({!r}, 'w').write('x' * 1000); answer = sorted(os.listdir({!r}))"
    mark = f"havre-left-{os.getpid()}"
    shared = f"/dev/shm/{mark}"
    assert mark in model.does(write.format(shared, "/dev/shm"))
    assert not Path(shared).exists() or not has_private_view(), "its shared memory is its own"
    model.does("import os; open(os.environ['TMPDIR'] + '/left', 'w'); open('left', 'w')")
    assert (model.folder / "home" / "left").exists()
    assert (model.folder / "tmp" / "left").exists()
    isolation.engine.stop(model.spec.id)
    assert not model.folder.exists()


def test_hostile_state_does_not_fool_or_stop_the_engine(isolation: IsolationHarness) -> None:
    model = isolation.run("a")
    state = str(model.folder / "state" / "state.json")
    pid = model.status.pid
    with model.line() as line:
        model.does("answer = 1", line)  # accepted: a keeper that stands still accepts no more
        os.kill(pid, 19)  # the keeper does not answer: only the file speaks
        try:
            for make in (
                "os.mkfifo(path)",
                "os.symlink('/dev/zero', path)",
                "open(path, 'w').write('[' * 100000)",
                "open(path, 'w').truncate(1 << 40)",
            ):
                model.does(f"import os; path = {state!r}; os.remove(path); {make}", line)
                began = time.monotonic()
                seen = model.now()
                assert time.monotonic() - began < 30, make
                assert seen.deployment_id == model.spec.deployment_id
        finally:
            os.kill(pid, 18)
