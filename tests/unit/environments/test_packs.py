"""Packs from strangers: what is in them goes into the folder, and nothing anywhere else."""

import bz2
import errno
import gzip
import io
import lzma
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from havre.domain.errors import EnvironmentFault
from havre.environments.packs import PackLimits, pack_slug, unpack_pack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Entry = tuple[str, bytes | None, dict[str, object]]


def entry(name: str, content: bytes | None = b"x", **fields: object) -> Entry:
    return name, content, fields


def folder(name: str) -> Entry:
    return entry(name, None, type=tarfile.DIRTYPE, mode=0o755)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return entry(name, None, type=kind, linkname=target)


def archive(*entries: Entry) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as target:
        for name, content, fields in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            info.mode = 0o644
            for field, value in fields.items():
                setattr(info, field, value)
            target.addfile(info, io.BytesIO(content or b""))
    return stream.getvalue()


def unpack(packed: bytes, into: Path, limits: PackLimits | None = None) -> int:
    into.mkdir(exist_ok=True)
    return unpack_pack(
        io.BytesIO(packed),
        into,
        size=len(packed),
        limits=limits or PackLimits(),
    )


GOOD = archive(
    folder("./"),
    entry("./bin/python3.8", b"#!x", mode=0o4755),
    link("./bin/python", "python3.8"),
    link("lib64", "lib"),
    entry("lib/one.py", b"1", mode=0o666),
    link("lib/two.py", "lib/one.py", tarfile.LNKTYPE),
    link("share/up", "../lib/one.py"),
)


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstd.compress],
    ids=["tar", "gzip", "bzip2", "xz", "zstd"],
)
def test_a_pack_is_unpacked_whatever_compressed_it(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    unpack(compress(GOOD), tmp_path / "env")
    assert (tmp_path / "env/bin/python").read_bytes() == b"#!x"
    assert (tmp_path / "env/lib/two.py").read_bytes() == b"1"
    assert (tmp_path / "env/share/up").read_bytes() == b"1"
    assert os.readlink(tmp_path / "env/lib64") == "lib"
    assert (tmp_path / "env/bin/python3.8").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "env/lib/one.py").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([entry("/etc/evil")], "absolute name"),
        ([entry("../evil")], "leads out of the pack"),
        ([entry("lib/../../evil")], "leads out of the pack"),
        ([link("lib", "/etc")], "absolute path, /etc"),
        ([link("lib", "../outside")], "link out of the pack"),
        ([folder("a"), link("a/b", "../../outside")], "link out of the pack"),
        ([link("a", "b"), link("b", "../outside")], "link out of the pack"),
        ([folder("d"), link("d/up", ".."), link("d/up/evil", "../outside")], "link out of"),
        ([link("x", "../outside/secret", tarfile.LNKTYPE)], "hard link"),
        ([link("x", "/etc/passwd", tarfile.LNKTYPE)], "hard link"),
        ([link("x", "missing", tarfile.LNKTYPE)], "hard link to missing"),
        ([entry("bin/fifo", None, type=tarfile.FIFOTYPE)], "special file"),
        ([entry("bin/null", None, type=tarfile.CHRTYPE)], "special file"),
        ([entry("a/" * 600 + "b")], "path longer than"),
        ([], "empty"),
    ],
)
def test_what_leads_out_is_refused_and_nothing_is_written_outside(
    tmp_path: Path, entries: list[Entry], problem: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    with pytest.raises(EnvironmentFault, match=problem):
        unpack(archive(*entries), tmp_path / "env")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env", "outside"]
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]
    assert (tmp_path / "outside/secret").stat().st_nlink == 1


def test_a_file_is_never_written_through_a_link_of_the_same_name(tmp_path: Path) -> None:
    unpack(archive(entry("a", b"first"), link("b", "a"), entry("b", b"second")), tmp_path / "env")
    assert (tmp_path / "env/a").read_bytes() == b"first"
    assert (tmp_path / "env/b").read_bytes() == b"second"


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (PackLimits(entries=3), "more than 3 entries"),
        (PackLimits(total_bytes=100_000), "more than 100000 bytes"),
        (PackLimits(ratio=10, ratio_free_bytes=1000), "bomb"),
    ],
)
def test_bombs_are_refused(tmp_path: Path, limits: PackLimits, problem: str) -> None:
    packed = gzip.compress(archive(*(entry(f"zeros{i}", bytes(300_000)) for i in range(5))))
    with pytest.raises(EnvironmentFault, match=problem):
        unpack(packed, tmp_path / "env", limits)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"this is no archive at all, but long enough to be looked at " * 40,
        gzip.compress(GOOD)[:-40],
        gzip.compress(GOOD)[:60] + b"\0" * 200,
        bz2.compress(GOOD)[:-10],
        lzma.compress(GOOD)[:-10],
        zstd.compress(GOOD)[:-10],
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_what_is_no_pack_or_only_a_part_of_one_says_so(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(EnvironmentFault, match=r"not a pack|damaged|empty|zip archive"):
        unpack(packed, tmp_path / "env")


def test_a_pack_is_called_by_the_end_of_its_address() -> None:
    assert pack_slug("oci://b@n/cpu/My env/1.0/my_envv1_0") == "my_envv1_0"
    assert pack_slug("oci://b@n/x/env.tar.gz") == "env"
    assert pack_slug("oci://b@n/x/env.tgz/") == "env"


def test_a_hard_link_that_the_kernel_refuses_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    assert unpack(GOOD, tmp_path / "here") == 7
    two = tmp_path / "here" / "lib" / "two.py"
    assert (two.read_bytes(), two.stat().st_mode & 0o777) == (b"1", 0o644)
