"""Foreign code that havre itself runs: what it can reach, and what is left of it."""

import os
import socket
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.harness import has_private_view, needs_landlock, needs_root
from tests.support.supervisor_harness import open_interpreter, wait_until

from havre.environments.confinement import Enclosure
from havre.environments.machine_pythons import version_of
from havre.home import Home
from havre.supervisor.confined import Confined, started
from havre.supervisor.protocol import Confinement, ProcessSpec, User
from havre.supervisor.spawn import SpawnFault
from havre.unprivileged import user_of

LIMIT_S = 30.0


def running(home: Home, *code: str, **ports: Any) -> AbstractContextManager[Confined]:
    """``ports``: what is said of them in the confinement; by default all are closed."""
    spec = ProcessSpec(
        name="test",
        argv=(str(open_interpreter()), "-I", "-S", "-c", "\n".join(code)),
        environment={},
        folder="/",
        log=str(home.root / "log"),
        stop_grace_s=0.0,
        confinement=Confinement(
            readable=("/",), writable=(str(home.root),), **(ports or {"network": False})
        ),
    )
    return started(spec, home)


def runs(home: Home, *code: str, **ports: Any) -> int | None:
    with running(home, *code, **ports) as program:
        return program.wait(LIMIT_S)


def lives(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("ports", [{"closed_ports": (9,)}, {"network": False}], ids=str)
def test_files_and_folders_move_from_one_folder_to_another(home: Home, ports: Any) -> None:
    """Rules about ports alone forbid it to Landlock's mind. uv does it with what it downloads."""
    move = [
        "import os",
        f"os.chdir({str(home.root)!r})",
        "os.makedirs('a/b'); os.makedirs('c')",
        "open('a/b/file', 'w').close()",
        "os.rename('a/b/file', 'c/file'); os.link('c/file', 'a/linked'); os.rename('a/b', 'c/b')",
    ]
    assert runs(home, *move, **ports) == 0, (home.root / "log").read_text()


DAEMON = (
    "import os, sys, time",
    "if os.fork() == 0:",
    "    os.setsid()",
    "    if os.fork() == 0:",
    "        os.closerange(0, 9)",
    "        open('{pid}', 'w').write(str(os.getpid()))",
    "        os.rename('{pid}', '{pid}.there')",
    "        time.sleep(600)",
    "    os._exit(0)",
    "while not os.path.exists('{pid}.there'): time.sleep(0.01)",
)


class TestEnding:
    def test_a_daemon_does_not_outlive_the_program(self, home: Home) -> None:
        pid = home.root / "pid"
        assert runs(home, *(line.format(pid=pid) for line in DAEMON), "sys.exit(7)") == 7
        assert not lives(int(Path(f"{pid}.there").read_text()))

    def test_nor_does_it_when_it_is_stopped(self, home: Home) -> None:
        pid = home.root / "pid"
        lines = [line.format(pid=pid) for line in DAEMON]
        with running(home, *lines, "time.sleep(600)") as program:
            there = Path(f"{pid}.there")
            wait_until(there.exists, "the daemon")
            assert program.wait(0.0) is None
        assert not lives(int(there.read_text()))

    def test_all_of_it_ends_when_who_asked_is_killed(self, home: Home) -> None:
        pid = home.root / "pid"
        lines = [line.format(pid=pid) for line in DAEMON]
        asking = os.fork()
        if asking == 0:
            try:
                runs(home, *lines, "time.sleep(600)")
            finally:
                os._exit(0)
        there = Path(f"{pid}.there")
        wait_until(there.exists, "the daemon")
        os.kill(asking, 9)
        os.waitpid(asking, 0)
        wait_until(lambda: not lives(int(there.read_text())), "its end")

    def test_what_it_writes_may_be_read_by_others_whatever_our_umask(self, home: Home) -> None:
        before = os.umask(0o077)
        try:
            assert runs(home, f"open({str(home.root / 'written')!r}, 'w')") == 0
        finally:
            os.umask(before)
        assert (home.root / "written").stat().st_mode & 0o777 == 0o644

    def test_what_cannot_be_started_says_so(self, home: Home) -> None:
        spec = ProcessSpec("test", ("/nowhere/at/all",), {}, "/", str(home.root / "log"))
        with pytest.raises(SpawnFault, match="executing /nowhere/at/all"), started(spec, home):
            pass


def asked(home: Home, code: str) -> str:
    """What an environment's own Python may do: it prints ``said``."""
    tried = f"try:\n    {code}\nexcept OSError:\n    said = 'refused'"
    script = f"said = 'nothing'\n{tried}\nprint(said)"
    return Enclosure(home).ask(open_interpreter(), script)


class TestAsking:
    def test_it_is_asked_its_version(self, home: Home) -> None:
        assert version_of(Enclosure(home), open_interpreter()).startswith("3.")
        assert version_of(Enclosure(home), Path("/bin/false")) == ""
        assert version_of(Enclosure(home), Path("/nowhere")) == ""

    @needs_root
    def test_it_is_not_root(self, home: Home) -> None:
        assert int(asked(home, "import os; said = os.getuid()")) not in (0, os.getuid())
        code = "said = [l for l in open('/proc/self/status') if l.startswith('CapEff')][0][8:]"
        assert int(asked(home, code), 16) == 0

    @needs_landlock
    @pytest.mark.parametrize(
        "code",
        [
            "open('/etc/shadow').read()",
            "open('{home}/havre.sqlite3').read()",
            "open('{home}/environments/left', 'w')",
            "open('/tmp/havre-left', 'w')",
            "import socket; socket.create_connection(('127.0.0.1', {port}))",
            "import socket; socket.socket(socket.AF_UNIX).connect('{home}/run/supervisor.sock')",
            "import os; os.kill({pid}, 0)",
        ],
    )
    def test_it_is_refused(self, home: Home, code: str) -> None:
        home.database.write_text("secret")
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.socket(socket.AF_UNIX) as sock,
        ):
            sock.bind(str(home.supervisor_socket))
            sock.listen()
            port = server.getsockname()[1]
            filled = code.format(home=home.root, port=port, pid=os.getpid())
            if "shadow" in code and os.geteuid() != 0:
                pytest.skip("only root could read it")
            assert asked(home, filled) == "refused"


