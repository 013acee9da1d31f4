"""What a hostile model cannot do, tried with real instances."""

import os
import pwd
import socket
from pathlib import Path

import pytest
from tests.hostile.harness import IsolationHarness, Model, is_refused, needs_landlock, needs_root
from tests.support.supervisor_harness import SupervisorHarness

from havre.domain.states import InstancePhase
from havre.supervisor import seccomp
from havre.unprivileged import group_of, may_change_mounts, user_of, why_not_separate_users


@pytest.fixture
def isolation(harness: SupervisorHarness) -> IsolationHarness:
    return IsolationHarness(harness)


@pytest.fixture(params=["another user", "the same user"])
def model(isolation: IsolationHarness, request: pytest.FixtureRequest) -> Model:
    """Once as it runs when everything is in order, once when its environment is out of reach."""
    if request.param == "another user":
        return isolation.run("a")
    isolation.permit(models_as_root="allowed")
    return isolation.run("a", interpreter=isolation.closed_interpreter(is_leaf=True))


@needs_landlock
def test_files_of_the_server_and_of_others_are_out_of_reach(
    isolation: IsolationHarness, model: Model
) -> None:
    home = isolation.home
    for path in (home.database, home.keys / "key.pem", home.artifacts / "abc"):
        path.write_text("secret")
        path.chmod(0o644)  # the worst case: only its folder protects it
    other = isolation.run("b")
    secrets = [
        home.database,
        home.keys / "key.pem",
        home.artifacts / "abc",
        home.server_file,
        home.processes / "i-bbbbbbbbbbbb.json",
        home.logs / "supervisor.log",
        home.logs / "instances" / "bbbbbbbbbbbb.log",
        other.spec.workload.artifact / "score.py",
        other.folder / "spec.json",
        other.folder / "state" / "state.json",
        Path(f"/proc/{other.status.pid}/environ"),
        Path(f"/proc/{other.status.pid}/mem"),
        Path(f"/proc/{os.getpid()}/environ"),
    ]
    for path in secrets:
        assert path.exists()
        assert is_refused(model.does(f"answer = open({str(path)!r}, 'rb').read(9).hex()")), path
    for folder in (home.root, home.instances, home.unpacked, home.run, home.instance_sockets):
        answer = model.does(f"import os; answer = os.listdir({str(folder)!r})")
        assert is_refused(answer) or answer == [], folder
    own = model.does(f"answer = open({str(model.spec.workload.artifact / 'score.py')!r}).read()")
    assert "exec" in own


@needs_landlock
def test_only_its_own_folders_can_be_written(isolation: IsolationHarness, model: Model) -> None:
    environment = isolation.home.environments / "built"
    environment.mkdir(mode=0o777)
    environment.chmod(0o777)
    artifact = model.spec.workload.artifact
    artifact.chmod(0o777)
    for folder in (artifact, environment, isolation.home.root, isolation.home.run, "/", "/etc"):
        answer = model.does(f"answer = open({str(Path(folder) / 'left')!r}, 'w').close()")
        assert is_refused(answer), folder
    for change in (
        f"import os; os.remove({str(artifact / 'score.py')!r})",
        f"import os; os.truncate({str(artifact / 'score.py')!r}, 0)",
        f"import os; os.rename({str(artifact / 'score.py')!r}, 'score.py')",
        f"import os; os.remove({str(model.folder / 'spec.json')!r})",
    ):
        assert is_refused(model.does(change)), change
    for folder in ("os.environ['HOME']", "os.environ['TMPDIR']", "'.'", "'/dev/shm'"):
        code = f"import os, tempfile; tempfile.mkstemp(dir={folder}); answer = 1"
        assert model.does(code) == 1, folder


@needs_landlock
def test_the_server_cannot_be_called(isolation: IsolationHarness, model: Model) -> None:
    number = int(isolation.supervised.server()["port"])  # type: ignore[call-overload]
    with socket.socket() as server, socket.socket() as elsewhere:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", number))  # the supervisor holds it for the load balancer
        server.listen()
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.listen()
        code = "import socket; s = socket.socket({}); s.{}; answer = 'reached'"
        address = ("127.0.0.1", number)
        assert is_refused(model.does(code.format("", f"connect({address})")))
        assert is_refused(model.does(code.format("2, 1, 262", f"connect({address})")))
        assert is_refused(model.does(code.format("43, 1, 0", f"connect({address})")))
        assert is_refused(model.does(code.format("", f"sendto(b'x', 0x20000000, {address})")))
        reuse = f"setsockopt({socket.SOL_SOCKET}, {socket.SO_REUSEPORT}, 1); s.bind({address})"
        assert is_refused(model.does(code.format("", reuse)))
        open_door = elsewhere.getsockname()
        assert model.does(code.format("", f"connect({open_door})")) == "reached"
    for path in (isolation.home.supervisor_socket, model.status.address.path):
        assert path.is_socket()
        connect = f"connect({str(path)!r})"
        assert is_refused(model.does(code.format("socket.AF_UNIX", connect))), path


