"""Collects what instances write, by deployment: what they print, and requests they captured.

The disk space of what has been read is freed, but for the end of each file; so a flood fills the
disk neither there nor, being rate-limited, here.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from havre.domain import instance_logs
from havre.domain.logs import Category
from havre.durable import make_folder
from havre.full_disk import DISK_FULL
from havre.home import Home
from havre.telemetry.counters import Counter, Counters
from havre.telemetry.files import layout
from havre.telemetry.files.converter import Converter
from havre.telemetry.files.layout import CAPTURE, EntryKind
from havre.telemetry.files.listing import Listing
from havre.telemetry.files.live_file import LiveFile
from havre.telemetry.logs import output_files
from havre.telemetry.logs.offsets import NAME, Offsets
from havre.telemetry.logs.ordering import US, positions_of
from havre.telemetry.logs.output_files import InstanceOutput, Source
from havre.telemetry.logs.tailer import Batch, RateLimit, Tailer

COLLECTED: tuple[EntryKind, ...] = (Category.PREDICT, CAPTURE)
INTERVAL_S = 1.0
BUDGET_S = 0.15
"""How long one pass may take for one deployment."""
KEEP_READABLE_BYTES = 1024 * 1024
"""The last bytes of each file stay, for people who read it."""
REPORT_INTERVAL_S = 10.0
CLOSE_AFTER_S = 30.0
FORGET_AFTER_S = 10.0
SWEEP_S = 3600.0
DAY_S = 86_400.0

_IDS = uuid.UUID("0b1f6c0e-5a57-4b0c-8f0e-5d3f0f1f7a44")

_log = logging.getLogger(__name__)


class InstanceCollector:
    """The collector. Beyond the files it remembers only when to act.

    ``max_bytes`` bounds what waits for a conversion that fails.
    """

    name = "instances' files"

    def __init__(
        self,
        home: Home,
        converter: Converter,
        counters: Counters,
        *,
        lines_per_second: int,
        retention_days: int,
        max_bytes: int,
        interval_s: float = INTERVAL_S,
        close_after_s: float = CLOSE_AFTER_S,
    ) -> None:
        self._home = home
        self._converter = converter
        self._counters = counters
        self._lines_per_second = lines_per_second
        self._retention_s = retention_days * DAY_S
        self._max_bytes = max_bytes
        self._interval_s = interval_s
        self._close_after_s = close_after_s
        self._listing = Listing(home.instance_logs)
        # Those with something left to collect; of the others there are segments at most.
        self._streams: dict[tuple[EntryKind, str], _CollectedStream] = {}
        self._has_resumed = False
        self._gone_since: dict[str, float] = {}
        self._next_collection = self._next_sweep = 0.0

    def collect(self, now_ms: int) -> None:
        """One pass. Raises the last error; the other deployments have been collected."""
        now = time.monotonic()
        if now < self._next_collection:
            return
        self._next_collection = now + self._interval_s
        self._resume_streams()
        instances = output_files.find(self._home, self._listing)
        sources: dict[tuple[EntryKind, str], list[Source]] = {key: [] for key in self._streams}
        for instance in instances:
            for source in instance.sources:
                sources.setdefault((source.kind, instance.deployment), []).append(source)
        failure: Exception | None = None
        for (kind, deployment), files in sources.items():
            stream = self._stream(kind, deployment)
            try:
                stream.collect(files, now_ms)
            except Exception as error:
                failure = error
            if stream.is_over and not files:
                del self._streams[kind, deployment]
        self._forget_ended(instances, now)
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self._sweep({instance.id for instance in instances})
        if failure is not None:
            raise failure

    def _resume_streams(self) -> None:
        """Resume what this process, or the one before it, has not finished."""
        if self._has_resumed:
            return
        for kind in COLLECTED:
            for deployment in layout.deployments(self._home, kind):
                if (layout.segments_folder(self._home, kind, deployment) / NAME).exists():
                    self._stream(kind, deployment)
        self._has_resumed = True

    def _stream(self, kind: EntryKind, deployment: str) -> "_CollectedStream":
        if (kind, deployment) not in self._streams:
            folder = layout.segments_folder(self._home, kind, deployment)
            live = LiveFile(
                folder,
                kind,
                self._converter,
                self._counters,
                max_bytes=self._max_bytes,
                close_after_s=self._close_after_s,
            )
            self._streams[kind, deployment] = _CollectedStream(
                kind,
                deployment,
                folder,
                live,
                self._counters,
                lines_per_second=self._lines_per_second,
            )
        return self._streams[kind, deployment]

    def _forget_ended(self, instances: Sequence[InstanceOutput], now: float) -> None:
        """Forget instances that are gone and whose files have been read to the end."""
        gone = {instance.id: instance for instance in instances if not instance.is_alive}
        self._gone_since = {
            instance_id: self._gone_since.get(instance_id, now) for instance_id in gone
        }
        for instance_id, since in self._gone_since.items():
            instance = gone[instance_id]
            if now >= since + FORGET_AFTER_S and self._has_read(instance):
                instance.about.unlink(missing_ok=True)

    def _has_read(self, instance: InstanceOutput) -> bool:
        return all(
            self._stream(source.kind, instance.deployment).has_read([source])
            for source in instance.sources
        )

    def _sweep(self, known: set[str]) -> None:
        """Remove keepers' logs that are older than the retention of entries."""
        for path in self._home.instance_logs.glob("*.log"):
            instance_id = path.name.partition(".")[0]
            if (
                instance_id not in known
                and path.name == instance_logs.of_keeper(instance_id)
                and path.lstat().st_mtime < time.time() - self._retention_s
            ):
                path.unlink(missing_ok=True)


