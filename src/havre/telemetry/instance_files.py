"""What instances write is collected, by deployment: what they print, and requests they captured.

What has been read is given back to the disk, but for the last of each file; so a flood fills it
neither there nor, being bounded, here.
"""

import contextlib
import json
import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from havre.domain import instance_logs
from havre.domain.logs import Category
from havre.durable import DISK_FULL, make_folder
from havre.home import Home
from havre.telemetry import layout, output_files
from havre.telemetry.collecting import Tally
from havre.telemetry.conversion import Converter
from havre.telemetry.layout import CAPTURE, Kind
from havre.telemetry.live_file import LiveFile
from havre.telemetry.output_files import Instance, Source
from havre.telemetry.positions import NAME, Positions
from havre.telemetry.reading import Allowance, Entry, Reading, Taken

COLLECTED: tuple[Kind, ...] = (Category.PREDICT, CAPTURE)
LOOK_S = 1.0
BUDGET_S = 0.15
"""For one deployment at a time."""
KEEP_READABLE = 1024 * 1024
"""The last bytes of each file stay, for people who look at it."""
TELL_AGAIN_S = 10.0
CLOSE_AFTER_S = 30.0
GONE_FOR_S = 10.0
SWEEP_S = 3600.0
DAY_S = 86_400.0

_IDS = uuid.UUID("0b1f6c0e-5a57-4b0c-8f0e-5d3f0f1f7a44")

_log = logging.getLogger(__name__)


class InstanceFiles:
    """The collector. What it remembers beyond the files is only when to act.

    ``most_bytes`` bounds what waits for a conversion that fails.
    """

    name = "instances' files"

    def __init__(
        self,
        home: Home,
        converter: Converter,
        tally: Tally,
        *,
        lines_per_second: int,
        retention_days: int,
        most_bytes: int,
        look_s: float = LOOK_S,
        close_after_s: float = CLOSE_AFTER_S,
    ) -> None:
        self._home = home
        self._converter = converter
        self._tally = tally
        self._lines_per_second = lines_per_second
        self._retention_s = retention_days * DAY_S
        self._most_bytes = most_bytes
        self._look_s = look_s
        self._close_after_s = close_after_s
        self._streams: dict[tuple[Kind, str], _Stream] = {}
        self._gone_since: dict[str, float] = {}
        self._next_look = self._next_sweep = 0.0

    def collect(self, now_ms: int) -> None:
        """One look. Raises what went wrong last; the other deployments have been collected."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self._look_s
        instances = output_files.find(self._home)
        sources: dict[tuple[Kind, str], list[Source]] = {
            (kind, deployment): []
            for kind in COLLECTED
            for deployment in layout.deployments(self._home, kind)
        }
        for instance in instances:
            for source in instance.sources:
                sources.setdefault((source.kind, instance.deployment), []).append(source)
        failure: Exception | None = None
        for (kind, deployment), found in sources.items():
            try:
                self._stream(kind, deployment).collect(found, now_ms)
            except Exception as error:
                failure = error
        self._let_go(instances, now)
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_S
            self._sweep({instance.id for instance in instances})
        if failure is not None:
            raise failure

    def _stream(self, kind: Kind, deployment: str) -> "_Stream":
        if (kind, deployment) not in self._streams:
            folder = layout.folder(self._home, kind, deployment)
            live = LiveFile(
                folder,
                kind,
                self._converter,
                self._tally,
                deployment=deployment,
                most_bytes=self._most_bytes,
                close_after_s=self._close_after_s,
            )
            self._streams[kind, deployment] = _Stream(
                kind,
                deployment,
                folder,
                live,
                self._tally,
                lines_per_second=self._lines_per_second,
            )
        return self._streams[kind, deployment]

    def _let_go(self, instances: Sequence[Instance], now: float) -> None:
        """Forget instances that are gone and have been read to their end."""
        gone = {instance.id: instance for instance in instances if not instance.lives}
        self._gone_since = {each: self._gone_since.get(each, now) for each in gone}
        for instance_id, since in self._gone_since.items():
            instance = gone[instance_id]
            if now >= since + GONE_FOR_S and self._has_read(instance):
                instance.about.unlink(missing_ok=True)

    def _has_read(self, instance: Instance) -> bool:
        return all(
            self._stream(source.kind, instance.deployment).has_read([source])
            for source in instance.sources
        )

    def _sweep(self, known: set[str]) -> None:
        """Remove keepers' logs that are older than entries may be."""
        for path in self._home.instance_logs.glob("*.log"):
            instance_id = path.name.partition(".")[0]
            if (
                instance_id not in known
                and path.name == instance_logs.of_keeper(instance_id)
                and path.lstat().st_mtime < time.time() - self._retention_s
            ):
                path.unlink(missing_ok=True)


