"""What must outlive a power cut is synchronised before it is named, and its name after.

A kill loses nothing that was written, a power cut all that was not synchronised: so the order of
the calls is looked at, where no test can cut the power.
"""

import os
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from havre import durable
from havre.auth import keys
from havre.auth.identity import load_or_create
from havre.balancer.envoy.files import Files
from havre.balancer.envoy.resources import response
from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
from havre.engines import copy_code
from havre.environments.confinement import Enclosure
from havre.environments.definition import EnvironmentDefinition
from havre.environments.published import Published, PublishedEnvironments
from havre.home import Home


class Disk:
    """What would be there after a power cut now, as far as the calls promise it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: set[tuple[int, str]] = set()
        self._at_rename: dict[Path, bytes | None] = {}
        self._fsync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "rename", self.rename)
        monkeypatch.setattr(durable.ctypes, "CDLL", lambda *_, **__: self)

    def fsync(self, descriptor: int) -> None:
        """Of a file its content counts from now on, of a folder the names in it."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._fsync(descriptor)
        if path.is_dir():
            self._keep_names(path)
        else:
            self._contents[path.stat().st_ino] = path.read_bytes()

    def syncfs(self, descriptor: int) -> int:
        root = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        for folder, _, files in os.walk(root):
            self._keep_names(Path(folder))
            for name in files:
                path = Path(folder, name)
                self._contents[path.stat().st_ino] = path.read_bytes()
        return 0

    def rename(self, before: str | Path, after: str | Path, **folders: int) -> None:
        """The new name may reach the disk at once, the content only if it was synchronised."""
        for descriptor in set(folders.values()):
            folder = os.readlink(f"/proc/self/fd/{descriptor}")
            before, after = os.path.join(folder, before), os.path.join(folder, after)
        torn = [path for path in files_of(Path(before)) if not self._has_content(path)]
        assert torn == [], f"{after} is named before its content is safe"
        self._rename(before, after)

    def assert_keeps(self, path: Path, *, below: Path) -> None:
        """That the file or folder and the way to it are safe."""
        assert path.exists()
        for file in files_of(path):
            assert self._has_content(file), f"the content of {file} is not safe"
        for place in (path, *path.parents):
            if place == below:
                return
            assert (place.parent.stat().st_ino, place.name) in self._names, f"{place} is not safe"

    def _keep_names(self, folder: Path) -> None:
        inode = folder.stat().st_ino
        self._names = {entry for entry in self._names if entry[0] != inode}
        self._names |= {(inode, name) for name in os.listdir(folder)}

    def _has_content(self, file: Path) -> bool:
        return self._contents.get(file.stat().st_ino) == file.read_bytes()


def files_of(path: Path) -> list[Path]:
    return [each for each in (path, *path.rglob("*")) if each.is_file()]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.make()
    durable.sync_folder(tmp_path)
    return home


