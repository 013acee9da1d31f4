"""The artifact store and unpacked trees under kills, many hands and large uploads."""

import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
from havre.durable import remove_tree

ROUNDS = 20

RECEIVE = """
import sys
from pathlib import Path
from havre.catalog.artifacts import ArtifactStore
store = ArtifactStore(Path(sys.argv[1]))
content = Path(sys.argv[2]).read_bytes()
print("go", flush=True)
while True:
    with store.receive() as incoming:
        for start in range(0, len(content), 4096):
            incoming.write(content[start:start + 4096])
        incoming.commit()
"""

UNPACK = """
import sys
from pathlib import Path
from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
unpacker = Unpacker(ArtifactStore(Path(sys.argv[1])), Path(sys.argv[2]))
print("go", flush=True)
while True:
    unpacker.ensure(sys.argv[3])
    unpacker.remove(sys.argv[3])
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    remove_tree(tmp_path)


def run_and_kill(code: str, *arguments: str, after_s: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"go\n"
        time.sleep(after_s)  # the moment of the kill, not a synchronisation
        process.send_signal(signal.SIGKILL)


def archive(path: Path, files: int = 60) -> dict[str, bytes]:
    chance = random.Random(files)
    contents = {f"part{i % 7}/file{i}": chance.randbytes(20_000) for i in range(files)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in contents.items():
            written.writestr(name, content)
    return contents


def put(store: ArtifactStore, path: Path) -> str:
    with store.receive() as incoming:
        incoming.write(path.read_bytes())
        return incoming.commit().digest


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_uploads_killed_at_any_moment_leave_only_whole_artifacts(root: Path) -> None:
    chance = random.Random(1)
    source = root / "source.zip"
    archive(source)
    store = ArtifactStore(root / "artifacts")
    for _ in range(ROUNDS):
        run_and_kill(RECEIVE, str(root / "artifacts"), str(source), after_s=chance.random() / 10)
        for kept in (root / "artifacts" / "sha256").rglob("*"):
            assert kept.is_dir() or kept.read_bytes() == source.read_bytes()
    store.sweep()
    assert list((root / "artifacts" / "incoming").iterdir()) == []
    assert store.path(put(store, source)).read_bytes() == source.read_bytes()


def test_unpacking_killed_at_any_moment_leaves_whole_trees_or_none(root: Path) -> None:
    chance = random.Random(2)
    contents = archive(root / "source.zip")
    store = ArtifactStore(root / "artifacts")
    digest = put(store, root / "source.zip")
    unpacked = root / "unpacked"
    for _ in range(ROUNDS):
        run_and_kill(
            UNPACK, str(root / "artifacts"), str(unpacked), digest, after_s=chance.random() / 5
        )
        assert not (unpacked / digest).exists() or tree(unpacked / digest) == contents
        unpacker = Unpacker(store, unpacked)
        assert tree(unpacker.ensure(digest)) == contents
    Unpacker(store, unpacked).sweep()
    names = [path.name for path in unpacked.iterdir() if path.is_dir()]
    assert names == [digest]


def test_many_callers_share_one_tree(root: Path) -> None:
    contents = archive(root / "source.zip")
    store = ArtifactStore(root / "artifacts")
    digest = put(store, root / "source.zip")
    start = threading.Barrier(8)

    def ensure(_: int) -> int:
        start.wait()
        return Unpacker(store, root / "unpacked").ensure(digest).stat().st_ino

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ensure, range(8)))) == 1
    assert tree(root / "unpacked" / digest) == contents


LARGE_MB = 256


def test_memory_stays_flat_however_large_the_artifact(root: Path) -> None:
    code = f"""
import resource, sys, zipfile
from pathlib import Path
from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
root = Path(sys.argv[1])
store = ArtifactStore(root / "artifacts")
source = root / "large.zip"
chunk = bytes(range(256)) * 4096
with zipfile.ZipFile(source, "w") as archive:
    with archive.open("model.bin", "w", force_zip64=True) as file:
        for _ in range({LARGE_MB}):
            file.write(chunk)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with store.receive() as incoming, source.open("rb") as file:
    while piece := file.read(1 << 20):
        incoming.write(piece)
    stored = incoming.commit()
assert stored.size > {LARGE_MB} << 20
Unpacker(store, root / "unpacked").ensure(stored.digest)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown_kb = int(subprocess.check_output([sys.executable, "-c", code, str(root)]))
    assert grown_kb < 16 * 1024


def test_a_full_disk_refuses_the_upload_and_leaves_nothing(root: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from havre.catalog.artifacts import ArtifactStore
from havre.domain.errors import Unavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with ArtifactStore(Path(sys.argv[1])).receive() as incoming:
        for _ in range(100):
            incoming.write(bytes(4096))
except Unavailable as error:
    print(error)
"""
    said = subprocess.check_output([sys.executable, "-c", code, str(root / "artifacts")], text=True)
    assert "is full" in said
    assert tree(root / "artifacts") == {}
