"""Collects the access log: closes the live file at intervals, and has closed files converted.

Envoy goes on writing to a renamed file until it opens a new one: on request, or, if it has written
nothing since its start, with its first line. So a closed file is complete as soon as there is a
live one, and not before.
"""

import logging
import time
from pathlib import Path
from typing import Protocol

from havre.domain.errors import Unavailable
from havre.domain.logs import Category
from havre.home import Home
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter, drop_oldest
from havre.telemetry.files.listing import Listing

CLOSE_AFTER_S = 10.0
CLOSE_AT_BYTES = 16 * 1024 * 1024
INTERVAL_S = 10.0
RETRY_S = 10.0
"""Pause after a failed conversion, or while the load balancer has opened no file."""

_log = logging.getLogger(__name__)


class EnvoyLogControl(Protocol):
    """What is needed of Envoy. Both raise Unavailable when it does not respond."""

    def reopen_logs(self) -> None: ...

    def failed_writes(self) -> int: ...


class AccessLog:
    """The collector. It remembers only when to act: all else is in the files.

    ``max_bytes`` bounds what waits for a conversion that fails.
    """

    name = "access log"

    def __init__(
        self,
        home: Home,
        balancer: EnvoyLogControl,
        converter: Converter,
        counters: Counters,
        *,
        max_bytes: int,
        close_after_s: float = CLOSE_AFTER_S,
    ) -> None:
        self._home = home
        self._live = layout.live_access(home)
        self._folder = layout.closed_folder(home, Category.ACCESS, "")
        self._listing = Listing(self._folder)
        self._balancer = balancer
        self._converter = converter
        self._counters = counters
        self._max_bytes = max_bytes
        self._close_after_s = close_after_s
        self._losses = _Losses(balancer, counters)
        self._last_number: int | None = None
        self._live_since: float | None = None
        self._next_request = 0.0
        self._not_before = 0.0

    def collect(self, now_ms: int) -> None:
        """One pass. Raises OSError, Unavailable, duckdb.Error."""
        now = time.monotonic()
        self._losses.check(now)
        closed = layout.closed_files(self._folder, self._listing.files())
        is_complete = self._live.exists()
        if self._is_due(now):
            self._close(now_ms)
            self._request_reopen(now)
        elif closed and not is_complete and now >= self._next_request:
            self._request_reopen(now)
        if is_complete and now >= self._not_before:
            self._convert(closed, now)

    def _is_due(self, now: float) -> bool:
        size = layout.file_size(self._live)
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
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._live.rename(self._folder / layout.closed_name(self._last_number))
        self._live_since = None

    def _request_reopen(self, now: float) -> None:
        self._next_request = now + RETRY_S
        self._balancer.reopen_logs()

    def _convert(self, closed: dict[int, Path], now: float) -> None:
        """All of them: one that fails does not stop the others, and is tried again."""
        failure: Exception | None = None
        for number, path in closed.items():
            try:
                self._converter.convert(Category.ACCESS, path, number, notice=self._losses.notice())
            except Exception as error:
                self._counters.add(Counter.CONVERSION_FAILURES, Category.ACCESS)
                failure = error
            else:
                self._losses.mark_reported()
        if failure is not None:
            self._not_before = now + RETRY_S
            waiting = layout.closed_files(self._folder).values()
            drop_oldest(waiting, self._counters, Category.ACCESS, max_bytes=self._max_bytes)
            raise failure


class _Losses:
    """Failed writes of Envoy that no notice has reported yet."""

    def __init__(self, balancer: EnvoyLogControl, counters: Counters) -> None:
        self._balancer = balancer
        self._counters = counters
        self._before: int | None = None
        self._unreported = 0
        self._is_over = False
        self._next_check = 0.0

    def check(self, now: float) -> None:
        if now < self._next_check:
            return
        self._next_check = now + INTERVAL_S
        try:
            failed = self._balancer.failed_writes()
        except Unavailable:
            return
        before = self._before if self._before is not None else failed
        new = failed - before if failed >= before else failed  # it may have been restarted
        self._before = failed
        self._is_over = new == 0
        if new:
            self._unreported += new
            self._counters.add(Counter.WRITE_FAILURES, Category.ACCESS, new)
            _log.error("%d writes of the access log failed: is the disk full?", new)

    def notice(self) -> str:
        if not self._unreported or not self._is_over:
            return ""
        return (
            f"Entries before this one were lost: {self._unreported} writes of the access log "
            "failed, each of up to half a second of all deployments' requests. The disk may have "
            "been full."
        )

    def mark_reported(self) -> None:
        if self._is_over:
            self._unreported = 0
