"""The access log is collected: the live file is closed now and then, and what is closed converted.

Envoy goes on writing to a file that was renamed until it opens another, which it does when it is
asked to; one that has written nothing since it was started, with its first line. So a closed file
is whole as soon as there is a live one, and not before.
"""

import logging
import time
from pathlib import Path
from typing import Protocol

from havre.domain.errors import Unavailable
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.collecting import Tally
from havre.telemetry.conversion import Converter, give_up_oldest

CLOSE_AFTER_S = 10.0
CLOSE_AT_BYTES = 16 * 1024 * 1024
LOOK_S = 10.0
AGAIN_S = 10.0
"""Pause after a conversion that failed, or a load balancer that opened no file."""

_log = logging.getLogger(__name__)


class LoadBalancer(Protocol):
    """What is asked of Envoy. Both raise Unavailable when it does not answer."""

    def reopen_logs(self) -> None: ...

    def failed_writes(self) -> int: ...


class AccessLog:
    """The collector. What it remembers is only when to act: all else is in the files.

    ``most_bytes`` bounds what waits for a conversion that fails.
    """

    name = "access log"

    def __init__(
        self,
        home: Home,
        balancer: LoadBalancer,
        converter: Converter,
        tally: Tally,
        *,
        most_bytes: int,
        close_after_s: float = CLOSE_AFTER_S,
    ) -> None:
        self._home = home
        self._live = layout.live_access(home)
        self._place = layout.closed_folder(home, Category.ACCESS, "")
        self._balancer = balancer
        self._converter = converter
        self._tally = tally
        self._most_bytes = most_bytes
        self._close_after_s = close_after_s
        self._losses = _Losses(balancer, tally)
        self._last_number: int | None = None
        self._live_since: float | None = None
        self._ask_again = 0.0
        self._not_before = 0.0

    def collect(self, now_ms: int) -> None:
        """One look. Raises OSError, Unavailable, duckdb.Error."""
        now = time.monotonic()
        self._losses.look(now)
        closed = layout.closed_files(self._place)
        is_whole = self._live.exists()
        if self._is_due(now):
            self._close(now_ms)
            self._ask(now)
        elif closed and not is_whole and now >= self._ask_again:
            self._ask(now)
        if is_whole and now >= self._not_before:
            self._convert(closed, now)

    def _is_due(self, now: float) -> bool:
        size = layout.size(self._live)
        if not size:
            self._live_since = None
            return False
        if self._live_since is None:
            self._live_since = now
        return size >= CLOSE_AT_BYTES or now >= self._live_since + self._close_after_s

    def _close(self, now_ms: int) -> None:
        if self._last_number is None:
            self._last_number = layout.last_number(self._home, Category.ACCESS)
        # The clock may have been set back.
        self._last_number = max(now_ms, self._last_number + 1)
        self._place.mkdir(mode=0o700, exist_ok=True)
        self._live.rename(self._place / layout.closed_name(self._last_number))
        self._live_since = None

    def _ask(self, now: float) -> None:
        self._ask_again = now + AGAIN_S
        self._balancer.reopen_logs()

    def _convert(self, closed: dict[int, Path], now: float) -> None:
        """All of them: one that fails does not stop the next, and is tried again."""
        failure: Exception | None = None
        for number, path in closed.items():
            try:
                self._converter.convert(Category.ACCESS, path, number, notice=self._losses.notice())
            except Exception as error:
                self._tally.add("failed_conversions", Category.ACCESS)
                failure = error
            else:
                self._losses.told()
        if failure is not None:
            self._not_before = now + AGAIN_S
            waiting = layout.closed_files(self._place).values()
            give_up_oldest(waiting, self._tally, Category.ACCESS, most_bytes=self._most_bytes)
            raise failure


class _Losses:
    """What Envoy could not write, and whether that has been told."""

    def __init__(self, balancer: LoadBalancer, tally: Tally) -> None:
        self._balancer = balancer
        self._tally = tally
        self._before: int | None = None
        self._untold = 0
        self._is_over = False
        self._next_look = 0.0

    def look(self, now: float) -> None:
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        try:
            failed = self._balancer.failed_writes()
        except Unavailable:
            return
        before = self._before if self._before is not None else failed
        more = failed - before if failed >= before else failed  # it may have been started anew
        self._before = failed
        self._is_over = more == 0
        if more:
            self._untold += more
            self._tally.add("failed_writes", Category.ACCESS, more)
            _log.error("%d writes of the access log failed: is the disk full?", more)

    def notice(self) -> str:
        if not self._untold or not self._is_over:
            return ""
        return (
            f"Entries before this one were lost: {self._untold} writes of the access log failed, "
            "each of up to half a second of all deployments' requests. The disk may have been full."
        )

    def told(self) -> None:
        if self._is_over:
            self._untold = 0
