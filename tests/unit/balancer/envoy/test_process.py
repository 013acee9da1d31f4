from dataclasses import replace
from pathlib import Path

import pytest

from havre.balancer.base import Companion, OpenTo
from havre.balancer.envoy import watching
from havre.balancer.envoy.process import EnvoyProcess
from havre.home import Home
from havre.settings import Settings, load_settings
from havre.supervisor.protocol import BALANCER, Restart


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.balancer.mkdir()
    return home


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return replace(load_settings(tmp_path, environ={}), balancer_threads=2)


def prepare(home: Home, settings: Settings, *, is_running: bool = False) -> list[Companion]:
    process = EnvoyProcess(home)
    return list(
        process.prepare(
            settings, host="127.0.0.1", port=1, open_to=OpenTo(1), is_running=is_running
        )
    )


def test_it_needs_a_feed_beside_it_only_where_it_cannot_watch_its_files(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "obstacle", lambda: "")
    assert prepare(home, settings) == []
    monkeypatch.setattr(watching, "obstacle", lambda: "no more instances")
    feed = Companion("feed", "havre.balancer.envoy.feed", (str(home.feed_socket),))
    assert prepare(home, settings, is_running=True) == [], "it began with watching"
    assert prepare(home, settings) == [feed]
    monkeypatch.setattr(watching, "obstacle", lambda: "")
    assert prepare(home, settings, is_running=True) == [feed], "it began with asking"
    assert prepare(home, settings) == []


def test_the_supervisor_keeps_it_running(home: Home, settings: Settings) -> None:
    prepare(home, settings)
    spec = EnvoyProcess(home).spec(settings)
    assert spec.name == BALANCER
    assert spec.restart is Restart.ALWAYS
    assert spec.log == str(home.logs / "load-balancer.log")
    assert EnvoyProcess(home).spec(settings).digest == spec.digest
    other = replace(settings, balancer_threads=3)
    assert EnvoyProcess(home).spec(other).digest != spec.digest


def test_its_routes_are_what_was_published_last(home: Home) -> None:
    assert EnvoyProcess(home).routes() == {}
