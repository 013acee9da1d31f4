"""Logs go to an OpenTelemetry collector, if one was named.

Nothing waits in memory: what is sent is read from segments, and a file says how far. So a collector
that is away for hours gets everything that retention has kept; what was sent just before this
process died, or before segments were merged, may come a second time, with the same
``log.record.uid``.
"""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from havre.domain import otlp
from havre.domain.logs import Category
from havre.durable import write_file
from havre.home import Home
from havre.telemetry import layout
from havre.telemetry.collecting import Tally
from havre.telemetry.entries import COLUMNS, select_parquet
from havre.telemetry.layout import Segment
from havre.telemetry.otlp_sender import Delivery, OtlpSender
from havre.telemetry.sql import connect

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NAME = "otlp.json"
LOOK_S = 2.0
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
    """Nothing from before ``since_ms`` is sent: then it was switched on."""

    since_ms: int
    sent: dict[str, _Sent] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, now_ms: int) -> "_Progress":
        try:
            told = json.loads(path.read_bytes())
            sent = {
                key: _Sent(int(each["number"]), tuple(each["segment"]), int(each["rows"]))
                for key, each in told["sent"].items()
            }
            return cls(int(told["since_ms"]), sent)
        except FileNotFoundError:
            return cls(now_ms)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            _log.error("%s cannot be read: export begins anew, from now on", path)
            return cls(now_ms)

    def store(self, path: Path) -> None:
        sent = {
            key: {"number": each.number, "segment": each.segment, "rows": each.rows}
            for key, each in self.sent.items()
        }
        write_file(path, json.dumps({"since_ms": self.since_ms, "sent": sent}).encode())


def forget(home: Home) -> None:
    """Nothing is exported: should it be again, it begins then."""
    (home.telemetry / NAME).unlink(missing_ok=True)


class LogExport:
    """A collector for a thread of its own: it waits for the network."""

    name = "log export"

    def __init__(
        self,
        home: Home,
        sender: OtlpSender,
        tally: Tally,
        *,
        is_stopping: Callable[[], bool],
        look_s: float = LOOK_S,
    ) -> None:
        self._home = home
        self._delivery = Delivery(sender, tally, "logs")
        self._is_stopping = is_stopping
        self._look_s = look_s
        self._path = home.telemetry / NAME
        self._progress: _Progress | None = None
        self._connection: DuckDBPyConnection | None = None

    def collect(self, now_ms: int) -> None:
        """Send what is new. Raises OSError, duckdb.Error, SettingInvalid."""
        if not self._delivery.is_due:
            return
        self._delivery.wait(self._look_s)
        if self._progress is None:
            self._progress = _Progress.load(self._path, now_ms)
            self._progress.store(self._path)
        for category in Category:
            for deployment in layout.deployments(self._home, category):
                if not self._send_all(self._progress, category, deployment):
                    return

    def _send_all(self, progress: _Progress, category: Category, deployment: str) -> bool:
        """False if the collector does not take any more now."""
        place = self._home.telemetry / category / deployment
        closed = layout.closed_files(layout.closed_folder(self._home, category, deployment))
        found = sorted(layout.counting(layout.segments(place), closed), key=lambda each: each.first)
        sent = progress.sent.setdefault(f"{category}/{deployment}", _Sent(progress.since_ms))
        for segment in found:
            if segment.last <= sent.number:
                continue
            # Numbers are given in order: of one that is still to be converted nothing later counts.
            if any(number < segment.first for number in closed if number > sent.number):
                break
            if not self._send(progress, sent, category, segment):
                return False
        return True

    def _send(self, progress: _Progress, sent: _Sent, category: Category, segment: Segment) -> bool:
        which = (segment.first, segment.last)
        skipped = sent.rows if sent.segment == which else 0
        for deployment, batch in self._batches(category, segment, sent, skipped):
            body = otlp.logs(batch, category=category, deployment=deployment)
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
        """Deployment and entries of each; more than one deployment has only the unrouted's."""
        if self._connection is None:
            self._connection = connect(memory_mb=128)
        # Of what was merged after some of it was sent.
        later = sent.number - LATE_MS if segment.first <= sent.number else 0
        content = select_parquet(category, [segment.path])
        answer = self._connection.execute(
            f"SELECT * FROM ({content}) WHERE ingested > ? ORDER BY deployment, time, id OFFSET ?",
            [later, skipped],
        )
        batch: list[dict[str, Any]] = []
        size = 0
        while rows := answer.fetchmany(BATCH):
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
