"""What holds when havre does not run as root: Landlock, the private view, rlimits."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.hostile_model import DAEMON
from tests.isolation_bench import is_refused, needs_landlock, open_interpreter

from havre.unprivileged import reachable, why_models_run_as_us

PROGRAM = Path(__file__).parents[1] / "unprivileged_server.py"
USER = 64123  # nobody's; its processes are the program's

CODES = {
    "itself": "import os; answer = os.getuid()",
    "database": "answer = open('{home}/havre.sqlite3').read()",
    "key": "answer = open('{home}/keys/key.pem').read()",
    "log": "answer = open('{home}/logs/supervisor.log').read()",
    "other artifact": "answer = open('{home}/unpacked/" + "b" * 64 + "/score.py').read()",
    "other environment": "answer = open('/proc/{other}/environ').read()",
    "supervisor's environment": "answer = open('/proc/{supervisor}/environ').read()",
    "signal another": "import os; os.kill({other}, 0)",
    "signal the supervisor": "import os; os.kill({supervisor}, 0)",
    "write the artifact": "open('{home}/unpacked/" + "a" * 64 + "/score.py', 'a')",
    "its port": "import socket; socket.create_connection(('127.0.0.1', {port}))",
    "take its port": (
        "import socket; s = socket.socket(); s.setsockopt(1, 15, 1); s.bind(('127.0.0.1', {port}))"
    ),
    "its sockets": "import socket; socket.socket(1).connect('{home}/run/supervisor.sock')",
    "other socket": "import socket; socket.socket(1).connect('{home}/run/i/bbbbbbbbbbbb.sock')",
}
ALLOWED = {
    "home": "open('x', 'w').write('x'); answer = 1",
    "shared memory": "open('/dev/shm/havre-left', 'w').write('x'); answer = 1",
    "score": "import os; os.environ['TMPDIR']; os.environ['HOME']; answer = 1",
    "processes": "import resource; answer = int(0 < resource.getrlimit(6)[0] < 100000)",
    "child": "import subprocess; answer = subprocess.call(['/bin/true']) + 1",
    "daemon": DAEMON.replace("{})", "os.environ)"),
}


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What became of every code, told by a server of a user without rights."""
    interpreter = open_interpreter()
    if os.geteuid() == 0 and (why_models_run_as_us() or not reachable(PROGRAM)):
        pytest.skip("cannot run the program as another user")
    home = Path(tempfile.mkdtemp(dir="/tmp", prefix="hv"))
    codes = list(CODES.values()) + list(ALLOWED.values())
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(home, USER, USER)
        options = {"user": USER, "group": USER, "extra_groups": []}
    try:
        done = subprocess.run(
            [interpreter, "-B", PROGRAM, home],
            input=json.dumps(codes),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd="/",
            **options,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
    finally:
        shutil.rmtree(home)
    told["answers"] = dict(zip([*CODES, *ALLOWED], told["answers"], strict=True))
    return told


@needs_landlock
@pytest.mark.parametrize("what", [what for what in CODES if what != "itself"])
def test_it_is_refused(told: dict[str, Any], what: str) -> None:
    assert is_refused(told["answers"][what]), told["answers"][what]


@pytest.mark.parametrize("what", ALLOWED)
def test_it_is_allowed(told: dict[str, Any], what: str) -> None:
    assert isinstance(told["answers"][what], int), told["answers"][what]
    assert told["answers"][what] >= 1


def test_nothing_is_left_and_what_cannot_be_held_is_said(told: dict[str, Any]) -> None:
    assert told["answers"]["itself"] == (USER if os.geteuid() == 0 else os.getuid())
    assert told["answers"]["daemon"] in told["before"]
    if os.geteuid() == 0:
        assert told["after"] == []
    assert told["files"] == []
    assert not Path("/dev/shm/havre-left").exists()
    assert [note for note in told["notes"] if "memory is not enforced" in note]
