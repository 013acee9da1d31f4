"""How long the entries of a log are kept: published in a file by the control plane, which has the
database, for the telemetry process, which has none.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping

from havre import durable
from havre.domain.errors import HavreError, SystemFault
from havre.domain.logs import Category
from havre.home import Home

INTERVAL_S = 30.0
FILE = "retention.json"

Days = Mapping[tuple[str, Category], int]
"""By deployment and category; the settings decide for those that are absent."""

_log = logging.getLogger(__name__)


def read(home: Home) -> Days:
    """Raises OSError, SystemFault for a file that is damaged."""
    path = home.telemetry / FILE
    try:
        rows = json.loads(path.read_bytes())
        return {(row["deployment"], Category(row["category"])): row["days"] for row in rows}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SystemFault(
            f"{path} is damaged ({error}); the control plane writes it again"
        ) from error


def write(home: Home, days: Days) -> None:
    """Raises OSError."""
    rows = [
        {"deployment": deployment, "category": category, "days": count}
        for (deployment, category), count in sorted(days.items())
    ]
    home.telemetry.mkdir(mode=0o700, exist_ok=True)
    durable.write_file(home.telemetry / FILE, json.dumps(rows).encode())


class RetentionPublisher:
    """Reads the database at intervals, and writes the file if it differs."""

    def __init__(self, home: Home, read_days: Callable[[], Days]) -> None:
        self._home = home
        self._read_days = read_days
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def publish(self) -> None:
        """Raises OSError, and what ``read_days`` raises."""
        days = self._read_days()
        try:
            is_published = read(self._home) == days
        except SystemFault:
            is_published = False
        if not is_published:
            write(self._home, days)

    def _run(self) -> None:
        while True:
            try:
                self.publish()
            except (HavreError, OSError) as error:
                _log.warning("retention of logs cannot be published: %s", error)
            if self._stopping.wait(INTERVAL_S):
                return
