"""Which deployment a name means, and how those of one name are told apart."""

from datetime import UTC, datetime, timedelta

import pytest

from havre.domain.errors import Conflict, NotFound
from havre.domain.namesakes import age, meant_by

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def row(number, state="ACTIVE", **old):
    created = NOW - timedelta(**(old or {"minutes": 5}))
    return {"id": f"ocid1.{number}", "lifecycleState": state, "timeCreated": created.isoformat()}


def test_a_name_means_its_only_deployment():
    assert meant_by("a", [row(1)], NOW)["id"] == "ocid1.1"


@pytest.mark.parametrize("state", ["DELETING", "DELETED"])
def test_one_that_is_on_its_way_out_is_meant_only_if_there_is_no_other(state):
    assert meant_by("a", [row(2, state), row(1, "CREATING")], NOW)["id"] == "ocid1.1"
    assert meant_by("a", [row(2, state)], NOW)["id"] == "ocid1.2"


def test_several_are_told_apart_by_state_age_and_ocid():
    rows = [row(2, "CREATING", seconds=12), row(1, "NEEDS_ATTENTION", days=3, hours=4)]
    with pytest.raises(Conflict) as refused:
        meant_by("a", rows, NOW)
    first, *others = refused.value.message.splitlines()
    assert "2 deployments are called 'a'" in first
    assert "by its OCID" in first
    assert [line.split() for line in others] == [
        ["CREATING", "12s", "old", "ocid1.2"],
        ["NEEDS_ATTENTION", "3d", "old", "ocid1.1"],
    ]


def test_a_name_that_nothing_has_leads_to_the_list():
    with pytest.raises(NotFound, match="havre list"):
        meant_by("a", [], NOW)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (90_000, "1d")],
)
def test_ages_are_in_their_largest_unit(seconds, told):
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == told


def test_the_api_s_moments_are_read():
    assert age("2026-03-04T11:59:18.123Z", NOW) == "41s"
