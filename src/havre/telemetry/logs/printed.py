"""Parses what a copy has printed into entries: a line with its request, or a whole traceback.

There are marks among the lines (``havre_copy.output`` writes them and documents the format). The
model owns the file, so it may hold anything, forged marks included: that spoils these entries and
nothing else. Every number is checked, and every entry has a bounded size.
"""

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from havre.domain import crash_report

MAX_LINE_BYTES = 16 * 1024
"""A longer line becomes several."""
MAX_TRACEBACK_BYTES = 64 * 1024
"""What follows is another entry."""
MAX_MARK_BYTES = 32 * 1024
MAX_REQUESTS = 64
MAX_REQUEST_LENGTH = 200
MAX_AGE_MS = 30 * 86_400_000
"""How far back a time may lie; others are replaced by now."""

_MARK = b"\x1e"
_OWN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z \[(?:keeper|check|copy \d+)\] ")
_ABOUT_REQUEST = re.compile(r"request ([!-~]{1,200}): ")
_TRACEBACK = re.compile(r"\s*(?:\+ Exception Group )?Traceback \(most recent call last\):")
_LINKS = ("During handling of the above", "The above exception was the direct cause")


@dataclass(frozen=True, slots=True)
class Printed:
    """An entry: the bytes from offset ``at`` to ``end``; ``requests`` is empty if it is of none.

    ``lines`` counts its lines.
    """

    at: int
    end: int
    time_ms: int
    message: str
    requests: tuple[str, ...]
    lines: int

    @property
    def size(self) -> int:
        """Characters."""
        return len(self.message)

    @property
    def fields(self) -> dict[str, str]:
        """By column of the stored entry."""
        return {"message": self.message, "request": ",".join(self.requests)}


@dataclass(frozen=True, slots=True)
class _Mark:
    """The requests that printed the bytes from ``begins`` to ``ends``. Times are epoch ms."""

    at: int
    end: int
    requests: tuple[str, ...]
    begins: int
    ends: int
    began_ms: int
    ended_ms: int
    lost: int


@dataclass(slots=True)
class _Line:
    at: int
    end: int
    text: str
    requests: tuple[str, ...] = ()
    time_ms: int | None = None
    is_known: bool = False


def read(data: bytes, at: int, *, settled_until: int, now_ms: int) -> tuple[list[Printed], int]:
    """The entries in ``data``, which is at offset ``at`` of its file, and the offset reached.

    Lines that no mark follows yet may be of a running request: they are left for the next pass,
    unless they end by the offset ``settled_until``: then they have waited long enough.
    """
    items = list(_split(data, at))
    _attribute(items)
    end = at
    lines: list[_Line] = []
    entries: list[Printed] = []
    for item in items:
        if isinstance(item, _Line):
            if not item.is_known and item.end > settled_until:
                break
            lines.append(item)
        elif item.lost:
            text = f"{item.lost} bytes printed by then were lost: the disk was full"
            entries.append(Printed(item.at, item.end, min(now_ms, item.ended_ms), text, (), 0))
        end = item.end
    following = now_ms
    for group in reversed(list(_group(lines))):
        entry = _entry(group, following, now_ms)
        if entry.message:
            entries.append(entry)
            following = entry.time_ms
    return sorted(entries, key=lambda entry: entry.at), end


def _split(data: bytes, at: int) -> Iterator[_Line | _Mark]:
    """Lines and marks in order. The last line may be incomplete."""
    offset, size = 0, len(data)
    while offset < size:
        stop = data.find(b"\n", offset) + 1 or size
        # Only the last such byte can start a mark: none has that byte within.
        mark_at = data.rfind(_MARK, max(offset, stop - MAX_MARK_BYTES), stop)
        mark = _mark(data[mark_at:stop], at + mark_at) if mark_at >= 0 else None
        until = stop if mark is None else mark_at
        while offset < until:
            part = min(until, offset + MAX_LINE_BYTES)
            text = data[offset:part].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
            yield _Line(at + offset, at + part, text)
            offset = part
        if mark is not None:
            yield mark
            offset = stop


