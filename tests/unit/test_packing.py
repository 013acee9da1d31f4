"""What `havre deploy` makes of a folder: all that a model may look for, and no surprise."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from havre.catalog.archive import unpack
from havre.domain.errors import ArtifactInvalid
from havre.packing import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "artifact"
    made.mkdir()
    (made / "score.py").write_text("def predict(data): return data\n")
    return made


def arrived(folder: Path, tmp_path: Path) -> set[str]:
    """The paths that an instance finds, folders with a slash at the end."""
    pack(folder, tmp_path / "artifact.zip")
    into = tmp_path / "into"
    unpack(tmp_path / "artifact.zip", into)
    return {f"{path.relative_to(into)}{'/' * path.is_dir()}" for path in into.rglob("*")}


def test_empty_folders_arrive(folder: Path, tmp_path: Path) -> None:
    (folder / "cache" / "deep").mkdir(parents=True)
    (folder / "only" / "__pycache__").mkdir(parents=True)
    (folder / "only" / "__pycache__" / "score.cpython-38.pyc").write_bytes(b"x")
    assert arrived(folder, tmp_path) == {"score.py", "cache/", "cache/deep/", "only/"}


def test_only_files_are_counted(folder: Path, tmp_path: Path) -> None:
    (folder / "empty").mkdir()
    assert pack(folder, tmp_path / "artifact.zip") == 1


def test_folders_with_files_need_no_entry(folder: Path, tmp_path: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "model.bin").write_bytes(b"m")
    pack(folder, tmp_path / "artifact.zip")
    with zipfile.ZipFile(tmp_path / "artifact.zip") as archive:
        assert archive.namelist() == ["score.py", "sub/model.bin"]


def test_equal_folders_make_equal_archives(folder: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c/d"):
        (folder / name).mkdir(parents=True)
    made = []
    for name in ("one.zip", "two.zip"):
        pack(folder, tmp_path / name)
        made.append((tmp_path / name).read_bytes())
        os.utime(folder / "a", (0, 0))
    assert made[0] == made[1]


def test_names_beyond_ascii_arrive(folder: Path, tmp_path: Path) -> None:
    (folder / "modèle ☃.pkl").write_bytes(b"m")
    (folder / "cafe\u0301").mkdir()
    assert arrived(folder, tmp_path) == {"score.py", "modèle ☃.pkl", "cafe\u0301/"}


def test_links_within_the_artifact_arrive_as_what_they_lead_to(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "v2").mkdir()
    (folder / "v2" / "model.bin").write_bytes(b"m")
    (folder / "current").symlink_to("v2")
    (folder / "model.bin").symlink_to("v2/model.bin")
    found = arrived(folder, tmp_path)
    assert found == {
        "score.py",
        "v2/",
        "v2/model.bin",
        "current/",
        "current/model.bin",
        "model.bin",
    }


def circle(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link out": (lambda folder: (folder / "x").symlink_to("/etc/hosts"), "outside the artifact"),
    "a folder's link out": (
        lambda folder: (folder / "x").symlink_to("/etc"),
        "outside the artifact",
    ),
    "a link to nothing": (lambda folder: (folder / "x").symlink_to("y"), "does not exist"),
    "a link to its folder": (lambda folder: (folder / "x").symlink_to("."), "that it lies in"),
    "links in a circle": (circle, "does not exist"),
    "a pipe": (lambda folder: os.mkfifo(folder / "x"), "neither a file nor a folder"),
    "a name in Latin-1": (
        lambda folder: Path(os.fsdecode(bytes(folder) + b"/mod\xe8le")).write_bytes(b""),
        "not UTF-8: rename it",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_would_be_lost_is_refused(folder: Path, tmp_path: Path, case: str) -> None:
    spoil, said = UNFIT[case]
    spoil(folder)
    with pytest.raises(ArtifactInvalid, match=said):
        pack(folder, tmp_path / "artifact.zip")
