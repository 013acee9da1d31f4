"""No message is longer than anybody reads; what does not fit is in a file that it names."""

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from havre import full_disk
from havre.cli import output
from havre.domain.reported import MAX_MESSAGE_BYTES, shorten
from havre.messages import MAX_FILES, fit
from havre.store.schema import FittedText

LONG = "é is where it begins, " + "x" * 1_270_000 + " and here it ends"


def test_what_fits_is_left_as_it_is(tmp_path: Path) -> None:
    message = "é" * (MAX_MESSAGE_BYTES // 2)
    assert fit(message, tmp_path / "messages") == message
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_has_beginning_end_and_a_file_with_all(tmp_path: Path) -> None:
    told = fit(LONG, tmp_path / "messages")
    assert len(told.encode()) <= MAX_MESSAGE_BYTES
    assert told.startswith("é is where it begins")
    assert told.endswith("and here it ends")
    [named] = re.findall(r"all of it is in (\S+)\]", told)
    assert Path(named).read_text() == LONG
    assert Path(named).stat().st_mode & 0o077 == 0
    assert fit(LONG, tmp_path / "messages") == told


def test_as_many_files_are_kept(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 5):
        told = fit(f"{number} {LONG[:3000]}", tmp_path)
    assert len(list(tmp_path.iterdir())) == MAX_FILES
    [named] = re.findall(r"all of it is in (\S+)\]", told)
    assert Path(named).exists()


def test_a_full_disk_costs_the_rest_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("havre.messages.durable.write_file", refuse)
    told = fit(LONG, tmp_path)
    assert len(told.encode()) <= MAX_MESSAGE_BYTES
    assert "the rest is lost" in told
    assert "No space left on device" in told


def test_no_text_of_the_database_is_longer() -> None:
    stored = FittedText().process_bind_param("\0" + LONG, None)  # type: ignore[arg-type]
    assert stored == shorten("\N{REPLACEMENT CHARACTER}" + LONG)
    assert len(stored.encode()) <= MAX_MESSAGE_BYTES


def test_no_fault_of_a_command_is_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output.print_fault(LONG)
    told = capsys.readouterr().err
    assert len(told.encode()) <= MAX_MESSAGE_BYTES + len("havre: \n")
    [file] = tmp_path.rglob("*.txt")
    assert file.read_text() == LONG
    assert str(file) in told


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")] * 1319), True),
        (shutil.Error([("a", "b", "[Errno 13] Permission denied: 'b'")] * 3), False),
        (shutil.SameFileError("the same"), False),
    ],
)
def test_a_full_disk_is_told_from_other_troubles(
    tmp_path: Path, error: OSError, full: bool
) -> None:
    assert full_disk.is_full(error) is full
    told = full_disk.cause(error, tmp_path / "not" / "there", needed=300_000_000)
    assert len(told) < 500
    assert ("MB free, about 300 MB needed" in told) is full
    if isinstance(error, shutil.Error) and not full:
        assert told in ("[Errno 13] Permission denied: 'b', and 2 more", "the same")
