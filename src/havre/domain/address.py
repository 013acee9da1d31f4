"""Where an instance takes requests: a Unix socket, or a port of some machine.

As text: ``unix:/path/of/a/socket``, ``tcp://10.0.0.7:8080``, ``tcp://[::1]:8080``.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

UNIX, TCP = "unix:", "tcp://"


@dataclass(frozen=True, slots=True, order=True)
class UnixAddress:
    path: Path

    def __str__(self) -> str:
        return f"{UNIX}{self.path}"


@dataclass(frozen=True, slots=True, order=True)
class TcpAddress:
    """``host`` is an IP address: who knows the machine by a name resolves it first."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TCP}{host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse(text: str) -> Address:
    """Raises ValueError."""
    if text.startswith(UNIX) and text[len(UNIX) :].startswith("/"):
        return UnixAddress(Path(text[len(UNIX) :]))
    host, colon, port = text.removeprefix(TCP).rpartition(":")
    if not text.startswith(TCP) or not colon or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{text!r} is no address: unix:/PATH or tcp://IP:PORT")
    if host.startswith("["):
        host = host.removeprefix("[").removesuffix("]")
    return TcpAddress(str(ip_address(host)), int(port))
