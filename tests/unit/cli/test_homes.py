"""What a home cannot be is told in one line with a remedy, whatever command is asked."""

import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from havre.cli import home_option, main
from havre.cli.home_option import home_of
from havre.domain.errors import SettingInvalid, StateUnavailable
from havre.home import Home
from havre.store import beginning
from havre.store.database import Database, sqlite_url

COMMANDS = [
    "up --detach --port 0",
    "up --port 0",
    "down",
    "status",
    "status --json",
    "doctor",
    "list",
    "top --once",
    "logs x",
    "captured x",
    "predict x {}",
    "deploy .",
    "delete x",
    "cancel x",
    "oci-config --output none",
    "env list",
    "env build generalml_p311_cpu_x86_64_v1",
    "quickstart",
]


def told_by(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one line of a command that is refused."""
    monkeypatch.setattr(sys, "argv", ["havre", *command.split(), "--home", str(home)])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    [line] = [line for line in printed.err.splitlines() if line.startswith("havre:")]
    assert printed.err.splitlines()[-1] == line
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("below", ["", "home"])
def test_a_home_that_is_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    below: str,
) -> None:
    file = tmp_path / "file"
    file.touch()
    line = told_by(command, file / below, monkeypatch, capsys)
    assert str(file) in line
    assert "a file" in line
    assert "--home or HAVRE_HOME" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_home_of_another_user(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    usual = os.access

    def access(path: Path, mode: int) -> bool:
        return path != tmp_path and usual(path, mode)

    monkeypatch.setattr(home_option.os, "access", access)
    line = told_by(command, tmp_path, monkeypatch, capsys)
    assert "belongs to" in line
    assert "run havre as its owner" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes another user for it")
@pytest.mark.parametrize(("home", "told"), [("", "belongs to root"), ("home", "out of reach")])
def test_a_home_of_root_is_told_to_others(home: str, told: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hv") as closed:
        root = Path(closed) / home
        if (pid := os.fork()) == 0:
            try:
                os.setgid(65534)
                os.setuid(65534)
                with pytest.raises(SettingInvalid, match=told):
                    home_of(root)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("command", ["up --detach --port 0", "up --port 0"])
def test_a_damaged_database(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    home = Home(tmp_path)
    home.make()
    home.database.write_bytes(b"this was one" * 1000)
    line = told_by(command, tmp_path, monkeypatch, capsys)
    assert f"{home.database} is damaged" in line
    assert "backup" in line


def test_a_database_that_is_damaged_further_in(tmp_path: Path) -> None:
    """Its first page says that it is one."""
    home = Home(tmp_path)
    home.make()
    database = Database(sqlite_url(home.database))
    beginning.begin(home, database, now=datetime.now(UTC))
    database.close()
    content = bytearray(home.database.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    home.database.write_bytes(content)
    again = Database(sqlite_url(home.database))
    with pytest.raises(StateUnavailable, match="is damaged") as refused:
        beginning.begin(home, again, now=datetime.now(UTC))
    assert "backup" in str(refused.value)
    again.close()


def test_what_nobody_foresaw_is_a_line_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(main, "app", fail)
    line = told_by("list", tmp_path, monkeypatch, capsys)
    assert "ZeroDivisionError: nobody foresaw it" in line
    [file] = tmp_path.rglob("traceback.txt")
    assert str(file) in line
    assert "in fail" in file.read_text()
