"""One range of bytes, as RFC 9110 reads it."""

import pytest
from starlette.exceptions import HTTPException

from havre.api.downloads import parse_range


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-5", (2, 6)),
        ("bytes=2-500", (2, 10)),
        ("bytes=2-", (2, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-300", (0, 10)),
        ("Bytes = 1 - 2", (1, 3)),
    ],
)
def test_a_range_is_read(stated, expected):
    assert parse_range(stated, 10) == expected


@pytest.mark.parametrize(
    "stated",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=a-b",
    ],
)
def test_what_is_not_one_range_is_ignored(stated):
    assert parse_range(stated, 10) is None


@pytest.mark.parametrize("stated", ["bytes=10-", "bytes=99999999999999999999-", "bytes=-0"])
def test_a_range_without_a_byte_is_refused(stated):
    with pytest.raises(HTTPException) as refused:
        parse_range(stated, 10)
    assert refused.value.status_code == 416
    assert refused.value.headers == {"content-range": "bytes */10"}
