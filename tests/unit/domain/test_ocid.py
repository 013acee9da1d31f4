import re

import pytest

from havre.domain.ocid import DEPLOYMENT_OCID_PATTERN, Kind, is_ocid, new_ocid, new_short_id


@pytest.mark.parametrize("kind", list(Kind))
def test_a_new_ocid_has_its_own_kind_only(kind):
    ocid = new_ocid(kind)
    assert is_ocid(ocid)
    assert [other for other in Kind if is_ocid(ocid, other)] == [kind]
    assert len(ocid) <= 255


@pytest.mark.parametrize(
    "text",
    ["", "ocid1", "ocid1.datasciencemodel", "ocid1.x.oc1.iad.", "ocid1.x.oc1.iad.A", "a b", "\0"],
)
def test_what_is_no_ocid(text):
    assert not is_ocid(text)
    assert not is_ocid(f"{new_ocid(Kind.MODEL)}\n")


def test_real_tenancies_have_no_region():
    assert is_ocid("ocid1.tenancy.oc1..aaaaaaaa", Kind.TENANCY)
    assert new_ocid(Kind.TENANCY).startswith("ocid1.tenancy.oc1..")


def test_ids_do_not_repeat():
    assert len({new_ocid(Kind.MODEL) for _ in range(1000)}) == 1000
    assert {len(new_short_id()) for _ in range(100)} == {12}


def test_the_pattern_fits_deployments_and_nothing_else():
    pattern = re.compile(DEPLOYMENT_OCID_PATTERN)
    assert pattern.fullmatch(new_ocid(Kind.DEPLOYMENT))
    assert not pattern.fullmatch(new_ocid(Kind.MODEL))
    assert not pattern.fullmatch(f"{new_ocid(Kind.DEPLOYMENT)}/x")
