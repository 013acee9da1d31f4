"""Accounts for users that no list of the machine has."""

from pathlib import Path

import pytest

from havre.supervisor import account
from havre.supervisor.private_view import shared_temporary

ROOT = "root:x:0:0:root:/root:/bin/bash\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, path in (("ACCOUNTS", tmp_path / "passwd"), ("GROUPS", tmp_path / "group")):
        monkeypatch.setattr(account, name, path)
    (tmp_path / "passwd").write_text(ROOT)
    (tmp_path / "group").write_text("root:x:0:\n")
    return tmp_path


def test_a_number_without_an_account_gets_one_beside_those_there_are(machine: Path) -> None:
    found = account.lists(70001, 70002, "/srv/home")
    assert found == {
        machine / "passwd": ROOT + "model:x:70001:70002:a model of havre:/srv/home:/bin/sh\n",
        machine / "group": "root:x:0:\nmodel:x:70002:\n",
    }


def test_who_has_an_account_keeps_it(machine: Path) -> None:
    assert account.lists(0, 0, "/x") == {}
    assert list(account.lists(0, 7, "/x")) == [machine / "group"]


def test_a_name_that_is_taken_is_not_taken_twice(machine: Path) -> None:
    (machine / "passwd").write_text(ROOT + "model:x:1000:1000::/home/model:/bin/sh\n")
    assert account.name_of(1000, machine / "passwd") == "model"
    assert account.name_of(70001, machine / "passwd") == "havre-model"


def test_where_the_machine_has_no_lists_there_is_nothing_to_add_to(machine: Path) -> None:
    (machine / "passwd").unlink()
    assert list(account.lists(70001, 70001, "/x")) == [machine / "group"]
    assert account.name_of(70001, machine / "passwd") == "model"


def test_which_temporary_folders_stay_the_machines() -> None:
    assert shared_temporary(["/usr/bin", "/srv/home"]) == {}
    assert shared_temporary(["/usr", "/tmp/h/home"]) == {"/tmp": "/tmp/h/home"}
