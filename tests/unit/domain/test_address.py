from pathlib import Path

import pytest

from havre.domain.address import Address, TcpAddress, UnixAddress, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/i/a b.sock", UnixAddress(Path("/run/i/a b.sock"))),
        ("tcp://10.0.0.7:8080", TcpAddress("10.0.0.7", 8080)),
        ("tcp://[::1]:80", TcpAddress("::1", 80)),
    ],
)
def test_an_address_and_its_text(text: str, address: Address) -> None:
    assert parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/run/a.sock",
        "unix:a.sock",
        "unix:",
        "tcp://",
        "tcp://10.0.0.7",
        "tcp://:80",
        "tcp://a.host:80",
        "tcp://10.0.0.7:0",
        "tcp://10.0.0.7:65536",
        "tcp://10.0.0.7:+1",
        "10.0.0.7:80",
        "http://10.0.0.7:80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse(text)
