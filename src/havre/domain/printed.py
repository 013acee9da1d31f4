"""What a copy has printed, as entries: lines with the request that printed each, tracebacks whole.

Marks lie among the lines (``havre_copy.output`` writes them, and says how). The file is the model's
own, so anything may lie there, marks that are none included: that spoils these entries and nothing
else. Every figure read is checked, and every entry has a bounded size.
"""

import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

LONGEST_LINE = 16 * 1024
"""Bytes; what is longer becomes several lines."""
LONGEST_TRACEBACK = 64 * 1024
"""Bytes; what follows is another entry."""
LONGEST_MARK = 32 * 1024
MOST_REQUESTS = 64
LONGEST_REQUEST = 200
OLDEST_MS = 30 * 86_400_000
"""How far back a time may lie; another one is not believed."""

_MARK = b"\x1e"
_OWN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z \[(?:keeper|check|copy \d+)\] ")
_ABOUT_REQUEST = re.compile(r"request ([!-~]{1,200}): ")
_TRACEBACK = re.compile(r"\s*(?:\+ Exception Group )?Traceback \(most recent call last\):")
_CRASH = "Fatal Python error:"
_OF_A_CRASH = ("Current thread", "Thread 0x", "Extension modules", "<no Python frame>")
_LINKS = ("During handling of the above", "The above exception was the direct cause")


@dataclass(frozen=True, slots=True)
class Printed:
    """An entry: the bytes from ``at`` to ``end`` of the file; ``requests`` is empty if of none.

    ``lines`` counts those in it.
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
        """Columns of what is kept."""
        return {"message": self.message, "request": ",".join(self.requests)}


@dataclass(frozen=True, slots=True)
class _Mark:
    """Whose the bytes from ``begins`` to ``ends`` are. Times are epoch ms."""

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


def read(data: bytes, at: int, *, patience: int, now_ms: int) -> tuple[list[Printed], int]:
    """The entries that can be told of ``data``, which lies at ``at`` in its file; where they end.

    What no mark has followed yet may be a request's that goes on: it is left, unless it ends by
    ``patience`` (a place in the file): then it has been waited for long enough.
    """
    items = list(_split(data, at))
    _attribute(items)
    end = at
    taken: list[_Line] = []
    told: list[Printed] = []
    for item in items:
        if isinstance(item, _Line):
            if not item.is_known and item.end > patience:
                break
            taken.append(item)
        elif item.lost:
            text = f"{item.lost} bytes printed by then were lost: the disk was full"
            told.append(Printed(item.at, item.end, min(now_ms, item.ended_ms), text, (), 0))
        end = item.end
    following = now_ms
    for group in reversed(list(_group(taken))):
        entry = _entry(group, following, now_ms)
        if entry.message:
            told.append(entry)
            following = entry.time_ms
    return sorted(told, key=lambda entry: entry.at), end


def _split(data: bytes, at: int) -> Iterator[_Line | _Mark]:
    """Lines and marks in their order. The last line may not have ended."""
    here, size = 0, len(data)
    while here < size:
        stop = data.find(b"\n", here) + 1 or size
        # Only the last can be one: none has that byte within.
        mark_at = data.rfind(_MARK, max(here, stop - LONGEST_MARK), stop)
        mark = _mark(data[mark_at:stop], at + mark_at) if mark_at >= 0 else None
        until = stop if mark is None else mark_at
        while here < until:
            part = min(until, here + LONGEST_LINE)
            text = data[here:part].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
            yield _Line(at + here, at + part, text)
            here = part
        if mark is not None:
            yield mark
            here = stop


def _mark(line: bytes, at: int) -> _Mark | None:
    if not (line.startswith(_MARK + b"{") and line.endswith(b"}\n")):
        return None
    try:
        told = json.loads(line[len(_MARK) :])
        named = [_printable(request) for request in told["requests"][:MOST_REQUESTS]]
        figures = [told[name] for name in ("from", "to", "began", "ended")]
        lost = told.get("lost", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if any(type(figure) is not int or not 0 <= figure < 1 << 62 for figure in (*figures, lost)):
        return None
    begins, ends, began_ms, ended_ms = figures
    requests = tuple(filter(None, named))
    # It tells of nothing that comes after it.
    return _Mark(
        at, at + len(line), requests, min(begins, at), min(ends, at), began_ms, ended_ms, lost
    )


def _printable(request: object) -> str:
    return "".join(each for each in str(request)[:LONGEST_REQUEST] if "!" <= each <= "~")


def _attribute(items: Sequence[_Line | _Mark]) -> None:
    """Give each line that a mark tells of its requests and the time by which it was printed."""
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
    """What is one entry: a line, or a traceback with the line of ours that tells of it."""
    here = 0
    while here < len(lines):
        end = here + 1
        begins = here
        if _OWN.match(lines[here].text) and _is_together(lines, here, end):
            begins = end
        if _TRACEBACK.match(lines[begins].text):
            end = _end_of_traceback(lines, here, begins + 1)
        elif lines[here].text.startswith(_CRASH):
            while _is_together(lines, here, end) and _is_of_a_crash(lines[end].text):
                end += 1
        yield lines[here:end]
        here = end


def _end_of_traceback(lines: Sequence[_Line], first: int, here: int) -> int:
    """Behind the exception, and those that it followed from or that followed from it."""
    while True:
        while _is_together(lines, first, here) and lines[here].text[:1].isspace():
            here += 1
        if not _is_together(lines, first, here):
            return here
        if lines[here].text:
            here += 1  # the exception; its own text may go on, indented
            while _is_together(lines, first, here) and lines[here].text[:1].isspace():
                here += 1
        link = here + 1
        leads_on = (
            _is_together(lines, first, link + 2)
            and not lines[here].text
            and lines[link].text.startswith(_LINKS)
            and not lines[link + 1].text
            and _TRACEBACK.match(lines[link + 2].text)
        )
        if not leads_on:
            return here
        here = link + 3


def _is_together(lines: Sequence[_Line], first: int, here: int) -> bool:
    """Whether a line can belong to the entry that began with ``first``."""
    return (
        here < len(lines)
        and lines[here].requests == lines[first].requests
        and lines[here].end - lines[first].at <= LONGEST_TRACEBACK
    )


def _is_of_a_crash(text: str) -> bool:
    return not text or text[0].isspace() or text.startswith(_OF_A_CRASH)


def _entry(group: Sequence[_Line], following_ms: int, now_ms: int) -> Printed:
    """``following_ms``: when what follows in the file was printed."""
    first = group[0]
    requests, time_ms = first.requests, first.time_ms
    if own := _OWN.match(first.text):
        # Its time and its request are in the line.
        time_ms = _epoch_ms(own[1])
        about = _ABOUT_REQUEST.match(first.text, own.end())
        requests = requests or ((about[1],) if about else ())
    if time_ms is None or not now_ms - OLDEST_MS <= time_ms <= now_ms:
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
