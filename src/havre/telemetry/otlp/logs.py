"""Exports logs to an OpenTelemetry collector, if one is configured.

Nothing waits in memory: entries are read from segments, and a file holds the progress. So a
collector that is away for hours gets everything that retention has kept; what was sent just before
this process died, or before segments were merged, may arrive a second time, with the same
``log.record.uid``.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from havre.domain.logs import Category
from havre.durable import write_file
from havre.home import Home
from havre.telemetry.counters import Counters
from havre.telemetry.files import layout
from havre.telemetry.files.duck import connect
from havre.telemetry.files.layout import Segment
from havre.telemetry.files.schema import COLUMNS, select_parquet
from havre.telemetry.otlp import encoding
from havre.telemetry.otlp.sender import Delivery, OtlpSender

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAME = "otlp.json"
INTERVAL_S = 2.0
BATCH = 500
BATCH_BYTES = 1024 * 1024
LATE_MS = 2000
"""An entry may be in a file that was closed so much later than one without it."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sent:
    """Of one deployment and category: files up to ``number``, and ``rows`` of ``segment``."""

    number: int
    segment: tuple[int, int] = (0, 0)
    rows: int = 0


@dataclass(slots=True)
class _Progress:
    """Nothing older than ``since_ms`` is sent: that is when export was switched on."""

    since_ms: int
    sent: dict[str, _Sent] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, now_ms: int) -> "_Progress":
        try:
            stored = json.loads(path.read_bytes())
            sent = {
                key: _Sent(int(state["number"]), tuple(state["segment"]), int(state["rows"]))
                for key, state in stored["sent"].items()
            }
            return cls(int(stored["since_ms"]), sent)
        except FileNotFoundError:
            return cls(now_ms)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            _log.error("%s cannot be read: export starts again, from now on", path)
            return cls(now_ms)

    def store(self, path: Path) -> None:
        sent = {
            key: {"number": state.number, "segment": state.segment, "rows": state.rows}
            for key, state in self.sent.items()
        }
        write_file(path, json.dumps({"since_ms": self.since_ms, "sent": sent}).encode())


def forget(home: Home) -> None:
    """Export is off: when it is switched on again, it starts from then."""
    (home.telemetry / NAME).unlink(missing_ok=True)


class LogExport:
    """A collector for a thread of its own: it waits for the network."""

    name = "log export"

    def __init__(
        self,
        home: Home,
        sender: OtlpSender,
        counters: Counters,
        *,
        is_stopping: Callable[[], bool],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._home = home
        self._delivery = Delivery(sender, counters, "logs")
        self._is_stopping = is_stopping
        self._interval_s = interval_s
        self._path = home.telemetry / NAME
        self._progress: _Progress | None = None
        self._connection: DuckDBPyConnection | None = None

    def collect(self, now_ms: int) -> None:
        """Send new entries. Raises OSError, duckdb.Error, SettingInvalid."""
        if not self._delivery.is_due:
            return
        self._delivery.wait(self._interval_s)
        if self._progress is None:
            self._progress = _Progress.load(self._path, now_ms)
            self._progress.store(self._path)
        for category in Category:
            for deployment in layout.deployments(self._home, category):
                if not self._send_all(self._progress, category, deployment):
                    return

    def _send_all(self, progress: _Progress, category: Category, deployment: str) -> bool:
        """False if the collector accepts no more for now."""
        folder = self._home.telemetry / category / deployment
        closed = layout.closed_files(layout.closed_folder(self._home, category, deployment))
        segments = sorted(
            layout.current_segments(layout.segments(folder), closed),
            key=lambda segment: segment.first,
        )
        sent = progress.sent.setdefault(f"{category}/{deployment}", _Sent(progress.since_ms))
        for segment in segments:
            if segment.last <= sent.number:
                continue
            # Numbers increase: nothing after one that is still to be converted may be sent.
            if any(number < segment.first for number in closed if number > sent.number):
                break
            if not self._send(progress, sent, category, segment):
                return False
        return True

    def _send(self, progress: _Progress, sent: _Sent, category: Category, segment: Segment) -> bool:
        which = (segment.first, segment.last)
        skipped = sent.rows if sent.segment == which else 0
        for deployment, batch in self._batches(category, segment, sent, skipped):
            body = encoding.logs(batch, category=category, deployment=deployment)
            if self._is_stopping() or not self._delivery.deliver(body, len(batch)):
                return False
            skipped += len(batch)
            sent.segment, sent.rows = which, skipped
            progress.store(self._path)
        sent.number, sent.segment, sent.rows = segment.last, (0, 0), 0
        progress.store(self._path)
        return True

    def _batches(
        self, category: Category, segment: Segment, sent: _Sent, skipped: int
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Pairs of deployment and entries; only unrouted entries have several deployments."""
        if self._connection is None:
            self._connection = connect(memory_mb=128)
        # Part of a merged segment may have been sent before the merge.
        later = sent.number - LATE_MS if segment.first <= sent.number else 0
        content = select_parquet(category, [segment.path])
        result = self._connection.execute(
            f"SELECT * FROM ({content}) WHERE ingested > ? "
            "ORDER BY deployment, time, position, id OFFSET ?",
            [later, skipped],
        )
        batch: list[dict[str, Any]] = []
        size = 0
        while rows := result.fetchmany(BATCH):
            for row in rows:
                entry = dict(zip(COLUMNS, row, strict=True))
                is_other = batch and batch[0]["deployment"] != entry["deployment"]
                if is_other or len(batch) >= BATCH or size > BATCH_BYTES:
                    yield str(batch[0]["deployment"] or ""), batch
                    batch, size = [], 0
                batch.append(entry)
                size += len(entry["message"] or "")
        if batch:
            yield str(batch[0]["deployment"] or ""), batch