def _mark(line: bytes, at: int) -> _Mark | None:
    if not (line.startswith(_MARK + b"{") and line.endswith(b"}\n")):
        return None
    try:
        mark = json.loads(line[len(_MARK) :])
        named = [_printable(request) for request in mark["requests"][:MAX_REQUESTS]]
        figures = [mark[name] for name in ("from", "to", "began", "ended")]
        lost = mark.get("lost", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if any(type(figure) is not int or not 0 <= figure < 1 << 62 for figure in (*figures, lost)):
        return None
    begins, ends, began_ms, ended_ms = figures
    requests = tuple(filter(None, named))
    # It is about nothing after itself.
    return _Mark(
        at, at + len(line), requests, min(begins, at), min(ends, at), began_ms, ended_ms, lost
    )


def _printable(request: object) -> str:
    return "".join(
        character for character in str(request)[:MAX_REQUEST_LENGTH] if "!" <= character <= "~"
    )


def _attribute(items: Sequence[_Line | _Mark]) -> None:
    """Give each line that a mark is about its requests and the time by which it was printed."""
    waiting: deque[_Line] = deque()
    for item in items:
        if isinstance(item, _Line):
            waiting.append(item)
            continue
        while waiting and waiting[0].at < item.ends:
            line = waiting.popleft()
            line.is_known = True
            if line.at >= item.begins:
                line.requests, line.time_ms = item.requests, item.ended_ms
            else:
                line.time_ms = item.began_ms


def _group(lines: Sequence[_Line]) -> Iterator[Sequence[_Line]]:
    """The lines of each entry: one line, or a traceback with our line that introduces it."""
    index = 0
    while index < len(lines):
        end = index + 1
        begins = index
        if _OWN.match(lines[index].text) and _is_together(lines, index, end):
            begins = end
        if _TRACEBACK.match(lines[begins].text):
            end = _end_of_traceback(lines, index, begins + 1)
        elif lines[index].text.startswith(crash_report.FIRST_WORDS):
            while _is_together(lines, index, end) and crash_report.is_part(lines[end].text):
                end += 1
        yield lines[index:end]
        index = end


def _end_of_traceback(lines: Sequence[_Line], first: int, index: int) -> int:
    """The line after the exception and all exceptions that are chained to it."""
    while True:
        while _is_together(lines, first, index) and lines[index].text[:1].isspace():
            index += 1
        if not _is_together(lines, first, index):
            return index
        if lines[index].text:
            index += 1  # the exception; its message may go on, indented
            while _is_together(lines, first, index) and lines[index].text[:1].isspace():
                index += 1
        link = index + 1
        leads_on = (
            _is_together(lines, first, link + 2)
            and not lines[index].text
            and lines[link].text.startswith(_LINKS)
            and not lines[link + 1].text
            and _TRACEBACK.match(lines[link + 2].text)
        )
        if not leads_on:
            return index
        index = link + 3


def _is_together(lines: Sequence[_Line], first: int, index: int) -> bool:
    """Whether a line can belong to the entry that starts with ``first``."""
    return (
        index < len(lines)
        and lines[index].requests == lines[first].requests
        and lines[index].end - lines[first].at <= MAX_TRACEBACK_BYTES
    )


def _entry(group: Sequence[_Line], following_ms: int, now_ms: int) -> Printed:
    """``following_ms``: when the next entry in the file was printed."""
    first = group[0]
    requests, time_ms = first.requests, first.time_ms
    if own := _OWN.match(first.text):
        # The line holds its time and its request.
        time_ms = _epoch_ms(own[1])
        about = _ABOUT_REQUEST.match(first.text, own.end())
        requests = requests or ((about[1],) if about else ())
    if time_ms is None or not now_ms - MAX_AGE_MS <= time_ms <= now_ms:
        time_ms = now_ms
    return Printed(
        at=first.at,
        end=group[-1].end,
        time_ms=min(time_ms, following_ms),
        message="\n".join(line.text for line in group).rstrip(),
        requests=requests,
        lines=len(group),
    )


def _epoch_ms(stamp: str) -> int | None:
    try:
        return round(datetime.fromisoformat(stamp).replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None