@needs_root
@pytest.mark.skipif(not has_private_view(), reason="needs a view of its own")
def test_the_user_of_a_model_has_an_account(home: Home) -> None:
    """Found by Python, by whoever asks for a file's owner, and by programs."""
    number = user_of("ocid1.test")
    own = home.root / "own"
    own.mkdir()
    home.root.chmod(0o711)
    os.chown(own, number, number)
    code = (
        "import os, pathlib, pwd, grp, subprocess",
        "me = pwd.getpwuid(os.getuid())",
        "pathlib.Path('mine').touch()",
        "mine = pathlib.Path('mine')",
        "print(me.pw_name, me.pw_dir, mine.owner(), mine.group(), pwd.getpwuid(0).pw_name)",
        "print(subprocess.check_output(['whoami'], text=True).strip(), os.listdir('/dev/shm'))",
        "try: open('/etc/passwd', 'a')",
        "except OSError as error: print('refused')",
    )
    spec = ProcessSpec(
        name="test",
        argv=(str(open_interpreter()), "-I", "-S", "-u", "-c", "\n".join(code)),
        environment={"PATH": os.defpath},
        folder=str(own),
        log=str(home.root / "log"),
        stop_grace_s=0.0,
        confinement=Confinement(
            user=User(number, number), readable=("/",), writable=(str(own),), temporary=str(own)
        ),
    )
    with started(spec, home) as program:
        assert program.wait(LIMIT_S) == 0, (home.root / "log").read_text()
    assert (home.root / "log").read_text().splitlines() == [
        f"model {own} model model root",
        "model []",
        "refused",
    ]
    assert "\nmodel:" not in Path("/etc/passwd").read_text()
