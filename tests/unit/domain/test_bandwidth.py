"""What a bandwidth lets through, in words."""

import pytest

from havre.domain.bandwidth import in_bytes, in_requests
from havre.domain.deployment import NO_CAP_MBPS


@pytest.mark.parametrize(
    ("mbps", "asked", "answered", "told"),
    [
        (10, 77_000, 200, "about 16 requests a second"),
        (10, 200, 77_000, "about 16 requests a second"),
        (10, 10_000_000, 10, "about 0.12 requests a second"),
        (10, 100, 100, "about 12,500 requests a second"),
        (10, 0, 0, "about 1,250,000 requests a second"),
    ],
)
def test_the_direction_that_carries_more_decides(mbps, asked, answered, told):
    [line] = in_requests(mbps, asked_bytes=asked, answered_bytes=answered)
    assert told in line
    assert f"{asked:,} bytes" in line
    assert f"answered with {answered:,}" in line


def test_in_bytes():
    assert in_bytes(8) == [
        "The bandwidth of 8 Mbps lets through 1,000,000 bytes of bodies a second in each "
        "direction; more are held back."
    ]


def test_without_a_cap_there_is_nothing_to_tell():
    assert in_bytes(NO_CAP_MBPS) == in_requests(NO_CAP_MBPS, asked_bytes=1, answered_bytes=1) == []
