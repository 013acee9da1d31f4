"""What wheels, builds, packs and tried artifacts try, as whom, and what comes of it.

They are harmless: each tries one thing, and says whether it could.
"""

import gzip
import io
import json
import os
import shutil
import socket
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.harness import is_refused, needs_landlock
from tests.hostile.model import DAEMON
from tests.support.packs import make_pack, movable
from tests.support.supervisor_harness import open_interpreter

from havre.domain.errors import EnvironmentFault
from havre.domain.instance import CheckRequest
from havre.domain.workload import PythonWorkload
from havre.engines.trial import started
from havre.engines.variables import model_variables
from havre.environments import Environments, unpacking
from havre.environments.definition import EnvironmentDefinition
from havre.environments.libraries import lent_variables
from havre.environments.machine_pythons import Interpreters
from havre.environments.resolve import Resolution
from havre.environments.unpacking import unpacker_files
from havre.home import Home
from havre.settings import load_settings
from havre.supervisor.reach import obstacle
from havre.unprivileged import why_not_separate_users

HERE = "{}.{}".format(*sys.version_info[:2])
LIMIT_S = 120.0


@pytest.fixture
def environments(home: Home) -> Environments:
    return Environments(home, load_settings(home.root, environ={}))


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here needs one."""
    monkeypatch.setenv("UV_OFFLINE", "1")


def wheel(files: dict[str, str]) -> bytes:
    info = "mylib-1.0.dist-info"
    files = {
        "mylib.py": "x = 1\n",
        **files,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: mylib\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    named = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": named}.items():
            archive.writestr(name, text)
    return written.getvalue()


class TestWheels:
    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"mylib-1.0.data/data/pyvenv.cfg": "home = /tmp\n"}, r"changed pyvenv\.cfg"),
            ({"mylib-1.0.data/data/bin/python9": "#!/bin/sh\n"}, "a Python of its own"),
            ({"mylib-1.0.data/data/conda-meta/x": ""}, "brings conda-meta"),
            (
                {"mylib-1.0.data/data/havre-environment.json": "{}"},
                r"havre-environment\.json, which only havre writes",
            ),
            ({"mylib-1.0.data/data/elsewhere/x": ""}, "brings elsewhere"),
        ],
        ids=["configuration", "python", "sign", "marker", "elsewhere"],
    )
    def test_what_does_not_belong_refuses_the_environment(
        self,
        environments: Environments,
        home: Home,
        tmp_path: Path,
        files: dict[str, str],
        said: str,
    ) -> None:
        file = tmp_path / "mylib-1.0-py3-none-any.whl"
        file.write_bytes(wheel(files))
        definition = EnvironmentDefinition("hostile", HERE, (str(file),))
        with pytest.raises(EnvironmentFault, match=said):
            environments.ensure(Resolution(definition), print)
        assert list((home.environments / "built").iterdir()) == []


TRIES_ALL = """
def tries(act):
    try:
        act()
    except OSError as error:
        return "%s: %s" % (type(error).__name__, error)
    return "done"
"""
BACKEND = (
    TRIES_ALL
    + """
import os, pathlib, zipfile
def build_wheel(folder, settings=None, metadata=None):
    told = {
        "uid": os.getuid(),
        "write": tries(lambda: open("@OUTSIDE@", "w")),
        "read": tries(lambda: open("@SECRET@").read()),
    }
    content = pathlib.Path("mylib.zip").read_bytes()
    name = "mylib-1.0-py3-none-any.whl"
    pathlib.Path(folder, name).write_bytes(content)
    with zipfile.ZipFile(pathlib.Path(folder, name), "a") as archive:
        archive.writestr("told.py", "told = %r\\n" % told)
    return name
"""
)
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "mylib"
version = "1.0"
"""


