"""Checks what an instance reports of itself. Pure.

User code may have replaced its keeper: a report with a figure of a kind or size that cannot be is
rejected as a whole; sentences are cut, and made text that every database takes.
"""

import re

MAX_COUNT = 1 << 53
"""Nothing that is counted or measured here is more."""
MAX_MEASURE = 1e9
MAX_MESSAGE_BYTES = 2000
"""Of a message that reaches a user, as UTF-8."""

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What cannot be shown or stored: control characters, halves of surrogate pairs."""


def text(value: object, limit: int) -> str:
    """A text of at most ``limit`` characters. Raises TypeError for what is not a text."""
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} is not a text")
    if len(value) > limit:
        value = f"{value[: limit - 1]}…"
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", value)


def shorten(message: str, between: str = " … ") -> str:
    """A message of at most `MAX_MESSAGE_BYTES`: ``between`` replaces its middle."""
    content = message.encode(errors="replace")
    if len(content) <= MAX_MESSAGE_BYTES:
        return message
    room = MAX_MESSAGE_BYTES - len(between.encode(errors="replace"))
    head, tail = content[: room * 2 // 3], content[-(room // 3) :]
    return f"{head.decode(errors='ignore')}{between}{tail.decode(errors='ignore')}"


def count(value: object, limit: int = MAX_COUNT) -> int:
    """A number of things, 0 to ``limit``. Raises ValueError, TypeError."""
    if type(value) is not int:
        raise TypeError(f"a {type(value).__name__} counts nothing")
    if not 0 <= value <= limit:
        raise ValueError(f"a count of less than 0 or more than {limit}")
    return value


def seconds(value: object, limit: float = MAX_MEASURE) -> float:
    """A time, or another measure, 0 to ``limit``. Raises ValueError, TypeError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"a {type(value).__name__} measures nothing")
    if not 0 <= value <= limit:
        raise ValueError(f"a measure of less than 0 or more than {limit:g}")
    return float(value)
