from pathlib import Path

import pytest

from havre.domain.errors import IncorrectState, SettingInvalid
from havre.operate.bringup import check_same_address
from havre.operate.start import check_exposure
from havre.settings import load_settings

ABOUT = {"host": "127.0.0.1", "port": 9090, "url": "http://127.0.0.1:9090"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_may_be_open(tmp_path: Path, host: str) -> None:
    check_exposure(load_settings(tmp_path, flags={"host": host}, environ={}))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7"])
def test_an_open_server_is_not_shown_to_other_machines(tmp_path: Path, host: str) -> None:
    with pytest.raises(SettingInvalid, match=r"127\.0\.0\.1"):
        check_exposure(load_settings(tmp_path, flags={"host": host}, environ={}))


@pytest.mark.parametrize("flags", [{}, {"port": 9090}, {"port": 0}, {"host": "127.0.0.1"}])
def test_a_running_server_is_found_by_whoever_asks_for_nothing_else(
    tmp_path: Path, flags: dict[str, object]
) -> None:
    check_same_address(ABOUT, load_settings(tmp_path, flags=flags, environ={}), flags)


@pytest.mark.parametrize(
    ("flags", "environ"),
    [
        ({"port": 8080}, {}),
        ({"host": "127.0.0.2"}, {}),
        ({}, {"HAVRE_PORT": "9091"}),
    ],
)
def test_a_running_server_is_not_moved(
    tmp_path: Path, flags: dict[str, object], environ: dict[str, str]
) -> None:
    settings = load_settings(tmp_path, flags=flags, environ=environ)
    with pytest.raises(IncorrectState, match="havre down"):
        check_same_address(ABOUT, settings, flags)
