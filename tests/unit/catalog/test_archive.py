"""Hostile and broken archives are refused before anything is written; good ones come out whole."""

import os
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.zoo import archives

from havre.catalog.archive import ArchiveLimits, inspect_archive, score_folder, unpack
from havre.domain.errors import ArtifactInvalid, Unavailable

Make = Callable[[zipfile.ZipFile], None]

FEW = ArchiveLimits(
    entries=50,
    total_bytes=10_000_000,
    ratio=50,
    ratio_free_bytes=1_000_000,
    name_bytes=40,
    path_bytes=100,
    depth=6,
)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Make], Path]:
    def write(fill: Make) -> Path:
        path = tmp_path / "artifact.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            fill(archive)
        return path

    return write


def entry(name: str, **fields: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def special(name: str, kind: int) -> Make:
    return lambda archive: archive.writestr(entry(name, external_attr=(kind | 0o644) << 16), "x")


def named(*names: str) -> Make:
    def fill(archive: zipfile.ZipFile) -> None:
        for name in names:
            archive.writestr(entry(name), "" if name.endswith("/") else "x")

    return fill


HOSTILE: dict[str, tuple[Make, str]] = {
    "absolute": (named("/etc/passwd"), "absolute"),
    "drive": (named("C:/windows/x"), "absolute"),
    "parent": (named("a/../../x"), r"'\.\.'"),
    "parent at the end": (named("a/.."), r"'\.\.'"),
    "only parent": (named("../score.py"), r"'\.\.'"),
    "backslash": (named("a\\..\\x"), "backslash"),
    "symbolic link": (special("link", stat.S_IFLNK), "symbolic link"),
    "device": (special("null", stat.S_IFCHR), "special file"),
    "pipe": (special("pipe", stat.S_IFIFO), "special file"),
    "socket": (special("sock", stat.S_IFSOCK), "special file"),
    "folder without a slash": (special("folder", stat.S_IFDIR), "file and a folder"),
    "folder with content": (
        lambda archive: archive.writestr("folder/", "content"),
        "file and a folder",
    ),
    "twice": (named("a", "a"), "occurs twice"),
    "twice in other words": (named("a", "./a"), "occurs twice"),
    "file and folder": (named("a", "a/b"), "both as a file and as a folder"),
    "folder and file": (named("a/b", "a"), "both as a file and as a folder"),
    "no name": (named("."), "no name"),
    "long name": (named("n" * 41), "longer than 40"),
    "long path": (named("/".join(["d" * 30] * 4)), "longer than 100"),
    "deep": (named("/".join("abcdefgh")), "deep"),
    "many": (named(*(f"f{i}" for i in range(51))), "51 entries"),
    "large": (
        lambda archive: (
            [
                archive.writestr(entry(f"f{i}"), random.Random(i).randbytes(2_100_000))
                for i in range(5)
            ]
            and None
        ),
        "unpacks to 10500000",
    ),
    "ratio": (
        lambda archive: archive.writestr(entry("zeros"), bytes(5_000_000)),
        "times its size",
    ),
    "bzip2": (
        lambda archive: archive.writestr(entry("b", compress_type=zipfile.ZIP_BZIP2), "x" * 99),
        "compressed by method 12",
    ),
    "lzma": (
        lambda archive: archive.writestr(entry("b", compress_type=zipfile.ZIP_LZMA), "x" * 99),
        "compressed by method 14",
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written(
    make: Callable[[Make], Path], tmp_path: Path, case: str
) -> None:
    fill, reason = HOSTILE[case]
    path = make(fill)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactInvalid, match=reason):
        unpack(path, tmp_path / "into", FEW)
    with pytest.raises(ArtifactInvalid, match=reason):
        inspect_archive(path, FEW)
    assert sorted(tmp_path.rglob("*")) == before


CENTRAL = b"PK\x01\x02"
LOCAL = b"PK\x03\x04"


def patched(content: bytes, signature: bytes, offset: int, value: bytes, nth: int = 0) -> bytes:
    at = -1
    for _ in range(nth + 1):
        at = content.index(signature, at + 1)
    return content[: at + offset] + value + content[at + offset + len(value) :]


def test_an_encrypted_entry_is_refused(make: Callable[[Make], Path], tmp_path: Path) -> None:
    path = make(named("secret"))
    path.write_bytes(patched(path.read_bytes(), CENTRAL, 8, b"\x01"))
    with pytest.raises(ArtifactInvalid, match="'secret' is encrypted"):
        unpack(path, tmp_path / "into")


def test_overlapping_entries_are_refused(make: Callable[[Make], Path], tmp_path: Path) -> None:
    path = make(named("one", "two"))
    content = patched(path.read_bytes(), CENTRAL, 42, struct.pack("<I", 0), nth=1)
    path.write_bytes(content)
    with pytest.raises(ArtifactInvalid, match="overlaps"):
        unpack(path, tmp_path / "into")


def test_names_that_differ_between_the_two_headers_are_refused(
    make: Callable[[Make], Path], tmp_path: Path
) -> None:
    path = make(named("one"))
    path.write_bytes(patched(path.read_bytes(), LOCAL, 30, b"two"))
    with pytest.raises(ArtifactInvalid, match="'one' is damaged"):
        inspect_archive(path)


def test_a_nul_in_a_name_is_refused(make: Callable[[Make], Path], tmp_path: Path) -> None:
    path = make(named("a.py_evil"))
    path.write_bytes(path.read_bytes().replace(b"a.py_evil", b"a.py\0evil"))
    with pytest.raises(ArtifactInvalid, match="NUL"):
        inspect_archive(path)


@pytest.mark.parametrize("declared", [50, 5_000])
def test_a_declared_size_that_lies_is_refused(
    make: Callable[[Make], Path], tmp_path: Path, declared: int
) -> None:
    path = make(lambda archive: archive.writestr(entry("model"), os.urandom(1000)))
    path.write_bytes(patched(path.read_bytes(), CENTRAL, 24, struct.pack("<I", declared)))
    with pytest.raises(ArtifactInvalid, match="'model'"):
        unpack(path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_flipped_bits_are_found_and_nothing_is_left(
    make: Callable[[Make], Path], tmp_path: Path
) -> None:
    def fill(archive: zipfile.ZipFile) -> None:
        archive.writestr("good", "x")
        archive.writestr(entry("model", compress_type=zipfile.ZIP_STORED), b"m" * 100)

    path = make(fill)
    path.write_bytes(path.read_bytes().replace(b"m" * 100, b"m" * 99 + b"n"))
    inspect_archive(path)
    with pytest.raises(ArtifactInvalid, match=r"'model' is damaged.*CRC"):
        unpack(path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06", b"\x1f\x8b" + b"\0" * 100])
def test_what_is_not_a_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "artifact.zip"
    path.write_bytes(content)
    with pytest.raises(ArtifactInvalid, match="not a zip archive"):
        inspect_archive(path)


def test_a_table_of_contents_too_large_to_read_is_refused(
    make: Callable[[Make], Path], tmp_path: Path
) -> None:
    path = make(named(*(f"{'n' * 200}{i}" for i in range(6000))))
    with pytest.raises(ArtifactInvalid, match="table of contents"):
        inspect_archive(path, ArchiveLimits(directory_bytes=1))


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_an_upload_cut_short_is_refused(make: Callable[[Make], Path], keep: float) -> None:
    path = make(named("a", "b", "c"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ArtifactInvalid):
        inspect_archive(path)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1))
def test_any_damage_is_refused_in_our_words_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "artifact.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.py", "def predict(data): return data\n" * 5)
        archive.writestr("sub/model.bin", bytes(range(256)))
    content = bytearray(path.read_bytes())
    for position, value in flips:
        content[position % len(content)] = value
    path.write_bytes(content)
    try:
        unpack(path, folder / "into")
    except ArtifactInvalid:
        assert not (folder / "into").exists()
    assert sorted(entry.name for entry in folder.iterdir() if entry.name != "into") == [
        "artifact.zip"
    ]


def test_everything_comes_out_bit_for_bit(make: Callable[[Make], Path], tmp_path: Path) -> None:
    contents = {
        "score.py": b"line\r\n\xff",
        "__MACOSX/._score.py": b"\0\0",
        ".DS_Store": b"",
        "model/ümläut ☃.bin": os.urandom(200_000),
        "model/a file:with colon": b"1",
        "model/deep/er/x": b"2",
    }

    def fill(archive: zipfile.ZipFile) -> None:
        for name, content in contents.items():
            archive.writestr(name, content)
        archive.writestr("empty/", b"")
        archive.writestr("./", b"")

    listing = unpack(make(fill), tmp_path / "into")
    into = tmp_path / "into"
    found = {
        str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()
    }
    assert found == contents
    assert (into / "empty").is_dir()
    assert listing.total_bytes == sum(map(len, contents.values()))


@pytest.mark.parametrize("name", archives.ARCHIVES)
def test_files_have_the_names_that_they_were_zipped_by(tmp_path: Path, name: str) -> None:
    listing = unpack(archives.FOLDER / name, tmp_path / "into")
    into = tmp_path / "into"
    found = {
        str(path.relative_to(into)): path.read_text() for path in into.rglob("*") if path.is_file()
    }
    assert found == archives.ARCHIVES[name]
    assert listing.files.keys() == found.keys()
    assert (score_folder(into) / "modèle.pkl").read_text() == "m"


@pytest.mark.parametrize("name", archives.REFUSED)
def test_a_name_in_unicode_is_checked_like_any_other(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactInvalid, match=archives.REFUSED[name]):
        unpack(archives.FOLDER / name, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_every_archive_of_the_zoo_is_tried() -> None:
    assert {path.name for path in archives.FOLDER.iterdir()} == {
        *archives.ARCHIVES,
        *archives.REFUSED,
    }


def test_an_artifact_larger_than_the_disk_is_our_problem_not_the_archives(
    make: Callable[[Make], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(lambda archive: archive.writestr("model", os.urandom(1000)))
    monkeypatch.setattr(
        "havre.catalog.archive.shutil.disk_usage",
        lambda folder: type("Usage", (), {"free": 999}),
    )
    with pytest.raises(Unavailable, match=r"1000 bytes.*999 free"):
        unpack(path, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["score.py", "other/score.py"], "."),
        (["model/score.py", "__MACOSX/model/._score.py"], "model"),
        (["model/score.py", "README.md"], "model"),
    ],
)
def test_score_py_is_found_at_the_top_or_in_the_folder_that_wraps_it(
    tmp_path: Path, names: list[str], expected: str
) -> None:
    assert score_folder(tree(tmp_path, *names)) == tmp_path / expected


@pytest.mark.parametrize("name", ["runtime.yaml", "requirements.txt"])
def test_what_lies_beside_the_wrapping_folder_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "score.py").touch()
    (tmp_path / name).touch()
    with pytest.raises(ArtifactInvalid, match=f"{name} at its top and score.py in model/"):
        score_folder(tmp_path)
    (tmp_path / "model" / name).touch()
    assert score_folder(tmp_path) == tmp_path / "model"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "it is empty"),
        (["a/b/score.py"], "its top holds a/"),
        (["a/score.py", "b/score.py"], "several folders hold one: a, b"),
        (["Score.py", "model.pkl"], "its top holds Score.py, model.pkl"),
    ],
)
def test_without_score_py_the_error_says_what_is_there(
    tmp_path: Path, names: list[str], said: str
) -> None:
    with pytest.raises(ArtifactInvalid, match=said):
        score_folder(tree(tmp_path, *names))