class TestBuilds:
    def test_what_is_compiled_runs_as_nobody_of_ours(
        self, environments: Environments, home: Home
    ) -> None:
        home.database.write_text("secret")
        outside = home.environments / "outside"
        backend = BACKEND.replace("@OUTSIDE@", str(outside)).replace("@SECRET@", str(home.database))
        files = {
            "pyproject.toml": PROJECT.encode(),
            "backend.py": backend.encode(),
            "PKG-INFO": b"Metadata-Version: 2.1\nName: mylib\nVersion: 1.0\n",
            "mylib.zip": wheel({}),
        }
        source = home.environments / "files" / "mylib-1.0.tar.gz"
        source.parent.mkdir()
        source.parent.chmod(0o755)
        with tarfile.open(source, "w:gz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"mylib-1.0/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        source.chmod(0o644)
        definition = EnvironmentDefinition("made", HERE, (str(source),), "", wheels_only=False)
        said: list[str] = []
        built = environments.ensure(Resolution(definition), said.append)
        assert "not all of it is there ready-made: packages are compiled" in said
        text = next(built.prefix.glob("lib/python3.*/site-packages/told.py")).read_text()
        told: dict[str, Any] = {}
        exec(text, told)
        if os.geteuid() == 0 and not any("without its powers" in line for line in said):
            assert told["told"]["uid"] not in (0, os.getuid())
        assert is_refused(told["told"]["write"])
        assert is_refused(told["told"]["read"])
        assert not outside.exists()
        owners = {path.lstat().st_uid for path in built.prefix.rglob("*")}
        assert owners == {os.geteuid()}
        assert not (built.prefix / ".build").exists()


PROGRAM = (
    TRIES_ALL
    + """
import json, os
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
told = {
    "uid": os.getuid(),
    "write": tries(lambda: open("@OUTSIDE@", "w")),
    "read": tries(lambda: open("@SECRET@").read()),
}
with open(HERE + "/told.json", "w") as file:
    json.dump(told, file)
"""
)


@pytest.fixture(scope="module")
def real_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a Python that runs, not compressed: entries can be added."""
    folder = tmp_path_factory.mktemp("pack")
    found = movable(Interpreters([]), folder / "copies")
    if found is None:
        pytest.skip("no Python of this machine runs from another folder")
    make_pack(found, folder / "packed")
    with gzip.open(folder / "packed") as packed, (folder / "plain").open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    return folder / "plain"


UNPACKER = (
    TRIES_ALL
    + """
import json, os, socket, subprocess, sys
told = {
    "uid": os.getuid(),
    "write": tries(lambda: open("@OUTSIDE@", "w")),
    "read": tries(lambda: open("@SECRET@").read()),
    "socket": tries(lambda: socket.socket(socket.AF_INET).connect(("127.0.0.1", 9))),
    "run": tries(lambda: open(sys.argv[1] + "/havre/left", "w")),
}
open(sys.argv[2], "rb").read()
with open(sys.argv[5], "w") as outcome:
    json.dump({"fault": "it was told to stop: " + json.dumps(told)}, outcome)
"""
)


class TestPacks:
    def pack(self, home: Home, entries: dict[str, str]) -> Path:
        path = home.root / "pack.tar"
        with tarfile.open(path, "w") as archive:
            for name, text in entries.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(text.encode()), 0o755
                archive.addfile(entry, io.BytesIO(text.encode()))
        return path

    def with_program(self, home: Home, real_pack: Path, program: str) -> Path:
        path = home.root / "pack.tar"
        shutil.copyfile(real_pack, path)
        with tarfile.open(path, "a") as archive:
            entry = tarfile.TarInfo("bin/conda-unpack")
            entry.size, entry.mode = len(program.encode()), 0o755
            archive.addfile(entry, io.BytesIO(program.encode()))
        return path

    @needs_landlock
    def test_its_programs_run_as_nobody_of_ours(
        self, environments: Environments, home: Home, real_pack: Path
    ) -> None:
        home.database.write_text("secret")
        outside = home.environments / "outside"
        program = PROGRAM.replace("@OUTSIDE@", str(outside)).replace("@SECRET@", str(home.database))
        pack = self.with_program(home, real_pack, program)
        built = environments.publish_pack("mine", pack, progress=print)
        told = json.loads((built.prefix / "told.json").read_text())
        assert is_refused(told["write"])
        assert is_refused(told["read"])
        if not why_not_separate_users():
            assert told["uid"] not in (0, os.getuid())
        assert not outside.exists()
        assert (built.prefix / "told.json").stat().st_uid == os.geteuid()

    @needs_landlock
    def test_what_reads_its_archive_can_do_nothing_else(
        self, environments: Environments, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As if the archive had made it run what it likes."""
        home.database.write_text("secret")
        outside = home.environments / "outside"
        tries = UNPACKER.replace("@OUTSIDE@", str(outside)).replace("@SECRET@", str(home.database))
        monkeypatch.setattr(unpacking, "_PROGRAM", tries)
        with pytest.raises(EnvironmentFault, match="was told to stop") as failed:
            environments.publish_pack("mine", self.pack(home, {"bin/python": ""}), progress=print)
        told = json.loads(str(failed.value).partition("stop: ")[2])
        for attempt in ("write", "read", "socket", "run"):
            assert is_refused(told[attempt]), attempt
        if not why_not_separate_users() and not obstacle([home.environments], unpacker_files()):
            assert told["uid"] not in (0, os.getuid())
        assert not outside.exists()
        assert list((home.environments / "built").iterdir()) == []

    def test_one_that_is_never_read_is_given_up(
        self, environments: Environments, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(unpacking, "STALL_LIMIT_S", 0.5)
        monkeypatch.setattr(unpacking, "_PROGRAM", "import time; time.sleep(600)")
        with pytest.raises(EnvironmentFault, match="did not end within"):
            environments.publish_pack("mine", self.pack(home, {"bin/python": ""}), progress=print)
        keeps = "import sys, time; kept = open(sys.argv[2], 'rb'); time.sleep(600)"
        monkeypatch.setattr(unpacking, "_PROGRAM", keeps)
        opened = unpacking._opened

        def patiently_opened(*arguments: Any) -> int | None:
            """It has begun to read, however long that took: only then it stands still."""
            with monkeypatch.context() as patch:
                patch.setattr(unpacking, "STALL_LIMIT_S", LIMIT_S)
                return opened(*arguments)

        monkeypatch.setattr(unpacking, "_opened", patiently_opened)
        long = self.pack(home, {"bin/python": "x" * (1 << 22)})
        with pytest.raises(EnvironmentFault, match="stood still for"):
            environments.publish_pack("mine", long, progress=print)

    def test_a_full_disk_is_no_fault_of_the_pack(
        self, environments: Environments, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        monkeypatch.setattr(unpacking, "_PROGRAM", small + unpacking._PROGRAM)
        long = self.pack(home, {"bin/python": "x" * 5000})
        with pytest.raises(EnvironmentFault, match=r"could not be unpacked .* is full, or a quota"):
            environments.publish_pack("mine", long, progress=print)

    @pytest.mark.parametrize(
        ("does", "said"),
        [
            ("os.symlink('/etc', HERE + '/way-out')", "way-out is a link out of it"),
            ("open(HERE + '/havre-environment.json', 'w').write('{}')", "which only havre writes"),
            ("os.mkfifo(HERE + '/pipe')", "pipe is a special file"),
        ],
    )
    def test_what_its_programs_leave_refuses_it(
        self, environments: Environments, home: Home, real_pack: Path, does: str, said: str
    ) -> None:
        pack = self.with_program(home, real_pack, f"{PROGRAM}\n{does}\n")
        with pytest.raises(EnvironmentFault, match=said):
            environments.publish_pack("mine", pack, progress=print)
        assert list((home.environments / "built").iterdir()) == []

    def test_one_whose_python_is_elsewhere_is_refused(
        self, environments: Environments, home: Home
    ) -> None:
        pack = self.pack(home, {"bin/python": "", "pyvenv.cfg": "home = /root/x/bin\n"})
        with pytest.raises(EnvironmentFault, match="a virtual environment, whose Python"):
            environments.publish_pack("mine", pack, progress=print)


SCORE = """
import os, socket
def load_model():
    return {}
def tries(code):
    told = {}
    try:
        exec(code, told)
    except OSError as error:
        return "%s: %s" % (type(error).__name__, error)
    return told.get("answer", "done")
def predict(data, model=load_model()):
    return {"prediction": [tries(code) for code in data]}
"""
TRIES = {
    "database": "open('{home}/havre.sqlite3').read()",
    "shadow": "open('/etc/shadow').read()",
    "home": "open('{home}/left', 'w')",
    "artifact": "open('{artifact}/score.py', 'a')",
    "supervisor": (
        "import socket; socket.socket(socket.AF_UNIX).connect('{home}/run/supervisor.sock')"
    ),
    "port": "import socket; socket.create_connection(('127.0.0.1', {port}))",
    "signal": "import os; os.kill({pid}, 0)",
}


@needs_landlock
def test_a_tried_artifact_is_confined_and_nothing_of_it_stays(home: Home) -> None:
    home.database.write_text("secret")
    artifact = home.root / "artifact"  # a folder of ours, as who tries a stranger's has it
    artifact.mkdir(mode=0o700)
    (artifact / "score.py").write_text(SCORE)
    interpreter = open_interpreter()
    workload = PythonWorkload(interpreter, "3.11.0", artifact)
    variables = model_variables(
        deployment_id="mine",
        tenancy_id="mine",
        workload=workload,
        user={},
        lent=lent_variables(interpreter),
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as supervisor,
    ):
        port = server.getsockname()[1]
        home.server_file.write_text(json.dumps({"host": "127.0.0.1", "port": port, "url": ""}))
        supervisor.bind(str(home.supervisor_socket))
        supervisor.listen()
        known = {"home": home.root, "port": port, "pid": os.getpid(), "artifact": artifact}
        codes = [code.format(**known) for code in TRIES.values()]
        codes += ["import os; answer = os.getuid()", DAEMON]
        codes.append(
            "answer = [l for l in open('/proc/self/status') if l.startswith('CapEff')][0][8:]"
        )
        with started(workload, home, variables=variables, limit_s=LIMIT_S) as trial:
            assert trial.failure() == "", trial.log_tail()
            body = json.dumps(codes).encode()
            answer = trial.predict(CheckRequest(body, "application/json"))
            assert answer.status == 200, (answer, trial.log_tail())
    *tried, uid, daemon, capabilities = json.loads(answer.body)["prediction"]
    for what, told in zip(TRIES, tried, strict=True):
        assert is_refused(told), (what, told)
    assert isinstance(daemon, int)
    assert not Path(f"/proc/{daemon}").exists()
    assert int(capabilities, 16) == 0
    if os.geteuid() == 0:
        assert uid not in (0, os.getuid())
    assert (artifact / "score.py").read_text() == SCORE