@pytest.fixture
def disk(home: Home, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The folders of the home are there already."""
    disk = Disk(monkeypatch)
    durable.sync_folder(home.root)
    return disk


def write_a_file(home: Home) -> Path:
    durable.write_file(home.root / "file", b"content")
    return home.root / "file"


def make_a_folder(home: Home) -> Path:
    durable.make_folder(home.root / "a" / "b" / "c")
    return home.root / "a" / "b" / "c"


def create_the_identity(home: Home) -> Path:
    load_or_create(home)
    return home.root / "identity.json"


def register_a_key(home: Home) -> Path:
    return keys.register(home, "user", keys.new_key().public_key())


def upload_an_artifact(home: Home) -> Path:
    store = ArtifactStore(home.artifacts)
    with store.receive() as incoming:
        with zipfile.ZipFile(home.root / "a.zip", "w") as archive:
            archive.writestr("score.py", "def load_model(): ...\ndef predict(data): ...\n")
            archive.writestr("weights/a.bin", b"\0" * 10_000)
        incoming.write((home.root / "a.zip").read_bytes())
        stored = incoming.commit()
    return store.path(stored.digest)


def unpack_an_artifact(home: Home) -> Path:
    archive = upload_an_artifact(home)
    return Unpacker(ArtifactStore(home.artifacts), home.unpacked).ensure(archive.name)


def publish_routes(home: Home) -> Path:
    files = Files(home)
    files.publish(files.route_configuration, response("kind", [{"name": "routes"}]))
    return files.route_configuration


def write_the_table(home: Home) -> Path:
    files = Files(home)
    files.write(files.routing_table, {"routes": []})
    return files.routing_table


def publish_an_environment(home: Home) -> Path:
    published = PublishedEnvironments(home, Enclosure(home))
    definition = EnvironmentDefinition("mine", "3.11", (), "of this test", False)
    published.put(Published(definition, (), 0.0))
    return home.environments / "published" / "mine.json"


WRITERS = [
    write_a_file,
    make_a_folder,
    create_the_identity,
    register_a_key,
    upload_an_artifact,
    unpack_an_artifact,
    publish_routes,
    write_the_table,
    publish_an_environment,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_what_was_written_outlives_a_power_cut(
    write: Callable[[Home], Path], home: Home, disk: Disk
) -> None:
    disk.assert_keeps(write(home), below=home.root)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_written_once_more_it_is_safe_still(
    write: Callable[[Home], Path], home: Home, disk: Disk
) -> None:
    write(home)
    disk.assert_keeps(write(home), below=home.root)


def test_the_program_of_keepers_is_whole_or_absent(home: Home, disk: Disk) -> None:
    program = copy_code.install(
        home, Path(sys.executable)
    )  # its renaming is looked at; without a name it is made anew
    assert program.is_file()


def test_the_disk_of_these_tests_forgets_what_was_not_synchronised(home: Home, disk: Disk) -> None:
    loose = home.root / "loose"
    loose.write_bytes(b"content")
    with pytest.raises(AssertionError, match="named before its content is safe"):
        loose.rename(home.root / "named")
    with pytest.raises(AssertionError, match="the content of"):
        disk.assert_keeps(loose, below=home.root)
    with loose.open("r+b") as file:
        os.fsync(file.fileno())
        with pytest.raises(AssertionError, match="loose is not safe"):
            disk.assert_keeps(loose, below=home.root)
        durable.sync_folder(home.root)
        disk.assert_keeps(loose, below=home.root)
        file.write(b"more")
    with pytest.raises(AssertionError, match="the content of"):
        disk.assert_keeps(loose, below=home.root)


@pytest.mark.parametrize("instant", ["fsync", "rename"])
def test_what_a_killed_writer_leaves_goes_with_the_next_write(tmp_path: Path, instant: str) -> None:
    place = tmp_path / "file.json"
    durable.write_file(place, b"old")
    # Killed at this instant: nothing of it is tidied up.
    if (pid := os.fork()) == 0:
        setattr(os, instant, lambda *_, **__: os._exit(1))
        durable.write_file(place, b"new")
    os.waitpid(pid, 0)
    assert place.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    durable.write_file(place, b"next")
    assert place.read_bytes() == b"next"
    assert os.listdir(tmp_path) == ["file.json"]


def test_what_belongs_to_a_living_writer_or_to_others_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "file.json"
    others = [tmp_path / ".file.json.old", tmp_path / ".other.json.0123456789ab"]
    link = tmp_path / ".file.json.0123456789ab"
    for each in others:
        each.write_bytes(b"theirs")
    link.symlink_to(others[0])
    sync = os.fsync

    def write_another_meanwhile(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", sync)
        durable.write_file(place, b"the other's")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", write_another_meanwhile)
    durable.write_file(place, b"ours")
    assert place.read_bytes() == b"ours"
    assert sorted(tmp_path.iterdir()) == sorted([place, link, *others])


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    place = tmp_path / "file.json"

    def write(text: bytes) -> None:
        for _ in range(50):
            durable.write_file(place, text)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, b"%d" % number * 1000) for number in range(4)]:
            done.result()
    assert place.read_bytes() in [b"%d" % number * 1000 for number in range(4)]
    assert os.listdir(tmp_path) == ["file.json"]


def test_what_has_been_closed_to_changes_can_be_locked(tmp_path: Path) -> None:
    """A finished upload whose program was killed before it was put into its place."""
    file = tmp_path / "upload"
    file.touch(mode=0o400)
    held = durable.try_lock(file)
    assert held is not None
    assert durable.try_lock(file) is None
    os.close(held)


def test_a_pipe_by_the_name_of_what_a_killed_writer_leaves_holds_up_nobody(tmp_path: Path) -> None:
    place = tmp_path / "state.json"
    pipes = [tmp_path / f".state.json.{number:012x}" for number in range(3)]
    for pipe in pipes:
        os.mkfifo(pipe)
    reader = os.open(pipes[0], os.O_RDONLY | os.O_NONBLOCK)
    try:
        durable.write_file(place, b"ours")
    finally:
        os.close(reader)
    assert place.read_bytes() == b"ours"
    assert sorted(tmp_path.iterdir()) == sorted([place, *pipes])