class _Stream:
    """What is collected of one kind and one deployment, and how far it has come."""

    def __init__(
        self,
        kind: Kind,
        deployment: str,
        folder: Path,
        live: LiveFile,
        tally: Tally,
        *,
        lines_per_second: int,
    ) -> None:
        self._kind: Kind = kind
        self._deployment = deployment
        self._folder = folder
        self._live = live
        self._tally = tally
        self._allowance = Allowance(lines_per_second)
        self._reading = Reading(kind, self._allowance)
        self._positions: Positions | None = None
        self._is_stored = True
        self._freed: dict[str, int] = {}
        self._told_at = float("-inf")

    def collect(self, sources: Sequence[Source], now_ms: int) -> None:
        """Raises OSError, duckdb.Error."""
        if not sources and not (self._folder / NAME).exists():
            return
        make_folder(self._folder)
        positions = self._resume(now_ms)
        self._allowance.earn((now_ms - positions.at_ms) / 1000)
        positions.at_ms = now_ms
        self._prune(positions, sources)
        until = time.monotonic() + BUDGET_S
        looks = [
            self._reading.take(positions, source, now_ms=now_ms, until=until) for source in sources
        ]
        taken = [each for each in looks if each is not None]
        self._write(positions, taken, now_ms)
        for each in taken:
            self._give_back(each)
        if self._live.is_due(positions.live_bytes):
            self._live.close(now_ms)
            positions.live_bytes = 0
            self._store(positions)
        self._live.convert()
        if not sources and positions.is_empty and not layout.closed_files(self._folder):
            self._forget()

    def has_read(self, sources: Iterable[Source]) -> bool:
        """Whether nothing is left of them but keepers' logs, and these were read to their end."""
        positions = self._positions
        if positions is None or not self._is_stored:
            return False
        for source in sources:
            place = positions.files.get(source.key)
            size = layout.size(source.path)
            if source.copy is not None and size is not None:
                return False
            if size and (place is None or place.at < size):
                return False
        return True

    def _resume(self, now_ms: int) -> Positions:
        if self._positions is None:
            positions = Positions.load(self._folder, now_ms)
            # What is beyond is read again: it is not certain that it came to its end.
            positions.live_bytes = self._live.resume(positions.live_bytes)
            self._positions = positions
        return self._positions

    def _prune(self, positions: Positions, sources: Sequence[Source]) -> None:
        for key in set(positions.files) - {source.key for source in sources}:
            del positions.files[key]
            self._reading.forget(key)
            self._freed.pop(key, None)
            self._is_stored = False

    def _forget(self) -> None:
        """Nothing is left but segments, if any."""
        (self._folder / NAME).unlink()
        self._positions = None
        with contextlib.suppress(OSError):  # it has segments
            self._folder.rmdir()

    def _write(self, positions: Positions, taken: Sequence[Taken], now_ms: int) -> None:
        for each in taken:
            positions.dropped_lines += each.dropped_lines
            positions.unread_bytes += each.unread_bytes
            self._tally.add("dropped", self._kind, each.dropped_lines)
        lines = [self._line_of(each, entry, now_ms) for each in taken for entry in each.entries]
        told = self._untold(positions)
        notice = self._notice(positions, told, now_ms)
        has_moved = any(each.place.at != each.before for each in taken)
        if not (lines or told or has_moved) and self._is_stored:
            return
        try:
            if lines or notice:
                text = "".join([*lines, *notice])
                positions.live_bytes += self._live.append(text, positions.live_bytes)
        except OSError as error:
            self._give_up(positions, taken)
            if error.errno not in DISK_FULL:
                raise
            _log.error("%s/%s cannot be written: %s", self._kind, self._deployment, error)
            return
        if told:
            if not notice:
                _log.warning("%s/%s: %s", self._kind, self._deployment, told)
            positions.told()
            self._told_at = time.monotonic()
        self._tally.add("collected", self._kind, len(lines))
        self._store(positions)

    def _store(self, positions: Positions) -> None:
        self._is_stored = False
        positions.store(self._folder)
        self._is_stored = True

    def _line_of(self, taken: Taken, entry: Entry, now_ms: int) -> str:
        source = taken.source
        return self._line(
            f"{source.key}/{taken.place.life}/{entry.at}",
            entry.time_ms,
            now_ms,
            entry.fields,
            instance=source.instance,
            copy=source.copy,
            revision=source.revision,
        )

    def _untold(self, positions: Positions) -> str:
        """What is to be told now of what was not kept."""
        if not positions.has_untold or time.monotonic() < self._told_at + TELL_AGAIN_S:
            return ""
        parts = []
        if positions.dropped_lines or positions.unread_bytes:
            unread = f" ({positions.unread_bytes} bytes unread)" if positions.unread_bytes else ""
            parts.append(
                f"{positions.dropped_lines} lines were dropped{unread}: "
                f"at most {self._allowance.rate} a second are kept"
            )
        if positions.lost_lines:
            parts.append(f"{positions.lost_lines} lines were lost: the disk was full")
        return "; ".join(parts)

    def _notice(self, positions: Positions, told: str, now_ms: int) -> list[str]:
        """As an entry, which only a log has."""
        if not told or self._kind == CAPTURE:
            return []
        what = f"{self._deployment}/{positions.born_ms}/{positions.notices}"
        return [self._line(what, now_ms, now_ms, {"message": told})]

    def _line(
        self,
        what: str,
        time_ms: int,
        now_ms: int,
        fields: Mapping[str, Any],
        **more: str | int | None,
    ) -> str:
        """``what`` is the entry's alone, and the same whenever it is read again."""
        told = {
            "deployment": self._deployment,
            "id": str(uuid.uuid5(_IDS, what)),
            "time": time_ms,
            "ingested": now_ms,
            **{
                name: value for name, value in {**fields, **more}.items() if value not in ("", None)
            },
        }
        return json.dumps(told, ensure_ascii=True) + "\n"

    def _give_up(self, positions: Positions, taken: Sequence[Taken]) -> None:
        """The disk is full. Lines wait where they are, but those of a flood, which may fill it."""
        for each in taken:
            if each.size - each.before <= 2 * KEEP_READABLE:
                each.place.at = each.before
                positions.dropped_lines -= each.dropped_lines
                continue
            positions.lost_lines += each.lines
            self._tally.add("lost", self._kind, each.lines)
            output_files.free(each.source.path, each.place.at - KEEP_READABLE)
            self._is_stored = False

    def _give_back(self, taken: Taken) -> None:
        """To the disk: what has been read, and files that nobody writes to any more."""
        if not self._is_stored:
            return
        source, at = taken.source, taken.place.at
        if source.is_over and source.copy is not None and at >= taken.size:
            source.path.unlink(missing_ok=True)
            return
        freed = self._freed.get(source.key, 0)
        if at - KEEP_READABLE >= freed + KEEP_READABLE:
            self._freed[source.key] = at - KEEP_READABLE
            output_files.free(source.path, at - KEEP_READABLE)
