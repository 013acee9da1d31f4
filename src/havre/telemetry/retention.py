"""How long logs are kept where a log says so: told by the control plane, which knows the logs, to
the telemetry process, which has no database.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping

from havre import durable
from havre.domain.errors import HavreError, SystemFault
from havre.domain.logs import Category
from havre.home import Home

LOOK_S = 30.0
FILE = "retention.json"

Days = Mapping[tuple[str, Category], int]
"""By deployment and category; what is not there is kept as the settings say."""

_log = logging.getLogger(__name__)


def read(home: Home) -> Days:
    """Raises OSError, SystemFault for a file that is damaged."""
    path = home.telemetry / FILE
    try:
        told = json.loads(path.read_bytes())
        return {(each["deployment"], Category(each["category"])): each["days"] for each in told}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise SystemFault(
            f"{path} is damaged ({error}); the control plane writes it anew"
        ) from error


def write(home: Home, days: Days) -> None:
    """Raises OSError."""
    told = [
        {"deployment": deployment, "category": category, "days": count}
        for (deployment, category), count in sorted(days.items())
    ]
    home.telemetry.mkdir(mode=0o700, exist_ok=True)
    durable.write_file(home.telemetry / FILE, json.dumps(told).encode())


class Telling:
    """Asks again and again, and writes what is not written yet."""

    def __init__(self, home: Home, ask: Callable[[], Days]) -> None:
        self._home = home
        self._ask = ask
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def tell(self) -> None:
        """Raises OSError, and what asking raises."""
        days = self._ask()
        try:
            is_told = read(self._home) == days
        except SystemFault:
            is_told = False
        if not is_told:
            write(self._home, days)

    def _run(self) -> None:
        while True:
            try:
                self.tell()
            except (HavreError, OSError) as error:
                _log.warning("how long logs are kept is not told: %s", error)
            if self._stopping.wait(LOOK_S):
                return
