"""What a model leaves in its folders holds up nobody: its instance ends, and all of it goes."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from tests.integration.test_process_engine import EngineHarness, predict
from tests.support.supervisor_harness import SupervisorHarness, wait_until

from havre.domain.states import InstancePhase
from havre.engines import trash
from havre.engines.confinement import InstancePaths
from havre.engines.members import Members
from havre.engines.trash import Sweeper
from havre.reconciler.housekeeping import Housekeeping
from havre.reserve import Reserve

LEFT = """
import os, socket
from pathlib import Path

def dig(name, depth):
    os.chdir(os.environ["HOME"])
    for _ in range(depth):
        os.mkdir(name)
        os.chdir(name)
    Path("file").touch()

def leave():
    dig("d" * 250, 40)
    dig("d", 200)
    os.chdir(os.environ["HOME"])
    os.mkdir(b"\\xff\\n")
    os.mkfifo("pipe")
    with open("sparse", "wb") as file:
        file.truncate(1 << 40)
    Path("link").symlink_to("/etc")
    for name in ("open", "pinned"):
        Path(name).mkdir()
        (Path(name) / "file").touch()
    Path("closed/within").mkdir(parents=True)
    Path("closed").chmod(0)
    Path("closed").parent.chmod(0o500)
    tmp = Path(os.environ["TMPDIR"])
    for number in range(1000):
        (tmp / str(number)).touch()
    output = Path(os.environ["HOME"]).parent / "output"
    os.mkfifo(output / "copy-0.1764100000000.log")
    (output / "copy-1.1764100000000.log").symlink_to("/etc/passwd")

leave()

def load_model():
    return None

def predict(data):
    return data
"""

FORGED = """
import ctypes, os, signal
from pathlib import Path

state = Path(os.environ["HOME"]).parent / "state"
for number in range(20):
    os.mkfifo(state / (".state.json.%012x" % number))
    os.mkfifo(state / (".verdict.json.%012x" % number))

def load_model():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(600)

def predict(data, model=load_model()):
    return data
"""

GREEDY = """
import os
from pathlib import Path

held = open(Path(os.environ["TMPDIR"]) / "unnamed", "wb")
os.unlink(held.name)

def load_model():
    return None

def predict(data, model=load_model()):
    if data["named"]:
        (Path(os.environ["TMPDIR"]) / "cache").write_bytes(os.urandom(data["bytes"]))
    else:
        held.write(os.urandom(data["bytes"]))
        held.flush()
    return data
"""

Done = TypeVar("Done")


def within(seconds: float, act: Callable[[], Done]) -> Done:
    """What may hang for ever, in a thread of its own."""
    outcome: list[Done] = []
    thread = threading.Thread(target=lambda: outcome.append(act()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"it hangs after {seconds:g} s"
    return outcome[0]


@pytest.fixture
def engines(harness: SupervisorHarness) -> EngineHarness:
    return EngineHarness(harness)


def test_whatever_a_model_leaves_is_gone_with_its_instance(engines: EngineHarness) -> None:
    home, spec = engines.home, engines.spec(LEFT)
    engines.ready(spec)
    within(60, lambda: engines.engine.stop(spec.id))
    assert not (home.instances / spec.id).exists()
    assert engines.engine.instances() == []
    wait_until(lambda: Sweeper(home.trash).sweep(within_s=60.0) or not trash.left(home.trash))
    assert [path for path in home.instance_logs.iterdir() if path.is_symlink()] == []
    assert Path("/etc/passwd").exists()


def test_files_that_nobody_can_remove_keep_no_instance(engines: EngineHarness) -> None:
    if os.geteuid() != 0 or shutil.which("chattr") is None:
        pytest.skip("only root makes a file immutable, with chattr")
    home, spec = engines.home, engines.spec(LEFT)
    engines.ready(spec)
    pinned = InstancePaths(home.instances / spec.id).home / "pinned" / "file"
    if subprocess.run(["chattr", "+i", str(pinned)], check=False).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        within(60, lambda: engines.engine.stop(spec.id))
        assert not (home.instances / spec.id).exists()
        [left] = trash.left(home.trash)
        Sweeper(home.trash).sweep(within_s=60.0)
        [pinned] = [path for path in left.rglob("*") if path.is_file()]
        assert pinned.name == "file"
    finally:
        subprocess.run(["chattr", "-i", str(pinned)], check=True)
    Sweeper(home.trash).sweep(within_s=60.0)
    assert trash.left(home.trash) == []


def test_pipes_where_the_engine_used_to_write_hang_nobody(engines: EngineHarness) -> None:
    spec = replace(engines.spec(FORGED), start_timeout_s=1.0)
    engines.engine.start(spec)
    failed = within(60, lambda: engines.phase(spec.id, InstancePhase.FAILED))
    assert failed.reason == "the model was not loaded within 1 s"
    state = InstancePaths(engines.home.instances / spec.id).state_file.parent
    assert sorted(path.name for path in state.iterdir() if path.is_file()) in ([], ["state.json"])
    again = within(60, lambda: engines.engine.inspect(spec.id))
    assert (again.phase, again.reason) == (InstancePhase.FAILED, failed.reason)
    within(60, lambda: engines.engine.stop(spec.id))
    assert engines.engine.inspect(spec.id).phase is InstancePhase.GONE


@pytest.mark.parametrize("is_named", [True, False], ids=["a file", "a file without a name"])
def test_an_instance_that_takes_too_much_disk_is_ended_with_the_reason(
    engines: EngineHarness, is_named: bool
) -> None:
    home, spec = engines.home, engines.spec(GREEDY)
    ready = engines.ready(spec)
    housekeeping = Housekeeping(
        home,
        engines.engine,
        Members(home, engines.supervised.client),
        Reserve(home.reserve),
        max_mb=8,
    )
    body = b'{"named": %s, "bytes": %d}'
    named = b"true" if is_named else b"false"
    predict(ready.address.path, body % (named, 4_000_000))
    housekeeping.run_once()
    assert engines.engine.inspect(spec.id).phase is InstancePhase.READY
    # Of a file without a name as much again is there; the other is replaced.
    predict(ready.address.path, body % (named, 12_000_000))

    def is_ended() -> bool:
        housekeeping.run_once()
        return engines.engine.inspect(spec.id).phase is InstancePhase.FAILED

    wait_until(is_ended)
    told = engines.engine.inspect(spec.id).reason
    assert "of the disk, more than an instance may (8 MB" in told
    assert "instance_disk_mb" in told
    log = (home.instance_logs / f"{spec.id}.log").read_text()
    assert f"Z [keeper] ended: {told}\n" in log
    engines.engine.stop(spec.id)
    assert home.reserve.stat().st_size > 0
