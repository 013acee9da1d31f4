"""A home goes on with what it was begun with, or says what differs."""

from pathlib import Path
from typing import Any

import pytest

from havre import kept_settings
from havre.domain.errors import IncorrectState, InvalidParameter, SystemFault
from havre.home import Home
from havre.settings import Settings, load_settings

URL = "postgresql+psycopg://havre:secret@db.internal/havre"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def settings(home: Home, **stated: Any) -> Settings:
    environ = {f"HAVRE_{name.upper()}": str(value) for name, value in stated.items()}
    return load_settings(home.root, environ=environ)


def test_a_new_home_begins_with_whatever_is_stated(home: Home) -> None:
    kept_settings.check(home, settings(home, database_url=URL, auth="oci"))
    kept_settings.check_running(home, settings(home, auth="oci"))
    kept_settings.change(home, settings(home, auth="oci"), ["auth"])
    assert list(home.root.iterdir()) == [], "looking makes nothing"


@pytest.mark.parametrize(
    ("begun", "now", "told"),
    [
        ({"database_url": URL}, {}, ("SQLite in the home", "havre@db.internal/havre")),
        ({}, {"database_url": URL}, ("havre@db.internal/havre", "SQLite in the home")),
        (
            {"database_url": URL},
            {"database_url": URL.replace("/havre", "/other")},
            ("/other", "havre@db.internal/havre"),
        ),
        ({"artifact_store": "/srv/a"}, {}, ("the folder in the home", "/srv/a")),
        ({"auth": "oci"}, {}, ("auth was oci", "is off now")),
    ],
)
def test_a_difference_is_refused_with_both_values(
    home: Home, begun: dict[str, str], now: dict[str, str], told: tuple[str, str]
) -> None:
    kept_settings.keep(home, settings(home, **begun))
    [name] = {**begun, **now}
    for check in (kept_settings.check, kept_settings.check_running):
        with pytest.raises(IncorrectState) as refused:
            check(home, settings(home, **now))
        assert all(each in refused.value.message for each in told)
        assert f"--change {name}" in refused.value.message
        assert "secret" not in refused.value.message
    assert f"HAVRE_{name.upper()}" in str(_refusal(home, now))
    kept_settings.check(home, settings(home, **begun))
    kept_settings.check_running(home, settings(home, **begun))


def _refusal(home: Home, now: dict[str, str]) -> IncorrectState:
    with pytest.raises(IncorrectState) as refused:
        kept_settings.check(home, settings(home, **now))
    return refused.value


def test_what_shall_change_is_named_and_nothing_else_changes(home: Home) -> None:
    kept_settings.keep(home, settings(home, auth="oci", database_url=URL))
    now = settings(home)
    with pytest.raises(IncorrectState, match=r"auth was oci and is off now") as refused:
        kept_settings.check(home, now, changed=["database_url"])
    assert "database_url was" not in refused.value.message
    kept_settings.check(home, now, changed=["database_url", "auth"])
    kept_settings.change(home, now, ["auth"])
    kept_settings.check(home, settings(home, database_url=URL))
    with pytest.raises(InvalidParameter, match="database_url, artifact_store, auth"):
        kept_settings.check(home, now, changed=["autth"])


def test_passwords_are_not_kept_and_may_change(home: Home) -> None:
    kept_settings.keep(home, settings(home, database_url=URL))
    assert "secret" not in home.kept_settings.read_text()
    assert home.kept_settings.stat().st_mode & 0o077 == 0
    kept_settings.check(home, settings(home, database_url=URL.replace("secret", "p@ss:word")))
    in_query = "postgresql+psycopg:///havre?user=a&password=secret&host=/run"
    kept_settings.keep(home, settings(home, database_url=in_query))
    assert "secret" not in home.kept_settings.read_text()
    with pytest.raises(IncorrectState, match="user=a&host=/run"):
        kept_settings.check(home, settings(home))


def test_a_running_server_takes_no_other_setting_and_a_new_one_says_so(home: Home) -> None:
    kept_settings.keep(home, settings(home, capacity="strict", python_paths="/a:/b"))
    now = settings(home, python_paths="/a")
    kept_settings.check(home, now)
    [capacity, paths] = sorted(kept_settings.notes(home, now))
    assert "capacity was strict and is overcommit now" in capacity
    assert "python_paths was /a:/b and is /a now" in paths
    with pytest.raises(IncorrectState, match=r"strict and is overcommit now.*havre down"):
        kept_settings.check_running(home, now)
    elsewhere = load_settings(
        home.root, environ={"HAVRE_CAPACITY": "strict", "HAVRE_PYTHON_PATHS": "/a:/b"}
    )
    kept_settings.check_running(home, elsewhere)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"auth": 1}', "[" * 100_000])
def test_a_damaged_file_is_not_taken_for_a_new_home(home: Home, content: str) -> None:
    home.kept_settings.write_text(content)
    with pytest.raises(SystemFault, match=r"settings\.json is damaged"):
        kept_settings.check(home, settings(home))


@pytest.mark.parametrize("password", ["pa/ss", "p?s", "p#s", "p:s"])
def test_no_character_of_a_password_is_kept(home: Home, password: str) -> None:
    stated = settings(home, database_url=f"postgresql+psycopg://me:{password}@host/havre")
    kept_settings.keep(home, stated)
    assert '"postgresql+psycopg://me@host/havre"' in home.kept_settings.read_text()
