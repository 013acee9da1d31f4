"""Packs: published, looked up, killed while they are unpacked, exported again. No network."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.support.packs import make_pack, movable

from havre.domain.errors import Conflict, EnvironmentFault, InvalidParameter
from havre.domain.manifest import RuntimeManifest
from havre.environments import Environments
from havre.environments.machine_pythons import Interpreter, Interpreters
from havre.environments.object_store import ObjectStore
from havre.environments.reachable import ReachableInterpreters
from havre.home import Home
from havre.settings import load_settings
from havre.unprivileged import unreachable_part

KILLS = 20
MAX_KILLS = 200
ADDRESS = "oci://bucket@ns/conda_environments/cpu/My env/1.0/my_env_v1"


@dataclass(frozen=True)
class Pack:
    path: Path
    interpreter: Interpreter


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("pack")
    found = movable(Interpreters([]), folder / "copies")
    shutil.rmtree(folder / "copies", ignore_errors=True)
    if found is None:
        pytest.skip("no Python of this machine runs from another folder")
    make_pack(found, folder / "my_env_v1")
    return Pack(folder / "my_env_v1", found)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def environments(home: Home) -> Environments:
    return Environments(home, load_settings(home.root, environ={}))


def says(interpreter: Path, code: str) -> str:
    return subprocess.check_output([interpreter, "-I", "-c", code], text=True).strip()


class TestPublishing:
    def test_a_pack_is_relocated_and_runs_with_its_own_interpreter(
        self, environments: Environments, pack: Pack, tmp_path: Path
    ) -> None:
        told: list[str] = []
        built = environments.publish_pack("mine", pack.path, progress=told.append)
        assert built.python_version == pack.interpreter.version
        assert says(built.interpreter, "import packed, sys; print(packed.x, sys.prefix)") == (
            f"from the pack {built.prefix}"
        )
        settings = (built.prefix / "etc/settings.conf").read_text()
        assert settings == f"folder = {built.prefix}/share\n"
        assert any(line.startswith("unpacking mine: ") for line in told)
        chosen = environments.resolve(RuntimeManifest("mine", "published"), tmp_path)
        told.clear()
        assert environments.ensure(chosen, told.append) == built
        assert told == []
        row = environments.show("mine")
        assert (row.kind, row.python) == ("pack", pack.interpreter.python)

    def test_another_python_than_stated_is_refused(
        self, environments: Environments, pack: Pack
    ) -> None:
        with pytest.raises(InvalidParameter, match=r"has Python 3\..*, not 3\.6"):
            environments.publish_pack("mine", pack.path, python="3.6", progress=print)
        assert {row.kind for row in environments.list() if row.slug == "mine"} == {"earlier"}

    @pytest.mark.parametrize("content", [b"", b"no archive" * 100])
    def test_what_is_no_pack_says_so_and_leaves_nothing(
        self, environments: Environments, home: Home, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(EnvironmentFault, match=r"the pack of mine .* cannot be used"):
            environments.publish_pack("mine", tmp_path / "broken", progress=print)
        assert list((home.environments / "built").iterdir()) == []

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            pytest.param(lambda stage: shutil.rmtree(stage / "bin"), "so it is no environment"),
            pytest.param(
                lambda stage: shutil.rmtree(stage / "lib"), "its Python does not start", id="no lib"
            ),
            pytest.param(
                lambda stage: (stage / "bin/conda-unpack").write_text("import sys; sys.exit(1)"),
                "its bin/conda-unpack failed",
            ),
        ],
    )
    def test_a_pack_that_cannot_serve_says_what_is_wrong_with_it(
        self,
        environments: Environments,
        pack: Pack,
        tmp_path: Path,
        change: Callable[[Path], object],
        told: str,
    ) -> None:
        stage = tmp_path / "stage"
        with tarfile.open(pack.path) as archive:
            archive.extractall(stage, filter="fully_trusted")
        change(stage)
        with tarfile.open(tmp_path / "changed", "w:gz", compresslevel=1) as archive:
            for path in sorted(stage.iterdir()):
                archive.add(path, arcname=path.name)
        with pytest.raises(EnvironmentFault) as raised:
            environments.publish_pack("mine", tmp_path / "changed", progress=print)
        assert told in raised.value.message, raised.value.message

    def test_it_is_unpacked_again_from_the_same_archive_only(
        self, environments: Environments, pack: Pack, tmp_path: Path
    ) -> None:
        archive = tmp_path / "archive"
        shutil.copyfile(pack.path, archive)
        built = environments.publish_pack("mine", archive, progress=print)
        (built.prefix / "bin/python").unlink()
        assert environments.build("mine", print) == built
        assert says(built.interpreter, "print('runs')") == "runs"
        (built.prefix / "bin/python").unlink()
        with archive.open("ab") as file:
            file.write(b"more")
        with pytest.raises(EnvironmentFault, match="another one now: publish it again"):
            environments.build("mine", print)


class TestObjectStore:
    def test_a_pack_is_found_by_its_path_and_its_python_is_checked(
        self, environments: Environments, home: Home, pack: Pack, tmp_path: Path
    ) -> None:
        place = home.root / "objects/ns/bucket/conda_environments/cpu/My env/1.0"
        place.mkdir(parents=True)
        shutil.copyfile(pack.path, place / "my_env_v1")
        own = pack.interpreter.python
        chosen = environments.resolve(
            RuntimeManifest("envslug", "published", ADDRESS, own), tmp_path
        )
        built = environments.ensure(chosen, print)
        assert says(built.interpreter, "import packed; print(packed.x)") == "from the pack"
        assert environments.show("my_env_v1").kind == "object"
        other = environments.resolve(
            RuntimeManifest("envslug", "published", ADDRESS, "3.99"), tmp_path
        )
        with pytest.raises(EnvironmentFault, match=r"asks for Python 3\.99 .* has Python 3"):
            environments.ensure(other, print)

    def test_a_pack_that_is_nowhere_says_where_it_was_looked_for(
        self, environments: Environments, tmp_path: Path
    ) -> None:
        with pytest.raises(EnvironmentFault, match="neither here nor in the object store"):
            environments.resolve(RuntimeManifest("envslug", "published", ADDRESS), tmp_path)

    @pytest.mark.parametrize("keys", [False, True], ids=["unsigned", "signed"])
    def test_a_service_that_speaks_s3_is_asked_by_bucket_and_namespace(
        self, monkeypatch: pytest.MonkeyPatch, keys: bool
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
            if keys:
                monkeypatch.setenv(name, "of-a-test")
        content = os.urandom(3_000_000)
        with s3({"/ns/bucket/conda_environments/cpu/My%20env/1.0/my_env_v1": content}) as service:
            store = ObjectStore(service.url + "/{namespace}", ["ns/*"])
            found = store.find(ADDRESS)
            assert found is not None
            assert found.size == len(content)
            with store.open(ADDRESS) as file:
                assert b"".join(iter(lambda: file.read(100_000), b"")) == content
            assert store.find("oci://bucket@ns/nothing") is None
            assert {bool(each) for each in service.signatures} == {keys}
        with pytest.raises(EnvironmentFault, match="cannot be looked up in the object store"):
            store.find(ADDRESS)


@dataclass
class Service:
    url: str
    signatures: list[str] = field(default_factory=list)


@contextmanager
def s3(objects: dict[str, bytes]) -> Iterator[Service]:
    """The two verbs of S3 that reading takes."""
    service = Service("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            service.signatures.append(self.headers.get("authorization", ""))
            content = objects.get(self.path)
            if content is None:
                self.send_response(404)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            first, last = 0, len(content) - 1
            if wanted := self.headers.get("range"):
                begin, _, end = wanted.removeprefix("bytes=").partition("-")
                first, last = int(begin), min(int(end or last), last)
                self.send_response(206)
                self.send_header("content-range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("content-length", str(last + 1 - first))
            self.send_header("etag", '"of-a-test"')
            self.send_header("last-modified", "Sun, 22 Nov 2026 10:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content[first : last + 1])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


UNPACK = """
import resource, sys
from pathlib import Path
from havre.environments import Environments
from havre.home import Home
from havre.settings import load_settings
home = Home(Path(sys.argv[1]))
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
environments = Environments(home, load_settings(home.root, environ={}))
print("go", flush=True)
told = lambda line: print(line, flush=True)
print(environments.publish_pack("mine", Path(sys.argv[2]), progress=told).digest)
"""


def start_unpacking(home: Home, pack: Pack, *limit: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", UNPACK, home.root, pack.path, *limit],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestTrouble:
    def test_unpacking_killed_at_any_moment_is_never_used_half_done(
        self, environments: Environments, home: Home, pack: Pack
    ) -> None:
        began = time.monotonic()
        digest = environments.publish_pack("mine", pack.path, progress=print).digest
        whole_s = time.monotonic() - began
        environments.remove("mine")
        chance = random.Random(7)
        halves = 0
        for number in range(MAX_KILLS):
            with start_unpacking(home, pack) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "go\n"
                time.sleep(chance.random() * whole_s)  # the moment of the kill
                process.send_signal(signal.SIGKILL)
            built = environments.get(digest)
            halves += built is None and (home.environments / "built" / digest).exists()
            if built is not None:
                assert says(built.interpreter, "import packed; print(packed.x)") == "from the pack"
                environments.publish_pack("mine", pack.path, progress=print)
                environments.remove("mine")
            if number >= KILLS and halves > 0:
                break
        assert halves > 0
        built = environments.publish_pack("mine", pack.path, progress=print)
        assert says(built.interpreter, "import packed; print(packed.x)") == "from the pack"
        assert [path.name for path in (home.environments / "built").iterdir()] == [digest]

    def test_two_at_once_unpack_it_once(self, home: Home, pack: Pack) -> None:
        with start_unpacking(home, pack) as one, start_unpacking(home, pack) as other:
            said = [process.communicate(timeout=120)[0].splitlines() for process in (one, other)]
        assert said[0][-1] == said[1][-1]
        starts = [line for lines in said for line in lines if line.startswith("unpacking mine")]
        assert len(starts) == 1

    def test_a_full_disk_is_named_and_leaves_nothing(self, home: Home, pack: Pack) -> None:
        with start_unpacking(home, pack, "1000000") as process:
            _, errors = process.communicate(timeout=120)
        assert "could not be unpacked" in errors
        assert "is full, or a quota used up" in errors
        assert "MB needed" in errors
        assert list((home.environments / "built").iterdir()) == []

    def test_clean_keeps_what_is_used_or_published(
        self, environments: Environments, home: Home, pack: Pack, tmp_path: Path
    ) -> None:
        place = home.root / "objects/ns/bucket"
        place.mkdir(parents=True)
        shutil.copyfile(pack.path, place / "found")
        address = RuntimeManifest("", "published", "oci://bucket@ns/found")
        built = environments.ensure(environments.resolve(address, tmp_path), print)
        (home.environments / "built" / "half").mkdir()
        use(home, built.interpreter)
        assert environments.clean() == ["half-built half"]
        with pytest.raises(Conflict, match="used by instance abc"):
            environments.remove("found")
        shutil.rmtree(home.instances / "abc")
        published = environments.publish_pack("mine", pack.path, progress=print)
        assert environments.clean() == ["found"]
        assert environments.build("mine", print) == published
        assert not built.prefix.exists()


def use(home: Home, interpreter: Path) -> None:
    """What an engine records of an instance."""
    (home.instances / "abc").mkdir()
    spec = {"interpreter": str(interpreter)}
    (home.instances / "abc" / "spec.json").write_text(json.dumps(spec))


class TestExporting:
    @pytest.fixture
    def published(self, environments: Environments, pack: Pack, tmp_path: Path) -> Environments:
        (tmp_path / "none.txt").write_text("# no packages\n")
        python = pack.interpreter.python
        environments.publish("mine", tmp_path / "none.txt", python=python, progress=print)
        return environments

    def test_an_exported_environment_can_be_published_again(
        self, published: Environments, tmp_path: Path, pack: Pack
    ) -> None:
        source = published.build("mine", print)
        library = next((source.prefix / "lib").glob("python3.*/site-packages"))
        (library / "added.py").write_text("x = 'came along'\n")
        script = source.prefix / "bin" / "tell"
        script.write_text(f"#!{source.interpreter}\nimport added; print(added.x)\n")
        script.chmod(0o755)
        published.export("mine", tmp_path / "exported", print)
        again = published.publish_pack("again", tmp_path / "exported", progress=print)
        published.remove("mine")
        assert not source.prefix.exists()
        assert again.python_version == pack.interpreter.version
        assert says(again.interpreter, "import sys; print(sys.prefix)") == str(again.prefix)
        assert subprocess.check_output([again.prefix / "bin/tell"], text=True) == "came along\n"
        findings = {each.subject: each.problem for each in published.inspect("again", print)}
        assert findings["interpreter"] == ""
        published.export("again", tmp_path / "copied", print)
        assert (tmp_path / "copied").read_bytes() == (tmp_path / "exported").read_bytes()

    def test_nothing_is_left_where_it_cannot_be_written(
        self, published: Environments, tmp_path: Path
    ) -> None:
        (tmp_path / "taken").mkdir()
        with pytest.raises(InvalidParameter, match="cannot be written"):
            published.export("mine", tmp_path / "taken", print)
        with pytest.raises(InvalidParameter, match="cannot be written"):
            published.export("mine", tmp_path / "absent" / "file", print)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class TestReachability:
    def hidden(self, tmp_path: Path, pack: Pack, breaking: Callable[[Path], None]) -> Interpreter:
        """An interpreter in a folder that only its owner may pass."""
        from havre.environments.reachable import copy_interpreter

        prefix = tmp_path / "hidden" / "python"
        copy_interpreter(pack.interpreter, prefix)
        breaking(prefix)
        prefix.parent.chmod(0o700)
        return Interpreter(pack.interpreter.version, prefix / "bin" / pack.interpreter.path.name)

    def test_an_interpreter_out_of_reach_is_copied_once(self, tmp_path: Path, pack: Pack) -> None:
        hidden = self.hidden(tmp_path, pack, lambda prefix: None)
        copies = ReachableInterpreters(tmp_path / "copies", as_root=True)
        told: list[str] = []
        copied = copies.reachable(hidden, told.append)
        assert copied.path.is_relative_to(tmp_path / "copies")
        assert unreachable_part(copied.path) in (None, *copied.path.parents[3:])
        assert copies.reachable(hidden, told.append) == copied
        assert len(told) == 1
        shutil.rmtree(tmp_path / "hidden")
        assert says(copied.path, "import ssl, ctypes; print('runs')") == "runs"
        assert copies.remove_unused({str(copied.path)}) == []
        assert copies.remove_unused(set()) == [copied.path.parents[1].name]
        assert not copied.path.exists()

    def test_one_that_does_not_run_elsewhere_stays_and_says_so(
        self, tmp_path: Path, pack: Pack
    ) -> None:
        def break_it(prefix: Path) -> None:
            next(prefix.glob("lib/python3.*/ssl.py")).write_text("raise ImportError('no ssl')\n")

        hidden = self.hidden(tmp_path, pack, break_it)
        told: list[str] = []
        copies = ReachableInterpreters(tmp_path / "copies", as_root=True)
        assert copies.reachable(hidden, told.append) == hidden
        assert "out of reach for unprivileged users: ImportError: no ssl" in told[-1]

    def test_who_is_not_root_copies_nothing(self, tmp_path: Path, pack: Pack) -> None:
        hidden = self.hidden(tmp_path, pack, lambda prefix: None)
        copies = ReachableInterpreters(tmp_path / "copies", as_root=False)
        assert copies.reachable(hidden, print) == hidden