@needs_landlock
def test_other_processes_cannot_be_touched(isolation: IsolationHarness, model: Model) -> None:
    other = isolation.run("b")
    supervisor = isolation.supervised.server()["supervisor"]["pid"]  # type: ignore[index]
    attach = "import ctypes; answer = ctypes.CDLL(None).ptrace(16, {}, 0, 0)"
    for pid in (other.status.pid, supervisor, os.getpid()):
        assert is_refused(model.does(f"import os; os.kill({pid}, 0); answer = 'signalled'"))
        assert model.does(attach.format(pid)) == -1
    assert model.does("import os; os.kill(os.getppid(), 0); answer = 1") == 1, "its own keeper"


def test_privileges_are_gone(isolation: IsolationHarness, model: Model) -> None:
    lines = model.does("answer = open('/proc/self/status').read()").splitlines()
    told = dict(line.split(":\t", 1) for line in lines)
    assert told["NoNewPrivs"] == "1"
    if seccomp.is_known_here():
        assert told["Seccomp"] == "2"
    beyond_files = int(told["CapBnd"], 16) & ~2 if os.geteuid() == 0 else 0
    assert beyond_files == 0
    assert model.does("import resource; answer = resource.getrlimit(4)") == [0, 0], "no core files"


@needs_root
def test_each_deployment_is_a_user_of_its_own(isolation: IsolationHarness) -> None:
    first, second = isolation.run("a"), isolation.run("b")
    who = "import os; answer = [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]"
    for model in (first, second):
        number = user_of(model.spec.deployment_id)
        groups = [group_of(model.spec.workload.artifact.name)]
        assert model.does(who) == [number, number, number, groups]
        assert "setuid" not in model.log()
    assert first.does(who) != second.does(who)
    assert not [note for note in first.status.notes if "root" in note]
    assert "1000" in first.does("answer = open('/proc/self/oom_score_adj').read()")


@needs_root
def test_no_model_runs_as_root_that_could_have_a_user(isolation: IsolationHarness) -> None:
    interpreter = isolation.closed_interpreter(is_leaf=True)
    spec = isolation.spec("a", interpreter=interpreter)
    isolation.engine.start(spec)
    refused = isolation.engine.inspect(spec.id)
    assert refused.phase is InstancePhase.FAILED
    assert str(interpreter.parents[1]) in refused.reason
    assert "models_as_root" in refused.reason
    isolation.permit(models_as_root="allowed")
    model = isolation.run("a", interpreter=interpreter)
    assert model.does("import os; answer = os.getuid()") == 0
    notes = [note for note in model.status.notes if str(interpreter.parents[1]) in note]
    assert len(notes) == 1
    assert "root" in notes[0]


@needs_root
@pytest.mark.skipif(not may_change_mounts(), reason="needs the right to change mounts")
def test_a_view_leads_through_closed_folders_to_what_is_needed_alone(
    isolation: IsolationHarness,
) -> None:
    interpreter = isolation.closed_interpreter()
    closed = interpreter.parents[2]
    (closed / "secret").write_text("secret")
    (closed / "secret").chmod(0o644)
    model = isolation.run("a", interpreter=interpreter)
    assert model.does("import os; answer = os.getuid()") == user_of(model.spec.deployment_id)
    assert model.does("import sys; answer = sys.executable") == str(interpreter)
    assert not [note for note in model.status.notes if "root" in note]
    assert is_refused(model.does(f"answer = open({str(closed / 'secret')!r}).read()"))
    assert is_refused(model.does(f"import os; answer = os.listdir({str(closed)!r})"))
    isolation.engine.stop(model.spec.id)
    assert (closed / "secret").read_text() == "secret"
    assert not model.folder.exists()


@needs_root
@pytest.mark.skipif(not may_change_mounts(), reason="needs the right to change mounts")
def test_a_whole_home_in_a_closed_folder_serves(isolation: IsolationHarness) -> None:
    isolation.home.root.chmod(0o700)
    model = isolation.run("a")
    assert model.does("import os; answer = os.getuid()") == user_of(model.spec.deployment_id)
    assert model.does("import os; open('x', 'w').write('x'); answer = os.listdir('.')") == ["x"]
    assert (model.folder / "home" / "x").exists()


def test_environment_variables_are_those_listed_and_its_own_folders(
    isolation: IsolationHarness,
) -> None:
    model = isolation.run("a")
    told = model.does("import os; answer = dict(os.environ)")
    told.pop("LC_CTYPE", None)
    has_own_user = not why_not_separate_users()
    name = "model" if has_own_user else pwd.getpwuid(os.geteuid()).pw_name
    assert told == {
        **model.spec.variables,
        "HOME": str(model.folder / "home"),
        "TMPDIR": str(model.folder / "tmp"),
        "USER": name,
        "LOGNAME": name,
        "JAVA_TOOL_OPTIONS": (
            f'-Djava.io.tmpdir="{model.folder}/tmp" -Duser.home="{model.folder}/home"'
        ),
    }
