from pathlib import Path

import pytest

from havre.domain.errors import IncorrectState
from havre.home import Home
from havre.operate import upgrade
from havre.release import current
from havre.settings import load_settings
from havre.supervisor.protocol import BALANCER, Phase, ProcessStatus


def about(**told: object) -> dict[str, object]:
    return {"version": current().version, "code": current().code, **told}


ENVOY = ProcessStatus(BALANCER, Phase.RUNNING, 1, 1)
RENEWED = ProcessStatus(BALANCER, Phase.RUNNING, 1, 1, renewed=True)


def test_nothing_is_behind_a_server_of_this_version() -> None:
    assert upgrade.change(about()) == ""
    assert upgrade.behind(about(), [ENVOY]) == []


def test_what_is_behind_is_told_with_its_remedy() -> None:
    [server, balancer] = upgrade.behind(about(version="0.0.1"), [RENEWED])
    assert "0.0.1" in server
    assert "`havre up`" in server
    assert "load balancer" in balancer
    assert "`havre down`" in balancer
    [other] = upgrade.behind(about(code="another"), [ENVOY])
    assert "other code" in other


def test_a_home_without_a_database_can_be_taken(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    upgrade.check(home, load_settings(tmp_path, environ={}))
    assert not home.database.exists(), "looking makes nothing"


def test_what_another_versions_records_name_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    home.make()
    monkeypatch.setattr(upgrade.records, "running_strangers", lambda _: {"i-a": None})
    with pytest.raises(IncorrectState, match=r"i-a.*`havre down`"):
        upgrade.check(home, load_settings(tmp_path, environ={}))
