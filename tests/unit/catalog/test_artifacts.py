"""Artifact bytes by digest: whole or absent."""

import base64
import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from havre.catalog.artifacts import ArtifactStore, StoredArtifact
from havre.domain.errors import NotFound, Unavailable


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def put(store: ArtifactStore, *chunks: bytes) -> StoredArtifact:
    with store.receive() as incoming:
        for chunk in chunks:
            incoming.write(chunk)
        return incoming.commit()


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_what_was_uploaded_comes_back_with_its_digests(store: ArtifactStore) -> None:
    content = os.urandom(100_000)
    stored = put(store, content[:1], content[1:99_999], b"", content[99_999:])
    assert stored == StoredArtifact(
        hashlib.sha256(content).hexdigest(),
        len(content),
        base64.b64encode(hashlib.md5(content).digest()).decode(),
    )
    with store.open(stored.digest) as file:
        assert file.read() == content
    assert store.path(stored.digest).stat().st_mode & 0o777 == 0o444


def test_bytes_that_come_in_many_chunks_are_hashed_in_their_order(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("havre.catalog.artifacts.SYNC_EVERY", 100_000)
    chunks = [os.urandom(7_000 + i) for i in range(100)]
    content = b"".join(chunks)
    stored = put(store, *chunks)
    assert stored.digest == hashlib.sha256(content).hexdigest()
    assert base64.b64decode(stored.md5_base64) == hashlib.md5(content).digest()
    assert store.path(stored.digest).read_bytes() == content


def test_the_same_bytes_are_kept_once(store: ArtifactStore, tmp_path: Path) -> None:
    assert put(store, b"same") == put(store, b"sa", b"me")
    assert len(files(tmp_path)) == 1


def test_two_uploads_of_the_same_bytes_at_once_share_one_file(
    store: ArtifactStore, tmp_path: Path
) -> None:
    with store.receive() as one, store.receive() as other:
        one.write(b"same")
        other.write(b"same")
        assert one.commit() == other.commit()
    assert len(files(tmp_path)) == 1


def test_an_upload_that_is_not_committed_leaves_nothing(
    store: ArtifactStore, tmp_path: Path
) -> None:
    def break_off() -> None:
        with store.receive() as incoming:
            incoming.write(b"half")
            raise RuntimeError("the client went away")

    with pytest.raises(RuntimeError):
        break_off()
    with store.receive() as incoming:
        incoming.write(b"half")
    assert files(tmp_path) == []


def test_deleted_bytes_are_gone_and_deleting_again_is_fine(store: ArtifactStore) -> None:
    digest = put(store, b"x").digest
    store.delete(digest)
    store.delete(digest)
    with pytest.raises(NotFound, match="upload it again"):
        store.open(digest)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_only_a_digest_names_an_artifact(store: ArtifactStore, digest: str) -> None:
    with pytest.raises(NotFound):
        store.path(digest)


@pytest.mark.parametrize(
    ("code", "said"), [(errno.ENOSPC, "full.*free some space"), (errno.EIO, "cannot be stored")]
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_refuses_leaves_nothing(
    store: ArtifactStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    code: int,
    said: str,
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"havre.catalog.artifacts.os.{call}", refuse)
    with pytest.raises(Unavailable, match=said):
        put(store, b"some")
    assert files(tmp_path) == []


@pytest.mark.parametrize("chunks", [2, 20])
def test_a_disk_that_refuses_on_the_way_leaves_nothing(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: int
) -> None:
    """Linux tells a failure of fdatasync once: the fsync at the end would succeed after it."""

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("havre.catalog.artifacts.SYNC_EVERY", 8)
    monkeypatch.setattr("havre.catalog.artifacts.os.fdatasync", refuse)
    with pytest.raises(Unavailable, match="cannot be stored"):
        put(store, *[b"12345678"] * chunks)
    assert files(tmp_path) == []


def test_an_upload_leaves_no_thread(store: ArtifactStore) -> None:
    before = threading.active_count()
    put(store, b"whole")
    with store.receive() as incoming:
        incoming.write(b"half")
    assert threading.active_count() == before


def test_a_sweep_spares_uploads_under_way(store: ArtifactStore, tmp_path: Path) -> None:
    with store.receive() as incoming:
        incoming.write(b"go")
        (tmp_path / "artifacts" / "incoming" / "dead").write_bytes(b"left behind")
        assert store.sweep() == 1
        incoming.write(b"ing on")
        digest = incoming.commit().digest
    assert store.path(digest).read_bytes() == b"going on"
    assert files(tmp_path) == [store.path(digest)]
