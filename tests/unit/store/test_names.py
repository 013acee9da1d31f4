"""Names of deployments are known while the database is away."""

import errno
from itertools import count
from pathlib import Path

import pytest

from havre import durable
from havre.cli.served import _remembered
from havre.domain.errors import Conflict, Unavailable
from havre.home import Home
from havre.store import names
from havre.store.names import PAUSE_S, RETRY_S, Names


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_what_was_told_is_read_until_it_is_gone(home: Home) -> None:
    assert names.read(home) == {}
    told = Names(home, count(step=PAUSE_S).__next__)
    told.set_name("gone", "")
    assert not home.names.exists(), "nothing is new"
    told.set_name("a", "iris")
    told.set_name("b", "iris")
    told.set_name("b", "rose")
    assert names.read(home) == {"a": "iris", "b": "rose"}
    written = home.names.stat().st_ino
    told.set_name("b", "rose")
    assert home.names.stat().st_ino == written
    told.set_name("a", "")
    assert names.read(home) == {"b": "rose"}


def test_after_a_start_what_was_known_is_known_until_all_there_are_are_listed(home: Home) -> None:
    before = Names(home, count(step=PAUSE_S).__next__)
    for key, name in (("a", "iris"), ("b", "rose"), ("c", "lily")):
        before.set_name(key, name)
    written = home.names.stat().st_ino
    again = Names(home, count(step=PAUSE_S).__next__)
    again.set_name("a", "iris")
    assert home.names.stat().st_ino == written, "nothing is new"
    again.set_name("a", "aster")
    assert names.read(home) == {"a": "aster", "b": "rose", "c": "lily"}, "it may go away now"
    again.keep_only({"a", "c", "not told of yet"})
    assert names.read(home) == {"a": "aster", "c": "lily"}


def test_many_names_at_once_are_few_writes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    now, writes = [0.0], list[Path]()
    write = durable.write_file

    def counted(path: Path, content: bytes) -> None:
        writes.append(path)
        write(path, content)

    monkeypatch.setattr("havre.store.names.durable.write_file", counted)
    told = Names(home, lambda: now[0])
    everyone = {str(number): f"name {number}" for number in range(100)}
    for key, name in everyone.items():
        told.set_name(key, name)
    now[0] += PAUSE_S
    told.set_name("0", "name 0")
    assert names.read(home) == everyone
    assert len(writes) == 2


@pytest.mark.parametrize("content", ["", "[]", "7", "[" * 100_000])
def test_a_damaged_file_is_written_anew(home: Home, content: str) -> None:
    home.names.write_text(content)
    assert names.read(home) == {}
    Names(home).set_name("a", "iris")
    assert names.read(home) == {"a": "iris"}


def test_a_full_disk_stops_nobody_and_is_tried_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    now = [0.0]
    told = Names(home, lambda: now[0])
    with monkeypatch.context() as full:
        full.setattr("havre.store.names.durable.write_file", refuse)
        told.set_name("a", "iris")
    told.set_name("a", "iris")
    assert not home.names.exists(), "not with every pass"
    now[0] += RETRY_S
    told.set_name("a", "iris")
    assert names.read(home) == {"a": "iris"}


def test_a_name_of_one_deployment_is_found_and_a_shared_name_is_not(home: Home) -> None:
    told = Names(home, count(step=PAUSE_S).__next__)
    for key, name in (("ocid1.a", "one"), ("ocid1.b", "two"), ("ocid1.c", "two")):
        told.set_name(key, name)
    assert _remembered(home, "one", "away") == "ocid1.a"
    with pytest.raises(Conflict, match=r"away.*ocid1\.b or ocid1\.c"):
        _remembered(home, "two", "away")
    with pytest.raises(Unavailable, match=r"away; no deployment called 'three'"):
        _remembered(home, "three", "away")
