"""Keeps the home's port for its load balancer, whether that runs at the moment or not.

The supervisor binds the port so that no other program can, and never listens on it. Then it allows
the port to be shared: the load balancer, of the same user and with SO_REUSEPORT, binds it too.

Why in this order (Linux): bound with SO_REUSEADDR, connections left in TIME_WAIT by an earlier life
do not matter; with that switched off again, a program that sets SO_REUSEADDR itself, as nearly all
do, is refused.
"""

import errno
import socket

from havre.domain.errors import SettingInvalid

LAST_PORT = 65535


def reserve(host: str, port: int) -> socket.socket:
    """Bind a port that nobody has; 0 lets the system pick.

    Raises SettingInvalid when the port is taken or the host is not this machine's.
    """
    return _bind(host, port, shared=False)


def join(host: str, port: int) -> socket.socket:
    """Bind a port that this home's own load balancer serves at this moment."""
    return _bind(host, port, shared=True)


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    if not 0 <= port <= LAST_PORT:
        raise SettingInvalid(f"port must be 0 to {LAST_PORT}, not {port}")
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    except OSError as error:
        raise SettingInvalid(f"host {host!r} is not a name or IPv4 address known here") from error
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        reservation.bind(address)
    except OSError as error:
        reservation.close()
        raise SettingInvalid(_explain(host, port, error)) from error
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reservation


def _explain(host: str, port: int, error: OSError) -> str:
    number = error.errno
    if number == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken by another program; choose one with --port, "
            "or --port 0 to let the system pick"
        )
    if number == errno.EACCES:
        return f"port {port} may only be bound by root; choose one from 1024 on with --port"
    if number == errno.EADDRNOTAVAIL:
        return f"host {host} is not an address of this machine; choose another with --host"
    return f"cannot bind port {port} on {host}: {error}"