class _CollectedStream:
    """What is collected of one kind and one deployment, and how far."""

    def __init__(
        self,
        kind: EntryKind,
        deployment: str,
        folder: Path,
        live: LiveFile,
        counters: Counters,
        *,
        lines_per_second: int,
    ) -> None:
        self._kind: EntryKind = kind
        self._deployment = deployment
        self._folder = folder
        self._live = live
        self._counters = counters
        self._rate_limit = RateLimit(lines_per_second)
        self._tailer = Tailer(kind, self._rate_limit)
        self._offsets: Offsets | None = None
        self._is_stored = True
        self._freed: dict[str, int] = {}
        self._reported_at = float("-inf")
        self.is_over = False
        """Nothing is left to collect; there are segments at most."""

    def collect(self, sources: Sequence[Source], now_ms: int) -> None:
        """Raises OSError, duckdb.Error."""
        self.is_over = not sources and not (self._folder / NAME).exists()
        if self.is_over:
            return
        make_folder(self._folder)
        offsets = self._resume(now_ms)
        self._rate_limit.refill((now_ms - offsets.at_ms) / 1000)
        offsets.at_ms = now_ms
        self._prune(offsets, sources)
        until = time.monotonic() + BUDGET_S
        reads = [
            self._tailer.read(offsets, source, now_ms=now_ms, until=until) for source in sources
        ]
        batches = [batch for batch in reads if batch is not None]
        self._write(offsets, batches, now_ms)
        for batch in batches:
            self._release(batch)
        if self._live.is_due(offsets.live_bytes):
            self._live.close(now_ms)
            offsets.live_bytes = 0
            self._store(offsets)
        self._live.convert()
        if not sources and offsets.is_empty and not layout.closed_files(self._folder):
            self._forget()

    def has_read(self, sources: Iterable[Source]) -> bool:
        """Whether only keepers' logs are left of them, and these have been read to the end."""
        offsets = self._offsets
        if offsets is None or not self._is_stored:
            return False
        for source in sources:
            offset = offsets.files.get(source.key)
            size = layout.file_size(source.path)
            if source.copy is not None and size is not None:
                return False
            if size and (offset is None or offset.at < size):
                return False
        return True

    def _resume(self, now_ms: int) -> Offsets:
        if self._offsets is None:
            offsets = Offsets.load(self._folder, now_ms)
            # What lies beyond may be incomplete: it is read again.
            offsets.live_bytes = self._live.resume(offsets.live_bytes)
            self._offsets = offsets
        return self._offsets

    def _prune(self, offsets: Offsets, sources: Sequence[Source]) -> None:
        for key in set(offsets.files) - {source.key for source in sources}:
            del offsets.files[key]
            self._tailer.forget(key)
            self._freed.pop(key, None)
            self._is_stored = False

    def _forget(self) -> None:
        (self._folder / NAME).unlink()
        self.is_over = True
        self._offsets = None
        with contextlib.suppress(OSError):  # it has segments
            self._folder.rmdir()

    def _write(self, offsets: Offsets, batches: Sequence[Batch], now_ms: int) -> None:
        for batch in batches:
            offsets.dropped_lines += batch.dropped_lines
            offsets.unread_bytes += batch.unread_bytes
            self._counters.add(Counter.DROPPED, self._kind, batch.dropped_lines)
        lines = [line for batch in batches for line in self._lines_of(batch, now_ms)]
        report = self._unreported(offsets)
        notice = self._notice(offsets, report, now_ms)
        has_moved = any(batch.offset.at != batch.before for batch in batches)
        if not (lines or report or has_moved) and self._is_stored:
            return
        try:
            if lines or notice:
                text = "".join([*lines, *notice])
                offsets.live_bytes += self._live.append(text, offsets.live_bytes)
        except OSError as error:
            self._keep_for_later(offsets, batches)
            if error.errno not in DISK_FULL:
                raise
            _log.error("%s/%s cannot be written: %s", self._kind, self._deployment, error)
            return
        if report:
            if not notice:
                _log.warning("%s/%s: %s", self._kind, self._deployment, report)
            offsets.mark_reported()
            self._reported_at = time.monotonic()
        self._store(offsets)

    def _store(self, offsets: Offsets) -> None:
        self._is_stored = False
        offsets.store(self._folder)
        self._is_stored = True

    def _lines_of(self, batch: Batch, now_ms: int) -> Iterator[str]:
        source, offset = batch.source, batch.offset
        times = [entry.time_ms for entry in batch.entries]
        positions = positions_of(times, after=offset.last, now_ms=now_ms)
        for entry, position in zip(batch.entries, positions, strict=True):
            offset.last = position
            yield self._line(
                f"{source.key}/{offset.life}/{entry.at}",
                position,
                now_ms,
                entry.fields,
                instance=source.instance,
                copy=source.copy,
                revision=source.revision,
            )

    def _unreported(self, offsets: Offsets) -> str:
        """A sentence about lines that were not kept, if it is time to report them; else empty."""
        if not offsets.has_unreported or time.monotonic() < self._reported_at + REPORT_INTERVAL_S:
            return ""
        parts = []
        if offsets.dropped_lines or offsets.unread_bytes:
            unread = f" ({offsets.unread_bytes} bytes unread)" if offsets.unread_bytes else ""
            parts.append(
                f"{offsets.dropped_lines} lines were dropped{unread}: "
                f"at most {self._rate_limit.rate} a second are kept"
            )
        if offsets.lost_lines:
            parts.append(f"{offsets.lost_lines} lines were lost: the disk was full")
        return "; ".join(parts)

    def _notice(self, offsets: Offsets, report: str, now_ms: int) -> list[str]:
        """The report as an entry; captured requests have none."""
        if not report or self._kind == CAPTURE:
            return []
        key = f"{self._deployment}/{offsets.born_ms}/{offsets.notices}"
        return [self._line(key, now_ms * US, now_ms, {"message": report})]

    def _line(
        self,
        key: str,
        position: int,
        now_ms: int,
        fields: Mapping[str, Any],
        **more: str | int | None,
    ) -> str:
        """``key`` identifies the entry, and is the same when its source is read again."""
        entry = {
            "deployment": self._deployment,
            "id": str(uuid.uuid5(_IDS, key)),
            "time": position // US,
            "position": position,
            "ingested": now_ms,
            **{
                name: value for name, value in {**fields, **more}.items() if value not in ("", None)
            },
        }
        return json.dumps(entry, ensure_ascii=True) + "\n"

    def _keep_for_later(self, offsets: Offsets, batches: Sequence[Batch]) -> None:
        """The disk is full: lines stay unread in their files, except those of a flood."""
        for batch in batches:
            if batch.size - batch.before <= 2 * KEEP_READABLE_BYTES:
                batch.offset.at = batch.before
                offsets.dropped_lines -= batch.dropped_lines
                continue
            offsets.lost_lines += batch.lines
            self._counters.add(Counter.LOST, self._kind, batch.lines)
            output_files.free(batch.source, batch.offset.at - KEEP_READABLE_BYTES)
            self._is_stored = False

    def _release(self, batch: Batch) -> None:
        """Free the disk space of what has been read, and remove files that are finished."""
        if not self._is_stored:
            return
        source, at = batch.source, batch.offset.at
        if source.is_over and source.copy is not None and at >= batch.size:
            output_files.remove(source)
            return
        freed = self._freed.get(source.key, 0)
        if at - KEEP_READABLE_BYTES >= freed + KEEP_READABLE_BYTES:
            self._freed[source.key] = at - KEEP_READABLE_BYTES
            output_files.free(source, at - KEEP_READABLE_BYTES)
