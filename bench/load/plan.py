"""What the load generator is told to do: requests, the answers they must get, and when."""

import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and the one answer that is right.

    ``request``: the whole HTTP request. ``answer``: the body. Where ``mask`` has a 0 the answer may
    have another byte; it is as long as ``answer``.
    """

    request: bytes
    answer: bytes
    mask: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """A request of an open loop: seconds from the start, and the number of its exchange."""

    at_s: float
    exchange: int


def http_request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def mask_of(answers: Sequence[bytes]) -> bytes | None:
    """Where a server's answers to one request agree; None if they are not even equally long.

    A server that puts an id or a time into its answers is checked on everything else.
    """
    first = answers[0]
    if any(len(answer) != len(first) for answer in answers):
        return None
    return bytes(255 if len(set(column)) == 1 else 0 for column in zip(*answers, strict=True))


def encode(exchanges: Sequence[Exchange], schedule: Sequence[Due] = ()) -> bytes:
    """The plan as load.c reads it."""
    parts = [struct.pack("<I", len(exchanges))]
    for one in exchanges:
        parts += [struct.pack("<I", len(one.request)), one.request]
        parts += [struct.pack("<I", len(one.answer)), one.answer, one.mask]
    parts.append(struct.pack("<Q", len(schedule)))
    parts += [struct.pack("<QII", round(due.at_s * 1e9), due.exchange, 0) for due in schedule]
    return b"".join(parts)


def arrivals(per_second: float, seconds: float, *, seed: int, exchange: int = 0) -> list[Due]:
    """Independent clients: exponential gaps, the same ones for each seed."""
    gaps = random.Random(seed)
    due: list[Due] = []
    at_s = gaps.expovariate(per_second)
    while at_s < seconds:
        due.append(Due(at_s, exchange))
        at_s += gaps.expovariate(per_second)
    return due


def every(period_s: float, seconds: float, *, exchange: int) -> list[Due]:
    """One request per period, the first after half of one."""
    count = int((seconds - period_s / 2) // period_s) + 1
    return [Due(period_s * (number + 0.5), exchange) for number in range(count)]


def merged(*schedules: Iterable[Due]) -> list[Due]:
    return sorted((due for one in schedules for due in one), key=lambda due: due.at_s)
