"""The display names of deployments, kept in a file for when the database is away: predictions
continue then, and clients find deployments by name.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection

from havre import durable
from havre.home import Home

PAUSE_S = 1.0
RETRY_S = 30.0

_log = logging.getLogger(__name__)


def read(home: Home) -> dict[str, str]:
    """Names by id; empty when there is no such file, or it is damaged: it is written again."""
    try:
        stored = json.loads(home.names.read_bytes())
        return {str(key): str(name) for key, name in stored.items()}
    except (AttributeError, OSError, RecursionError, ValueError):
        return {}


class Names:
    """Keeps the file up to date. It is written at most once in ``PAUSE_S``, after a failure in
    ``RETRY_S``: earlier changes are written with later ones, as the name of every deployment that
    runs is set again and again. Thread-safe.
    """

    def __init__(self, home: Home, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._clock = clock
        self._lock = threading.Lock()
        self._known = read(home)
        self._is_written = True
        self._next_write = clock()

    def set_name(self, deployment_id: str, name: str) -> None:
        """Its name now; empty: it is gone."""
        with self._lock:
            known = {**self._known, deployment_id: name}
            self._update({key: known_name for key, known_name in known.items() if known_name})

    def keep_only(self, deployment_ids: Collection[str]) -> None:
        """These are all that exist: drop the others."""
        with self._lock:
            known = self._known.items()
            self._update({key: name for key, name in known if key in deployment_ids})

    def _update(self, known: dict[str, str]) -> None:
        self._is_written = self._is_written and known == self._known
        self._known = known
        if self._is_written or self._clock() < self._next_write:
            return
        self._next_write = self._clock() + PAUSE_S
        try:
            durable.write_file(self._home.names, json.dumps(known).encode())
            self._is_written = True
        except OSError as error:
            self._next_write = self._clock() + RETRY_S
            _log.warning("%s is not written: %s", self._home.names, error)
