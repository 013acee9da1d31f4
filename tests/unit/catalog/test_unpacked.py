"""Unpacked artifacts: shared, read-only, whole or absent."""

import io
import zipfile
from pathlib import Path

import pytest

from havre.catalog.artifacts import ArtifactStore
from havre.catalog.unpacked import Unpacker
from havre.domain.errors import ArtifactInvalid, NotFound, Unavailable
from havre.unprivileged import group_of, why_not_separate_users


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def unpacker(tmp_path: Path, store: ArtifactStore) -> Unpacker:
    return Unpacker(store, tmp_path / "unpacked")


def put(store: ArtifactStore, **files: str) -> str:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".py", text)
    with store.receive() as incoming:
        incoming.write(content.getvalue())
        return incoming.commit().digest


def test_the_tree_is_read_only_and_made_once(store: ArtifactStore, unpacker: Unpacker) -> None:
    digest = put(store, score="x", sub__model="y")
    root = unpacker.ensure(digest)
    modes = {
        str(path.relative_to(root)): path.stat().st_mode & 0o777
        for path in [root, *root.rglob("*")]
    }
    top = modes.pop(".")
    assert modes == {"score.py": 0o444, "sub": 0o555, "sub/model.py": 0o444}
    if why_not_separate_users():
        assert top == 0o555
    else:
        assert (top, root.stat().st_uid, root.stat().st_gid) == (0o550, 0, group_of(digest))
    made = root.stat().st_ino
    assert unpacker.ensure(digest).stat().st_ino == made


def test_a_bad_archive_leaves_nothing_but_its_lock(
    store: ArtifactStore, unpacker: Unpacker, tmp_path: Path
) -> None:
    with store.receive() as incoming:
        incoming.write(b"not a zip")
        digest = incoming.commit().digest
    with pytest.raises(ArtifactInvalid):
        unpacker.ensure(digest)
    assert [path for path in (tmp_path / "unpacked").iterdir() if path.is_dir()] == []


def test_an_unknown_digest_is_not_found(unpacker: Unpacker) -> None:
    with pytest.raises(NotFound):
        unpacker.ensure("0" * 64)


def test_a_removed_tree_is_made_again(
    store: ArtifactStore, unpacker: Unpacker, tmp_path: Path
) -> None:
    digest = put(store, score="x", sub__model="y")
    root = unpacker.ensure(digest)
    unpacker.remove(digest)
    assert list((tmp_path / "unpacked").iterdir()) == []
    unpacker.remove(digest)
    assert unpacker.ensure(digest) == root
    assert (root / "sub" / "model.py").read_text() == "y"


def test_what_a_dead_process_left_is_cleared(
    store: ArtifactStore, unpacker: Unpacker, tmp_path: Path
) -> None:
    digest = put(store, score="x")
    aside = tmp_path / "unpacked" / f".{digest}.aside"
    (aside / "half").mkdir(parents=True)
    (aside / "half").chmod(0o555)
    assert sorted(path.name for path in unpacker.ensure(digest).iterdir()) == ["score.py"]
    aside.mkdir()
    assert unpacker.sweep() == 1
    assert not aside.exists()


def test_a_disk_that_refuses_is_unavailable_and_leaves_nothing(
    store: ArtifactStore, unpacker: Unpacker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path) -> None:
        raise OSError(28, "No space left on device")

    digest = put(store, score="x")
    monkeypatch.setattr("havre.catalog.unpacked.sync_tree", refuse)
    with pytest.raises(Unavailable, match=r"is full, .* MB free, about .* needed"):
        unpacker.ensure(digest)
    assert [path for path in (tmp_path / "unpacked").iterdir() if path.is_dir()] == []
