"""What a process does to itself where the machine stops it half-way."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hostile.harness import needs_root

from havre.supervisor.attempt import why_not
from havre.unprivileged import may_change_mounts

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "tests" / "matrix" / "launcher.py"
CONFINE = """
import json, os, sys
from havre.supervisor.confinement import confine
from havre.supervisor.protocol import Confinement

told = []
reachable = ("/", "/proc")
confine(Confinement(readable=("/",), writable=reachable), limits_processes=False, warn=told.append)
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
os.execv(sys.executable, [sys.executable, "-c", '''
import json, os, sys
status = dict(line.split(":\\\\t", 1) for line in open("/proc/self/status") if ":\\\\t" in line)
print(json.dumps([os.getuid(), int(status["CapEff"], 16), json.loads(sys.argv[1])]))
''', json.dumps(told)])
"""


def confined(machine: dict[str, object]) -> tuple[int, int, list[str]]:
    """User and capabilities of a program that was confined on that machine, and the warnings."""
    command = [sys.executable, LAUNCHER, json.dumps(machine), sys.executable, "-c", CONFINE]
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    user, capabilities, told = json.loads(done.stdout)
    return user, capabilities, told


def test_why_not_tells_the_reason_and_leaves_us_as_we_were() -> None:
    folder = os.getcwd()
    assert why_not(lambda: os.chdir("/")) == ""
    assert os.getcwd() == folder
    assert "No such file" in why_not(lambda: os.chdir("/not/there"))
    assert "OSError" in why_not(_fail_without_words)
    assert "KeyError" in why_not(lambda: {}["x"])
    assert "Killed" in why_not(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _fail_without_words() -> None:
    raise OSError


@needs_root
@pytest.mark.skipif(not may_change_mounts(), reason="the launcher needs the right to change mounts")
@pytest.mark.parametrize(
    ("machine", "step"),
    [
        ({"unwritable": ["/proc"]}, "user numbers in it: Permission denied"),
        ({"denied": ["mounts by AppArmor"]}, "a mount: Permission denied"),
        ({"denied": ["user namespaces"]}, "a namespace: Operation not permitted"),
    ],
)
def test_who_cannot_have_a_whole_view_keeps_its_user(machine: dict[str, object], step: str) -> None:
    """In a namespace whose numbers are not written it would be nobody, and own nothing."""
    reachable = [str(ROOT), sys.prefix, sys.base_prefix]
    user, capabilities, told = confined({**machine, "uid": 64203, "reachable": reachable})
    assert (user, capabilities) == (64203, 0)
    assert [line for line in told if step in line] != []


@needs_root
def test_root_that_may_not_drop_for_good_lets_go_of_what_it_has() -> None:
    set_capabilities = 8
    kept = [number for number in range(41) if number != set_capabilities]
    user, capabilities, _ = confined({"capabilities": kept, "denied": ["namespaces"]})
    assert user == 0
    assert capabilities in (0, 1 << 1), "what overrides file modes may be needed, nothing else"
